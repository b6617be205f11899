"""Change the number of replicas of a workload: more of them when all are saturated, fewer to take that back."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bot.actions import rolling
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.owners import manager, replica_owner
from bot.fleet import NAME, WorkloadRef
from bot.ports import ConflictError, Controls, Risk, Sources, Workload
from bot.vllm import placement
from bot.vllm.stuck import first_stuck, living

RISK = Risk.MEDIUM


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(pattern=NAME)]
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: Annotated[str, Field(pattern=NAME)]
    before: Annotated[int, Field(ge=0)]
    after: Annotated[int, Field(ge=0)]

    @property
    def ref(self) -> WorkloadRef:
        return WorkloadRef(namespace=self.namespace, kind=self.kind, name=self.name)

    @model_validator(mode="after")
    def _it_is_a_change(self) -> Self:
        if self.before == self.after:
            raise ValueError(f"{self.name} has {self.before} replicas already")
        return self


class Words(BaseModel):
    """What a runbook or a person may say: `add: 1`, `add: -1`, or `replicas: 5`."""

    model_config = ConfigDict(extra="forbid")

    add: int | None = None
    replicas: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.add is None) == (self.replicas is None):
            raise ValueError("say either add=1 or replicas=4")
        return self


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Params:
    if aim.workload is None:
        raise ValueError("it is not known which workload to scale: the alert names no service of fleet.yaml")
    try:
        words = Words.model_validate(dict(with_))
        workload = sources.cluster.workload(aim.workload)
        if workload is None:
            raise ValueError(f"{aim.workload} does not exist")
        wanted = workload.desired + words.add if words.add is not None else words.replicas
        return Params(**aim.workload.model_dump(), before=workload.desired, after=wanted or 0)
    except ValidationError as error:
        raise ValueError("; ".join(_plainly(e) for e in error.errors(include_url=False))) from error


def _plainly(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message: str = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def describe(params: Params) -> str:
    return (
        f"Scale {params.name} from {params.before} to {_replicas(params.after)}. Undo: scale it back to "
        f"{params.before}."
    )


def button(params: Params) -> str:
    return f"scale {params.before} → {params.after}"


def preview(params: Params, sources: Sources, controls: Controls) -> Preview:
    change = controls.cluster.scale(params.ref, before=params.before, after=params.after, dry_run=True)
    return Preview(change, {"replicas": params.before})


def objections(params: Params, sources: Sources) -> tuple[str, ...]:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return (f"{params.ref} does not exist",)
    found = [
        replica_owner(params.ref, params.after, sources.cluster),
        manager(workload),
        _changed(params, workload),
        rolling.busy(workload),
        _beyond_limits(params, sources),
        _no_room(params, workload, sources) if params.after > params.before else None,
    ]
    return tuple(reason for reason in found if reason is not None)


def _changed(params: Params, workload: Workload) -> str | None:
    if workload.desired == params.before:
        return None
    if workload.desired == params.after:
        return f"{params.name} is set to {_replicas(params.after)} already"
    return f"{params.name} is set to {_replicas(workload.desired)} now, no longer {params.before}: somebody changed it"


def _beyond_limits(params: Params, sources: Sources) -> str | None:
    service = sources.fleet.service_of(params.ref)
    if service is None:
        return None
    others = (sources.cluster.workload(ref) for ref in service.workloads if ref != params.ref)
    total = params.after + sum(other.desired for other in others if other is not None)
    if params.after > params.before and total > service.maximum_replicas:
        return f"{service.name} would have {_replicas(total)}; fleet.yaml allows {service.maximum_replicas}"
    if params.after < params.before and total < service.minimum_ready_replicas:
        return (
            f"{service.name} would be left with {_replicas(total)}; fleet.yaml demands "
            f"{service.minimum_ready_replicas} ready ones"
        )
    return None


def _no_room(params: Params, workload: Workload, sources: Sources) -> str | None:
    need = placement.gpus_of(workload.template)
    if need == 0:
        return None
    free = sources.cluster.free_gpus()
    pods = living(sources.cluster.pods_of(params.ref))
    hosts = {pod.node for pod in pods if pod.node}
    fits = sum(placement.room(workload.template, sources.cluster.nodes(), free, hosts=hosts).values())
    # Pods that wait for a node already stand before the new ones.
    waiting = sum(1 for pod in pods if pod.node is None)
    wanted = params.after - params.before + waiting
    if fits >= wanted:
        return None
    by_node = ", ".join(f"{node} {count}" for node, count in sorted(free.items()) if count) or "none"
    queue = f" ({waiting} Pending before it)" if waiting else ""
    return (
        f"no free GPUs for {_replicas(params.after - params.before)} more{queue}: each needs {need} on one node that "
        f"it may run on, and there is room for {fits}; free GPUs by node: {by_node}"
    )


def execute(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        raise ConflictError("Kubernetes", f"{params.ref} does not exist any more")
    if workload.desired != params.after:
        controls.cluster.scale(params.ref, before=params.before, after=params.after)


def took_effect(params: Params, sources: Sources) -> Effect:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return Effect(Progress.NO, f"{params.ref} does not exist any more")
    if workload.desired != params.after:
        return Effect(Progress.NO, f"{params.name} is set to {_replicas(workload.desired)}, not {params.after}")
    pods = living(sources.cluster.pods_of(params.ref))
    seen = workload.observed_generation >= workload.generation
    standing = f"{workload.ready} of {params.after} ready"
    if seen and workload.ready == params.after and len(pods) == params.after:
        return Effect(Progress.YES, standing)
    if stuck := first_stuck(pods):
        return Effect(Progress.PARTLY, f"{standing}; {stuck}")
    starting = sorted(pod.name for pod in pods if not pod.ready)
    return Effect(Progress.NOT_YET, standing + (f"; starting: {', '.join(starting)}" if starting else ""))


def undo(params: Params, before: Mapping[str, Any]) -> Params:
    return params.model_copy(update={"before": params.after, "after": params.before})


def capacity_change(params: Params, sources: Sources) -> CapacityChange:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return CapacityChange(replicas=0, ready=0)
    added = max(0, params.after - params.before)
    return CapacityChange(
        replicas=workload.desired,
        ready=workload.ready,
        # Kubernetes takes the replicas that are not ready first.
        lost=max(0, workload.ready - params.after) if params.after < params.before else 0,
        added=added,
        removed=max(0, params.before - params.after),
        gpus_needed=added * placement.gpus_of(workload.template),
    )


def by_hand(params: Params) -> str:
    return (
        f"kubectl -n {params.namespace} scale {params.kind.lower()}/{params.name} "
        f"--current-replicas={params.before} --replicas={params.after}"
    )


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
