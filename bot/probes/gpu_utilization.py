"""How busy are the GPUs that the service's pods hold?

As dcgm-exporter tells it through Prometheus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.ports import Pod, Sample, SourceError, Sources
from bot.probes.asking import Later, number, recent, whole
from bot.probes.served import pods_of, selector_of, service_of
from bot.vllm import dcgm
from bot.vllm.series import any_of

_ALIKE = 0.1
_MIXED = "the exporter does not say which pod holds which GPU, and others' GPUs on these nodes are not as busy"


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """None where it is not exported: that is not zero."""

    busy_ratio_mean: float | None = None  # None where others' GPUs are among them, and could be the busy or idle ones
    busy_ratio_min: float | None = None
    busy_ratio_max: float | None = None
    gpus: int | None = None  # that were measured
    measured: bool | None = (
        None  # False: Prometheus answers, and has no GPU of theirs, or does not tell which are theirs
    )
    gpus_held: int | None = None  # by the service's ready pods; by all of them where none is
    matched_by: str | None = None  # "pod", or "node": then GPUs of others on these nodes count, too
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    asked = Later(lambda: pods_of(sources, service))
    selector = selector_of(sources, service)
    # Without honorLabels Prometheus keeps `pod` for the exporter's own pod, and renames the claim to `exported_pod`.
    claimed = selector_of(sources, service, prefix="exported_")
    by_pod = Later(lambda: _busy(sources, (selector, claimed)))
    try:
        pods: tuple[Pod, ...] | None = tuple(pod for pod in asked.get() if pod.gpus)
    except SourceError:
        pods = None  # the exporter's own labels still say whose GPU it is
    nodes = sorted({pod.node for pod in pods or () if pod.node is not None})
    by_node = Later(lambda: _on(sources, nodes))
    # GPUs of a replica that loads or has crashed are idle, and say nothing of those that serve.
    pods = tuple(pod for pod in pods if pod.ready) or pods if pods is not None else None
    found, matched = _of(pods, by_pod.get()), "pod"
    if not found:
        found, matched = by_node.get(), "node"
    held = None if pods is None else sum(pod.gpus for pod in pods)
    if not found:
        return Reading(gpus_held=held, measured=False, missing=_why_silent(sources))
    ratios = sorted(sample.value for sample in found)
    mean = _mean(ratios, held)
    return Reading(
        busy_ratio_mean=mean,
        busy_ratio_min=None if mean is None else ratios[0],
        busy_ratio_max=None if mean is None else ratios[-1],
        gpus=len(ratios),
        measured=mean is not None,
        gpus_held=held,
        matched_by=matched,
        missing=_MIXED if mean is None else _unmeasured(len(ratios), held),
    )


def _of(pods: Sequence[Pod] | None, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    if pods is None:
        return tuple(samples)
    names = {(pod.namespace, pod.name) for pod in pods}
    return tuple(s for s in samples if (claim := _claim(s)) is None or claim in names)


def _claim(sample: Sample) -> tuple[str, str] | None:
    """Whose GPU it is, by the exporter's own labels."""
    for prefix in ("exported_", ""):
        namespace, pod = sample.labels.get(f"{prefix}namespace"), sample.labels.get(f"{prefix}pod")
        if namespace and pod:
            return namespace, pod
    return None


def _mean(ratios: Sequence[float], held: int | None) -> float | None:
    """Of those that the pods hold. Where more were measured, the mean holds only if it hardly matters which."""
    if held is None or not 0 < held < len(ratios):
        return sum(ratios) / len(ratios)
    least, most = sum(ratios[:held]) / held, sum(ratios[-held:]) / held
    return sum(ratios) / len(ratios) if most - least <= _ALIKE else None


def _busy(sources: Sources, matchers: Sequence[str]) -> tuple[Sample, ...]:
    query = " or ".join(dcgm.busy_ratio(matcher, recent(sources)) for matcher in matchers)
    return whole(sources.metrics, query).samples


def _on(sources: Sources, nodes: Sequence[str]) -> tuple[Sample, ...]:
    if not nodes:
        return ()
    names = any_of(name.replace(".", r"\.") for name in nodes)
    return _busy(sources, [f"{label}=~{names}" for label in dcgm.NODE_LABELS])


def _why_silent(sources: Sources) -> str:
    name = dcgm.UTILIZATION[0]
    seen = number(sources.metrics, f"count({' or '.join((*dcgm.UTILIZATION, *dcgm.ENGINE_ACTIVE))})")
    if seen is None:
        return f"{name} is not exported (no dcgm-exporter in Prometheus)"
    return f"{name} is exported for {seen:g} GPUs, but for none of these pods or their nodes"


def _unmeasured(measured: int, held: int | None) -> str | None:
    return f"only {measured} of {held} GPUs are exported" if held is not None and measured < held else None
