"""Whose pods hold this node's GPUs, and what would each service lose with it?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service
from bot.ports import Pod, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.naming import names
from bot.probes.served import pods_of
from bot.vllm.stuck import living


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    node: str


@dataclass(frozen=True, slots=True)
class Reading:
    pods: int | None = None  # with GPUs
    gpus_held: int | None = None
    services: str | None = None  # "chat-70b: 1 of 3 ready replicas; code-7b: 2 of 2 ready replicas"; "none of ours"
    services_hit: int | None = None
    capacity_lost_ratio_max: float | None = None  # of the service that loses most
    worst_service: str | None = None
    last_replica_of: str | None = None  # services that would have no ready replica left
    below_minimum: str | None = None  # services that would fall below their minimum of ready replicas
    others: str | None = None  # pods with GPUs that belong to no service of ours
    pod: str | None = None  # the only one with GPUs of a service of ours, if there is one only
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Loss:
    service: Service
    here: int  # ready replicas on this node
    ready: int

    @property
    def ratio(self) -> float:
        return self.here / self.ready if self.ready else 0.0


def observe(params: Params, sources: Sources) -> Reading:
    if sources.cluster.node(params.node) is None:
        return Reading(missing=f"there is no node {params.node}")
    asked = [(service, Later(_asking(sources, service))) for service in sources.fleet.services]
    here = [pod for pod in living(sources.cluster.pods_on_node(params.node)) if pod.gpus]
    missing: list[str] = []
    ours: dict[str, list[Pod]] = {}
    losses: list[_Loss] = []
    for service, later in asked:
        try:
            pods = later.get()
        except SourceError as error:
            missing.append(f"{service.name}: {error}")
            continue
        mine = [pod for pod in pods if pod.node == params.node]
        if mine:
            ours[service.name] = mine
            losses.append(_Loss(service, sum(p.ready for p in mine), sum(p.ready for p in pods)))
    return _told(here, ours, losses, missing)


def _asking(sources: Sources, service: Service) -> Callable[[], tuple[Pod, ...]]:
    return lambda: pods_of(sources, service)


def _told(here: Sequence[Pod], ours: dict[str, list[Pod]], losses: Sequence[_Loss], missing: list[str]) -> Reading:
    mine = {(pod.namespace, pod.name) for pods in ours.values() for pod in pods}
    strangers = [pod for pod in here if (pod.namespace, pod.name) not in mine]
    worst = max(losses, key=lambda loss: loss.ratio, default=None)
    held = [pod for pod in here if (pod.namespace, pod.name) in mine]
    below = [loss for loss in losses if loss.here and loss.ready - loss.here < loss.service.minimum_ready_replicas]
    return Reading(
        pods=len(here),
        gpus_held=sum(pod.gpus for pod in here),
        services="; ".join(f"{loss.service.name}: {loss.here} of {loss.ready} ready replicas" for loss in losses)
        or "none of ours",
        services_hit=len(losses),
        capacity_lost_ratio_max=worst.ratio if worst is not None else 0.0,
        worst_service=worst.service.name if worst is not None else None,
        last_replica_of=names(loss.service.name for loss in losses if loss.here and loss.here == loss.ready),
        below_minimum=names(loss.service.name for loss in below),
        others=names(f"{pod.namespace}/{pod.name}" for pod in strangers),
        pod=held[0].name if len(held) == 1 else None,
        missing="; ".join(missing) or None,
    )
