"""Put an earlier revision of a Deployment back: exactly that pod template, as `kubectl rollout undo` does.

Revisions are told apart by their ReplicaSets: a number is given anew when its template comes back, a name is not.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bot.actions import rolling
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.owners import manager
from bot.fleet import NAME, WorkloadRef
from bot.ports import ConflictError, Controls, Revision, Risk, Sources, Workload
from bot.vllm.stuck import first_stuck, living

RISK = Risk.MEDIUM


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(pattern=NAME)]
    kind: Literal["Deployment"] = "Deployment"
    name: Annotated[str, Field(pattern=NAME)]
    revision: Annotated[int, Field(ge=1)]  # the one that comes back
    replica_set: Annotated[str, Field(pattern=NAME)]
    from_revision: Annotated[int, Field(ge=1)]  # the one that goes
    from_replica_set: Annotated[str, Field(pattern=NAME)]

    @property
    def ref(self) -> WorkloadRef:
        return WorkloadRef(namespace=self.namespace, kind=self.kind, name=self.name)

    @model_validator(mode="after")
    def _it_is_a_change(self) -> Self:
        if self.replica_set == self.from_replica_set:
            raise ValueError(f"revision {self.revision} is the current one of {self.name}")
        return self


class Words(BaseModel):
    """What a runbook or a person may say: `revision: 4`; without it, the one before the current."""

    model_config = ConfigDict(extra="forbid")

    revision: Annotated[int, Field(ge=1)] | Literal["previous"] = "previous"


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Params:
    ref = aim.workload
    if ref is None:
        raise ValueError("it is not known which workload to roll back: the alert names no service of fleet.yaml")
    if ref.kind != "Deployment":
        hand = f"kubectl -n {ref.namespace} rollout undo {ref.kind.lower()}/{ref.name}"
        raise ValueError(f"{ref} has no ReplicaSets to go back to; by hand: {hand}")
    try:
        wanted = Words.model_validate(dict(with_)).revision
    except ValidationError as error:
        raise ValueError("say revision=4, or nothing for the one before the current") from error
    revisions = sources.cluster.revisions(ref)
    current, target = _current(ref, sources), _named(wanted, revisions, ref)
    if target.replica_set == current.replica_set:
        raise ValueError(f"revision {target.number} is the current one of {ref.name}")
    return Params(
        namespace=ref.namespace,
        name=ref.name,
        revision=target.number,
        replica_set=target.replica_set,
        from_revision=current.number,
        from_replica_set=current.replica_set,
    )


def _current(ref: WorkloadRef, sources: Sources) -> Revision:
    workload, revisions = sources.cluster.workload(ref), sources.cluster.revisions(ref)
    if workload is None:
        raise ValueError(f"{ref} does not exist")
    found = _of_template(workload.template, revisions)
    if found is None:
        raise ValueError(f"the rollout of {ref.name} has only begun: its ReplicaSet is not there yet")
    return found


def _named(wanted: int | str, revisions: tuple[Revision, ...], ref: WorkloadRef) -> Revision:
    known = ", ".join(str(r.number) for r in revisions)
    if wanted == "previous":
        if len(revisions) < 2:
            raise ValueError(f"{ref.name} has no earlier revision")
        return revisions[1]
    found = next((r for r in revisions if r.number == wanted), None)
    if found is None:
        raise ValueError(f"{ref.name} has no revision {wanted}; there are: {known}")
    return found


def describe(params: Params) -> str:
    return (
        f"Roll {params.name} back from revision {params.from_revision} to revision {params.revision}. Undo: roll it "
        f"to revision {params.from_revision} again."
    )


def button(params: Params) -> str:
    return f"roll back {params.from_revision} → {params.revision}"


def preview(params: Params, sources: Sources, controls: Controls) -> Preview:
    current, target = _templates(params, sources)
    change = controls.cluster.set_template(params.ref, before=current, after=target, cause=_cause(params), dry_run=True)
    return Preview(change, {"template": current, "target": target})


def _templates(params: Params, sources: Sources) -> tuple[dict[str, Any], dict[str, Any]]:
    """The template that is there and the one to come; ConflictError unless both are the revisions meant."""
    workload, revisions = sources.cluster.workload(params.ref), sources.cluster.revisions(params.ref)
    if workload is None:
        raise ConflictError("Kubernetes", f"{params.ref} does not exist any more")
    if changed := _changed(params, workload, revisions):
        raise ConflictError("Kubernetes", changed)
    target = _set(params.replica_set, revisions)
    if target is None:
        raise ConflictError("Kubernetes", _gone(params, revisions))
    return dict(workload.template), dict(target.template)


def _cause(params: Params) -> str:
    return f"vllm-oncall: roll back to revision {params.revision}"


def objections(params: Params, sources: Sources) -> tuple[str, ...]:
    workload, revisions = sources.cluster.workload(params.ref), sources.cluster.revisions(params.ref)
    if workload is None:
        return (f"{params.ref} does not exist",)
    target = _set(params.replica_set, revisions)
    if target is None:
        return (_gone(params, revisions),)
    # A rollout in progress is no objection: the one that is rolled back may never end by itself.
    found = [
        _changed(params, workload, revisions),
        manager(workload),
        f"{params.name} is paused: nothing would roll. {_resume(params)}" if workload.paused else None,
        rolling.no_room(workload, target.template, sources, there=target.replicas, serving=target.ready),
    ]
    return tuple(reason for reason in found if reason is not None)


def _resume(params: Params) -> str:
    return f"kubectl -n {params.namespace} rollout resume deployment/{params.name}"


def _gone(params: Params, revisions: tuple[Revision, ...]) -> str:
    left = ", ".join(str(r.number) for r in revisions) or "none"
    return f"revision {params.revision} ({params.replica_set}) does not exist any more; there are: {left}"


def _changed(params: Params, workload: Workload, revisions: tuple[Revision, ...]) -> str | None:
    current = _of_template(workload.template, revisions)
    if current is None:
        return f"a newer rollout of {params.name} has just begun: somebody changed it"
    if current.replica_set == params.from_replica_set:
        return None
    if current.replica_set == params.replica_set:
        return f"revision {current.number} is the current one of {params.name} already"
    return f"revision {current.number} is the current one of {params.name}, no longer {params.from_revision}"


def execute(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        raise ConflictError("Kubernetes", f"{params.ref} does not exist any more")
    if not _same(workload.template, before["target"]):
        controls.cluster.set_template(
            params.ref, before=before["template"], after=before["target"], cause=_cause(params)
        )


def took_effect(params: Params, sources: Sources) -> Effect:
    workload, revisions = sources.cluster.workload(params.ref), sources.cluster.revisions(params.ref)
    if workload is None:
        return Effect(Progress.NO, f"{params.ref} does not exist any more")
    current = _of_template(workload.template, revisions)
    if current is None or current.replica_set != params.replica_set:
        number = f"revision {current.number}" if current else "a newer revision"
        return Effect(Progress.NO, f"{params.name} is set to {number}, not to the template of {params.revision}")
    now = f" (now revision {current.number})" if current.number != params.revision else ""
    standing = f"{current.ready} of {workload.desired} replicas run the template of revision {params.revision}{now}"
    if workload.settled and current.ready == workload.desired:
        return Effect(Progress.YES, standing)
    pods = tuple(p for p in living(sources.cluster.pods_of(params.ref)) if p.owner == params.replica_set)
    if stuck := first_stuck(pods):
        return Effect(Progress.PARTLY, f"{standing}; {stuck}")
    return Effect(Progress.NOT_YET, standing)


def undo(params: Params, before: Mapping[str, Any]) -> Params:
    return params.model_copy(
        update={
            "revision": params.from_revision,
            "replica_set": params.from_replica_set,
            # What comes back is counted as the newest revision.
            "from_revision": params.from_revision + 1,
            "from_replica_set": params.replica_set,
        }
    )


def capacity_change(params: Params, sources: Sources) -> CapacityChange:
    workload, revisions = sources.cluster.workload(params.ref), sources.cluster.revisions(params.ref)
    target = _set(params.replica_set, revisions)
    if workload is None or target is None:
        return CapacityChange(replicas=0, ready=0)
    return rolling.capacity_change(workload, target.template, there=target.replicas)


def by_hand(params: Params) -> str:
    return f"kubectl -n {params.namespace} rollout undo deployment/{params.name} --to-revision={params.revision}"


def _set(replica_set: str, revisions: tuple[Revision, ...]) -> Revision | None:
    return next((r for r in revisions if r.replica_set == replica_set), None)


def _of_template(template: Mapping[str, Any], revisions: tuple[Revision, ...]) -> Revision | None:
    return next((r for r in revisions if _same(r.template, template)), None)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _bare(one) == _bare(other)


def _bare(template: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the ReplicaSet controller adds, and without empty fields: absent and empty mean the same."""
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != "pod-template-hash"}
    annotations = metadata.get("annotations") or {}
    return {"labels": labels, "annotations": annotations, "spec": _filled(template.get("spec") or {})}


def _filled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: filled for k, v in value.items() if (filled := _filled(v)) not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_filled(item) for item in value]
    return value
