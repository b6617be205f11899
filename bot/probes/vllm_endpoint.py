"""Do the replicas answer at their addresses: /health, /version, /v1/models and /metrics?

Whether they serve is another question: /health says 200 while an engine hangs or sleeps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bot.ports import Sample, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.naming import first, names
from bot.probes.served import ServingPod, service_of, serving_pods
from bot.vllm.progress import RUNNING


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    max_replicas: Annotated[int, Field(ge=1, le=128)] = 16


@dataclass(frozen=True, slots=True)
class Reading:
    """Of replicas whose container runs. `ready_unreachable`: Kubernetes calls them ready, and nobody answers."""

    asked: int | None = None
    healthy: int | None = None  # /health is 200
    healthy_unready: int | None = None  # /health is 200, and Kubernetes calls them not ready: they have just begun to?
    healthy_unready_pods: str | None = None
    unhealthy: int | None = None  # it is something else: 503 after the engine's death
    unreachable: int | None = None
    ready_unreachable: int | None = None
    without_metrics: int | None = None  # /metrics has no engine's series: --disable-log-stats
    without_model: int | None = None  # /v1/models is empty
    unhealthy_pod: str | None = None
    unhealthy_pods: str | None = None
    unreachable_pods: str | None = None
    without_metrics_pods: str | None = None
    versions: str | None = None  # "0.32.0"; several where they differ
    models: str | None = None
    max_model_len: int | None = None  # the smallest
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Answers:
    pod: str
    ready: bool
    health: int | None
    version: str | None
    models: tuple[dict[str, Any], ...] | None
    metrics: tuple[Sample, ...] | None
    errors: tuple[str, ...]


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = sorted((p for p in serving_pods(sources, service) if _runs(p)), key=lambda p: p.pod.name)
    asked = [Later(_asking(pod, sources)) for pod in pods[: params.max_replicas]]
    if not asked:
        return Reading(asked=0, missing="no replica's container runs")
    more = len(pods) - len(asked)
    return _told([later.get() for later in asked], [f"{more} more replicas were not asked"] if more else [])


def _runs(pod: ServingPod) -> bool:
    return pod.address is not None and pod.container.state is not None and pod.container.state.phase == "running"


def _asking(pod: ServingPod, sources: Sources) -> Callable[[], _Answers]:
    def ask() -> _Answers:
        address, engines, errors = pod.address or "", sources.engines, list[str]()
        asked: list[Later[Any]] = [
            Later(lambda: engines.health(address)),
            Later(lambda: engines.version(address)),
            Later(lambda: engines.models(address)),
            Later(lambda: engines.metrics(address)),
        ]

        def got(later: Later[Any]) -> Any:
            try:
                return later.get()
            except SourceError as error:
                errors.append(str(error))
                return None

        health, version, models, metrics = (got(later) for later in asked)
        return _Answers(pod.pod.name, pod.pod.ready, health, version, models, metrics, tuple(errors))

    return ask


def _told(found: Sequence[_Answers], missing: list[str]) -> Reading:
    unreachable = [a for a in found if a.health is None]
    unhealthy = [a for a in found if a.health not in (None, 200)]
    blind = [a for a in found if a.metrics is not None and not any(_of_engine(s) for s in a.metrics)]
    models = sorted({str(m.get("id")) for a in found for m in a.models or ()})
    lengths = [m["max_model_len"] for a in found for m in a.models or () if isinstance(m.get("max_model_len"), int)]
    errors = dict.fromkeys(error for a in found for error in a.errors)
    return Reading(
        asked=len(found),
        healthy=sum(a.health == 200 for a in found),
        healthy_unready=sum(a.health == 200 and not a.ready for a in found),
        healthy_unready_pods=names(a.pod for a in found if a.health == 200 and not a.ready),
        unhealthy=len(unhealthy),
        unreachable=len(unreachable),
        ready_unreachable=sum(a.ready for a in unreachable),
        without_metrics=len(blind) if all(a.metrics is not None for a in found if a.health is not None) else None,
        without_model=sum(a.models == () for a in found),
        unhealthy_pod=first(a.pod for a in unhealthy),
        unhealthy_pods=names(a.pod for a in unhealthy),
        unreachable_pods=names(a.pod for a in unreachable),
        without_metrics_pods=names(a.pod for a in blind),
        versions=names(a.version for a in found if a.version is not None),
        models=", ".join(models) or None,
        max_model_len=min(lengths, default=None),
        missing="; ".join([*missing, *list(errors)[:3]]) or None,
    )


def _of_engine(sample: Sample) -> bool:
    return sample.labels.get("__name__") == RUNNING and sample.labels.get("engine") is not None
