"""Replace one replica: its pod goes, and its controller starts a new one.

It is evicted, so that its disruption budget is asked, and asked again. A pod that serves nobody takes nothing away
from anybody, while its budget counts it as missing and so refuses the very restart that would end the shortage (seen
on the API server): such a pod is deleted where the eviction is refused. It serves nobody if it is not ready, or if the
diagnosis says so (`hung`: a hung engine's /health answers, so Kubernetes calls it ready). A hung pod also takes no
capacity away in the guard's arithmetic: the only replica may be restarted when it hangs.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.tenants import workload_of
from bot.fleet import NAME, WorkloadRef
from bot.ports import Change, ConflictError, Controls, Pod, Risk, Sources
from bot.vllm import placement
from bot.vllm.stuck import living, stuck_because

RISK = Risk.MEDIUM


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(pattern=NAME)]
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: Annotated[str, Field(pattern=NAME)]
    pod: Annotated[str, Field(pattern=NAME)]
    uid: str
    hung: bool = False

    @property
    def ref(self) -> WorkloadRef:
        return WorkloadRef(namespace=self.namespace, kind=self.kind, name=self.name)


class Words(BaseModel):
    """What a runbook or a person may say: `pod: chat-70b-x`; without it, the incident's pod. `hung: true` says that it
    serves nobody, whatever its readiness says."""

    model_config = ConfigDict(extra="forbid")

    pod: Annotated[str, Field(pattern=NAME)] | None = None
    hung: bool = False


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Params:
    try:
        words = Words.model_validate(dict(with_))
    except ValidationError as error:
        raise ValueError("say pod=chat-70b-x, and hung=true if it serves nobody although it is ready") from error
    name = words.pod or aim.pod
    if name is None or aim.workload is None:
        raise ValueError("it is not known which pod is meant: say pod=chat-70b-x")
    pod = sources.cluster.pod(aim.workload.namespace, name)
    if pod is None:
        known = ", ".join(sorted(p.name for p in living(sources.cluster.pods_of(aim.workload)))) or "none"
        raise ValueError(f"there is no pod {name} in {aim.workload.namespace}; {aim.workload.name} has: {known}")
    ref = workload_of(pod, sources)
    if ref is None:
        raise ValueError(f"{name} belongs to no Deployment and no StatefulSet, so it may not come back")
    return Params(**ref.model_dump(), pod=name, uid=pod.uid, hung=words.hung)


def describe(params: Params) -> str:
    how = ", by force if its disruption budget refuses: it serves nobody" if params.hung else ""
    return (
        f"Restart {params.pod}: the pod goes{how}, and {params.name} starts a new one. Undo: none is needed, since the "
        f"new one has the same template."
    )


def button(params: Params) -> str:
    return f"restart {params.pod}"


def preview(params: Params, sources: Sources, controls: Controls) -> Preview:
    pod = _meant(params, sources)
    if pod is None:
        raise ConflictError("Kubernetes", _gone(params))
    refused = controls.cluster.evict(params.namespace, params.pod, uid=params.uid, dry_run=True)
    if refused and _serves_nobody(params, pod):
        controls.cluster.delete_pod(params.namespace, params.pod, uid=params.uid, dry_run=True)
        then = f"deleted, as it serves nobody ({refused})"
    else:
        then = "evicted" + (f" as soon as its budget allows ({refused})" if refused else "")
    name = f"{params.namespace}/{params.pod}"
    now = "ready" if pod.ready else "not ready"
    return Preview(Change({"pods": {name: now}}, {"pods": {name: f"{then}, then a new one"}}), {"uid": params.uid})


def _meant(params: Params, sources: Sources) -> Pod | None:
    """None: it is gone, or on its way out; a later pod may have its name."""
    pod = sources.cluster.pod(params.namespace, params.pod)
    return pod if pod is not None and pod.uid == params.uid and pod.deleted_at is None else None


def _serves_nobody(params: Params, pod: Pod) -> bool:
    return params.hung or not pod.ready


def _gone(params: Params) -> str:
    return f"{params.pod} is gone or going already: what has its name now, or will have, is another pod"


def objections(params: Params, sources: Sources) -> tuple[str, ...]:
    """That its service keeps its minimum of ready replicas is the guard's to say."""
    pod = _meant(params, sources)
    if pod is None:
        return (_gone(params),)
    budgets = [budget.name for budget in sources.cluster.budgets(params.namespace) if budget.selects(pod)]
    found = [
        f"{params.pod} has several disruption budgets ({', '.join(budgets)}): it cannot be evicted"
        if len(budgets) > 1
        else None,
        _no_room(params, pod, sources),
    ]
    return tuple(reason for reason in found if reason is not None)


def _no_room(params: Params, pod: Pod, sources: Sources) -> str | None:
    """The new one takes the place of the old one, but not on a node that takes no pods."""
    node = sources.cluster.node(pod.node) if pod.node else None
    workload = sources.cluster.workload(params.ref)
    if node is None or (node.schedulable and node.ready) or workload is None or not pod.ready or params.hung:
        return None
    free = sources.cluster.free_gpus()
    hosts = {p.node for p in living(sources.cluster.pods_of(params.ref)) if p.node and p.uid != pod.uid}
    need = placement.gpus_of(workload.template)
    if need == 0 or placement.room(workload.template, sources.cluster.nodes(), free, hosts=hosts):
        return None
    return f"{node.name} takes no pods, and no other node has the {need} free GPUs that a new {params.name} needs"


def execute(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    _push(params, sources, controls)


def advance(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> Effect:
    """Asks again, as long as the budget refuses."""
    refused = _push(params, sources, controls)
    effect = took_effect(params, sources)
    return Effect(effect.progress, f"{params.pod} waits: {refused}") if refused else effect


def _push(params: Params, sources: Sources, controls: Controls) -> str | None:
    """Why it may not go now; None if it goes, or is gone."""
    pod = _meant(params, sources)
    if pod is None:
        return None
    refused = controls.cluster.evict(params.namespace, params.pod, uid=params.uid)
    if refused and _serves_nobody(params, pod):
        controls.cluster.delete_pod(params.namespace, params.pod, uid=params.uid)
        return None
    return refused


def took_effect(params: Params, sources: Sources) -> Effect:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return Effect(Progress.NO, f"{params.ref} does not exist any more")
    pods = living(sources.cluster.pods_of(params.ref))
    if any(pod.uid == params.uid for pod in pods):
        return Effect(Progress.NOT_YET, f"{params.pod} is still there")
    standing = f"{sum(1 for pod in pods if pod.ready)} of {workload.desired} ready"
    if len(pods) < workload.desired:
        return Effect(Progress.NOT_YET, f"{params.pod} is gone, no new one yet; {standing}")
    newest = max((pod.created_at for pod in pods), default=None)
    new = [pod for pod in pods if pod.created_at == newest]  # times are full seconds, so it may be two
    new = [pod for pod in new if pod.name == params.pod] or new  # of a StatefulSet
    if all(pod.ready for pod in new):
        return Effect(Progress.YES, f"{params.pod} made room for {', '.join(pod.name for pod in new)}; {standing}")
    late = next(pod for pod in new if not pod.ready)
    if stuck := stuck_because(late):
        return Effect(Progress.PARTLY, f"{standing}; {stuck}")
    return Effect(Progress.NOT_YET, f"{standing}; {late.name} is starting")


def undo(params: Params, before: Mapping[str, Any]) -> None:
    return None


def capacity_change(params: Params, sources: Sources) -> CapacityChange:
    workload, pod = sources.cluster.workload(params.ref), _meant(params, sources)
    if workload is None:
        return CapacityChange(replicas=0, ready=0)
    lost = 0 if pod is None or _serves_nobody(params, pod) else 1
    return CapacityChange(workload.desired, workload.ready, lost=lost, replaced=1)


def by_hand(params: Params) -> str:
    return f"kubectl -n {params.namespace} delete pod {params.pod}"
