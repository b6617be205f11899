"""How many replicas are there, how many should there be, and what keeps the others from serving?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service, WorkloadRef
from bot.ports import Autoscaler, Pod, SourceError, Sources, Workload
from bot.probes.asking import Later
from bot.probes.served import pods_of, room_for, service_of
from bot.vllm.placement import gpus_of
from bot.vllm.stuck import stuck_because

_NAMED = 3  # pods named in a text; the rest is counted


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
    pending_for_gpus: int | None = None
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
    pods_asked = Later(lambda: pods_of(sources, service))
    free_asked = Later(sources.cluster.free_gpus)
    room_asked = Later(lambda: room_for(sources, service))
    found = [w for later in workloads if (w := later.get()) is not None]
    if not found:
        return Reading(missing=f"{_names(service)} does not exist")
    pods = pods_asked.get()
    scaler, scaler_missing = _first(scalers)
    free, room, free_missing = _room(free_asked, room_asked)
    return Reading(
        desired=sum(w.desired for w in found),
        ready=sum(w.ready for w in found),
        updated=sum(w.updated for w in found),
        rolling_out=any(w.updated < w.desired or w.observed_generation < w.generation for w in found),
        pending_for_gpus=sum("nvidia.com/gpu" in (pod.unschedulable or "") for pod in pods),
        not_ready=_described([pod for pod in pods if not pod.ready]),
        gpus_per_replica=gpus_of(found[0].template) or None,
        free_gpus=free,
        room_for_replicas=room,
        autoscaler=None if scaler_missing else "none" if scaler is None else _of(scaler),
        autoscaled=None if scaler_missing else scaler is not None,
        autoscaler_at_maximum=None if scaler_missing else scaler is not None and scaler.desired >= scaler.maximum,
        managed_by=next((w.managed_by for w in found if w.managed_by), "nobody that says so"),
        missing=scaler_missing or free_missing,
    )


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


def _described(pods: list[Pod]) -> str:
    if not pods:
        return "nobody"
    more = f"; and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    return "; ".join(_state(pod) for pod in sorted(pods, key=lambda pod: pod.name)[:_NAMED]) + more


def _state(pod: Pod) -> str:
    if why := stuck_because(pod):
        return why
    waits = [c.state.reason for c in pod.containers if c.state is not None and c.state.phase == "waiting"]
    return f"{pod.name} is {next(filter(None, waits), pod.phase)}, not ready"


def _names(service: Service) -> str:
    return ", ".join(str(ref) for ref in service.workloads)
