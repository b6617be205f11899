"""What a change means for serving capacity, in words: replicas, GPUs, time until they serve, load per replica."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.actions.contract import CapacityChange
from bot.fleet import Service, WorkloadRef
from bot.ports import Pod, SourceError, Sources
from bot.report import duration
from bot.vllm import series
from bot.vllm.stuck import living


@dataclass(frozen=True, slots=True)
class ColdStart:
    """From a pod's creation until it serves. Measured on the newest pod that serves, else as fleet.yaml declares."""

    seconds: float
    measured: bool


def cold_start(pods: Sequence[Pod], declared_seconds: float) -> ColdStart:
    """A pod that lost and regained its readiness tells when it did so last, so pods that restarted do not count, and
    of the three newest the quickest does."""
    served = [p for p in pods if p.ready and p.ready_at is not None and not any(c.restart_count for c in p.containers)]
    newest = sorted(served, key=lambda p: p.created_at, reverse=True)[:3]
    measured = [(p.ready_at - p.created_at).total_seconds() for p in newest if p.ready_at is not None]
    return ColdStart(min(measured), True) if measured else ColdStart(declared_seconds, False)


def blast_radius(
    name: str, change: CapacityChange, start: ColdStart, *, free_gpus: int | None = None, load: str = ""
) -> str:
    sentences = [_what(name, change)]
    if change.gpus_needed:
        free = "how many are free is not known" if free_gpus is None else f"{free_gpus} are free"
        sentences.append(f"needs {_count(change.gpus_needed, 'GPU')}, {free}")
    if change.added or change.replaced:
        source = "last cold start" if start.measured else "cold start as declared"
        sentences.append(f"{source} {duration(timedelta(seconds=start.seconds))}")
        if change.waves > 1:
            sentences.append(f"one after another, so about {duration(timedelta(seconds=start.seconds * change.waves))}")
    if load:
        sentences.append(load)
    return "; ".join(sentences)


def _what(name: str, change: CapacityChange) -> str:
    of = f"{_count(change.replicas, 'replica')} of {name}"
    if change.added:
        return f"adds {change.added} to {of}"
    if change.removed:
        return f"removes {change.removed} of {of}, {_share(change.lost, change)} of what serves now"
    if change.replaced:
        lost = f"up to {change.lost} of {change.ready} ready missing meanwhile ({_share(change.lost, change)})"
        return f"replaces {change.replaced} of {of}; {lost if change.lost else 'none of the ready ones goes before'}"
    return f"leaves {of} as they are"


def _share(lost: int, change: CapacityChange) -> str:
    return f"{lost / change.ready * 100:.0f} %" if change.ready else "nothing"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def load_per_replica(ref: WorkloadRef, change: CapacityChange, sources: Sources) -> str:
    """Requests in each replica now and afterwards, if the load stays. Where Prometheus cannot say, it says so: the
    approver decides, since a broken Prometheus must not lock every button."""
    after = change.ready + change.added - change.removed
    if after == change.ready or after <= 0 or change.ready <= 0:
        return ""
    pods = living(sources.cluster.pods_of(ref))
    owners = sorted({p.owner for p in pods if p.owner})
    pattern = series.pods_of_replica_set if ref.kind == "Deployment" else series.pods_of_stateful_set
    selector = series.engines(series.pods_matcher({ref.namespace: [pattern(owner) for owner in owners]}))
    query = " + ".join(f"sum({name}{{{selector}}})" for name in (series.RUNNING, series.WAITING))
    try:
        requests = sources.metrics.instant(query).number if owners else None
    except SourceError as error:
        return f"load per replica: cannot tell ({error.source} {error.why})"
    if requests is None:
        return "load per replica: cannot tell (no data)"
    return f"requests per ready replica {requests / change.ready:.0f} → {requests / after:.0f} if the load stays"


def cold_start_of(ref: WorkloadRef, service: Service | None, sources: Sources) -> ColdStart:
    declared = service.cold_start_seconds if service else Service.model_fields["cold_start_seconds"].default
    return cold_start(living(sources.cluster.pods_of(ref)), declared)


def age(since: datetime, now: datetime) -> str:
    return duration(max(timedelta(), now - since))
