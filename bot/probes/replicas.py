"""How many replicas are there, how many should there be, and what keeps the others from serving?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service, WorkloadRef
from bot.ports import Autoscaler, Pod, SourceError, Sources, Workload
from bot.probes.asking import Later
from bot.probes.naming import names
from bot.probes.served import pods_of, room_for, service_of
from bot.vllm.placement import gpus_of
from bot.vllm.stuck import stuck_because

_NAMED = 3  # pods named in a text; the rest is counted
_SHORT_OF_GPUS = "Insufficient nvidia.com/gpu"  # a taint may have the resource's name, too
_PATIENCE = 2  # times its usual start that a young replica is given to become ready
# Of the window, a minute of five: a cluster's autoscaler and its scheduler need no longer to begin with a pod.
_UNPLACED_SHARE = 0.2
_OVERDUE = timedelta(seconds=30)  # after the end of its grace period a pod that leaves is no longer waited for


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Of all workloads of the service together."""

    desired: int | None = None
    ready: int | None = None
    updated: int | None = None
    rolling_out: bool | None = None
    starting: int | None = None  # not ready yet, nothing is in their way, and they are no older than a start may take
    lacking: int | None = None  # of the desired ones: neither ready nor starting
    # Both are about those that wait in vain: not for the GPUs of a replica that is just ending, as in a rollout without
    # a surge. None: there are only such as have not waited for long, or the GPUs they wait for are free.
    pending_for_gpus: int | None = None
    unscheduled: int | None = None  # no node takes them
    unscheduled_why: str | None = None  # the scheduler's words
    creation_refused: bool | None = None  # the API server refuses their pods: a quota, an admission rule
    creation_refused_why: str | None = None
    not_ready: str | None = None  # "nobody", or "chat-x2k is Pending: 3 Insufficient nvidia.com/gpu"
    gpus_per_replica: int | None = None
    free_gpus: int | None = None  # in the whole cluster
    room_for_replicas: int | None = None  # of the first workload, on the free GPUs, node by node
    autoscaler: str | None = None  # "HPA chat: 2 to 4, at 4"; "none"
    autoscaled: bool | None = None
    autoscaler_at_maximum: bool | None = None
    managed_by: str | None = None  # "Argo CD" …; "nobody that says so"
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    workloads = [Later(_workload(sources, ref)) for ref in service.workloads]
    scalers = [Later(_scaler(sources, ref)) for ref in service.workloads]
    pods_asked = Later(lambda: pods_of(sources, service, leaving=True))
    free_asked = Later(sources.cluster.free_gpus)
    room_asked = Later(lambda: room_for(sources, service))
    found = [w for later in workloads if (w := later.get()) is not None]
    if not found:
        return Reading(missing=f"{_names(service)} does not exist")
    there = pods_asked.get()
    pods = [pod for pod in there if pod.deleted_at is None]
    scaler, scaler_missing = _first(scalers)
    free, room, free_missing = _room(free_asked, room_asked)
    desired, ready = sum(w.desired for w in found), sum(w.ready for w in found)
    turns = _turns(pods, there, sources.now)
    unplaced = [pod for pod in pods if pod.node is None and pod.unschedulable is not None and pod.name not in turns]
    young = [pod for pod in unplaced if _is_young(pod, sources)]
    old = [pod for pod in unplaced if pod not in young]
    for_gpus = [pod for pod in old if _SHORT_OF_GPUS in (pod.unschedulable or "")]
    # Its scheduler has not seen yet that there is room, or it lacks something else as well.
    in_vain = for_gpus if not room else []
    starting = sum(
        pod.name in turns or pod in young or _starts(pod, sources.now, service.cold_start_seconds) for pod in pods
    )
    refused = _refused(found, len(pods), desired)
    return Reading(
        desired=desired,
        ready=ready,
        starting=starting,
        lacking=max(0, desired - ready - starting),
        updated=sum(w.updated for w in found),
        rolling_out=any(w.updated < w.desired or w.observed_generation < w.generation for w in found),
        pending_for_gpus=len(in_vain) or (None if young or for_gpus else 0),
        unscheduled=len(old) or (None if young else 0),
        unscheduled_why=stuck_because(old[0]) if old else None,
        creation_refused=None if refused is None else refused != "",
        creation_refused_why=refused or None,
        not_ready=_described([pod for pod in pods if not pod.ready], turns),
        gpus_per_replica=gpus_of(found[0].template) or None,
        free_gpus=free,
        room_for_replicas=room,
        autoscaler=None if scaler_missing else "none" if scaler is None else _of(scaler),
        autoscaled=None if scaler_missing else scaler is not None,
        autoscaler_at_maximum=None if scaler_missing else scaler is not None and scaler.desired >= scaler.maximum,
        managed_by=next((w.managed_by for w in found if w.managed_by), "nobody that says so"),
        missing="; ".join(filter(None, (_not_yet(young), scaler_missing or free_missing))) or None,
    )


def _turns(pods: Sequence[Pod], there: Sequence[Pod], now: datetime) -> dict[str, str]:
    """Those that wait for the GPUs of a replica that leaves, within its grace period, by name, and what is said of
    them. Each GPU is counted once, the oldest pod first."""
    # The deletion timestamp is the end of the grace period.
    leaving = [p for p in there if p.deleted_at is not None and p.node is not None and now - p.deleted_at <= _OVERDUE]
    freed = sum(pod.gpus for pod in leaving)
    found: dict[str, str] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created_at, pod.name)):
        if pod.node is None and _SHORT_OF_GPUS in (pod.unschedulable or "") and 0 < pod.gpus <= freed:
            freed -= pod.gpus
            found[pod.name] = f"{pod.name} waits for the GPUs of {names(p.name for p in leaving)}, which is ending"
    return found


def _is_young(pod: Pod, sources: Sources) -> bool:
    return (sources.now - pod.created_at).total_seconds() < _UNPLACED_SHARE * sources.window_seconds


def _not_yet(young: Sequence[Pod]) -> str | None:
    return f"{names(pod.name for pod in young)} has only just begun to wait for a node" if young else None


def _starts(pod: Pod, now: datetime, cold_start_seconds: float) -> bool:
    """One that has ended once already does not count: what it will do is not known."""
    if (
        pod.ready
        or stuck_because(pod)
        or any(c.last_state is not None for c in (*pod.init_containers, *pod.containers))
    ):
        return False
    return (now - pod.created_at).total_seconds() <= _PATIENCE * cold_start_seconds


def _refused(workloads: Sequence[Workload], pods: int, desired: int) -> str | None:
    """Why pods that should be there cannot be made; empty: they can. A StatefulSet does not say."""
    if pods >= desired:
        return ""
    said = [words for w in workloads for failed, words in [w.conditions.get("ReplicaFailure", (False, ""))] if failed]
    if said:
        return said[0] or "its ReplicaSet says ReplicaFailure"
    return "" if all(w.ref.kind == "Deployment" for w in workloads) else None


def _workload(sources: Sources, ref: WorkloadRef) -> Callable[[], Workload | None]:
    return lambda: sources.cluster.workload(ref)


def _scaler(sources: Sources, ref: WorkloadRef) -> Callable[[], Autoscaler | None]:
    return lambda: sources.cluster.autoscaler_of(ref)


def _first(asked: Iterable[Later[Autoscaler | None]]) -> tuple[Autoscaler | None, str | None]:
    """The role may lack the right to read autoscalers: that leaves the rest of the answer true."""
    try:
        return next((s for later in asked if (s := later.get()) is not None), None), None
    except SourceError as error:
        return None, f"autoscalers: {error}"


def _room(free: Later[Mapping[str, int]], room: Later[int | None]) -> tuple[int | None, int | None, str | None]:
    try:
        return sum(free.get().values()), room.get(), None
    except SourceError as error:
        return None, None, f"free GPUs: {error}"


def _of(scaler: Autoscaler) -> str:
    kind = "KEDA" if scaler.keda else "HPA"
    return f"{kind} {scaler.name}: {scaler.minimum} to {scaler.maximum}, at {scaler.desired}"


def _described(pods: list[Pod], turns: Mapping[str, str]) -> str:
    if not pods:
        return "nobody"
    more = f"; and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    told = sorted(pods, key=lambda pod: pod.name)[:_NAMED]
    return "; ".join(turns.get(pod.name) or _state(pod) for pod in told) + more


def _state(pod: Pod) -> str:
    if why := stuck_because(pod):
        return why
    waits = [c.state.reason for c in pod.containers if c.state is not None and c.state.phase == "waiting"]
    return f"{pod.name} is {next(filter(None, waits), pod.phase)}, not ready"


def _names(service: Service) -> str:
    return ", ".join(str(ref) for ref in service.workloads)
