"""Does each replica work, or does it hang, sleep, load, or is it dead?

From progress counters, not from /health, which stays 200 while an engine hangs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.fleet import Service
from bot.ports import SourceError, Sources
from bot.probes.asking import Later, quantile, whole
from bot.probes.gateway import Gateway, gateway_of
from bot.probes.naming import first, names
from bot.probes.replica_states import Replica, Replicas, ReplicaState, replica_states
from bot.probes.served import selector_of, service_of, serving_pods
from bot.vllm import series

# Of the window: two minutes of five. A step of a large model takes a second; compiling for a new shape, half a minute.
_STILL_SHARE = 0.4
_STILL_LEAST_SECONDS = 8.0  # a long prompt that is not chunked takes whole seconds, however short the window
_LONG_STEPS = 3  # times the longest prefill, where prompts are computed in one piece: so long a step may rightly take
_NAMED = 3  # unclear ones whose reason is told
_SLEPT_WINDOWS = 12  # an hour of windows of five minutes: how long ago they may have fallen asleep
_LATELY_WINDOWS = 2
_NEARLY_ALL = 0.999


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    # With work and without a step for so long, an engine hangs. Default: two fifths of the window (2 of 5 minutes), or
    # more where single steps have been seen to take longer.
    still_seconds: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Replicas by state. hung, asleep and dead are None, not 0, while some replica's state is unclear."""

    replicas: int | None = None
    working: int | None = None
    saturated: int | None = None  # they work, and requests wait all the time
    idle: int | None = None
    hung: int | None = None  # they have work, and make no step
    asleep: int | None = None
    dead: int | None = None  # the container runs, and nobody answers in it any more
    unclear: int | None = None
    unseen: int | None = None  # of the unclear: they answer, and Prometheus has no metrics of their engines
    loading: int | None = None
    pending: int | None = None  # not started yet: no node, no image
    crashed: int | None = None
    hung_pod: str | None = None  # the first of them, for an action
    hung_pods: str | None = None
    hung_requests: int | None = None  # that run or wait there
    hung_seconds: float | None = None  # the longest
    asleep_pod: str | None = None
    asleep_pods: str | None = None
    asleep_requests: int | None = None
    asleep_cut_off: int | None = None  # requests that were under way when they fell asleep, and ended there
    asleep_cut_off_lately: int | None = None  # the same, of those that were still awake two windows ago
    asleep_how: str | None = None  # "asleep", or "paused"
    wake_path: str | None = None  # what a POST to it undoes
    dead_pod: str | None = None
    dead_pods: str | None = None
    dead_why: str | None = None
    loading_pods: str | None = None
    loading_seconds: float | None = None  # the longest
    cold_start_seconds: float | None = None  # what fleet.yaml says is usual
    arriving_per_second: float | None = None  # at the router, where one is known
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    limit = params.still_seconds or max(
        _STILL_LEAST_SECONDS, _STILL_SHARE * sources.window_seconds, _LONG_STEPS * _longest_step(sources, service)
    )
    arriving = Later(lambda: gateway_of(sources, service, selector_of(sources, service)))
    found = replica_states(sources, service, limit)
    if not found.all:
        why = found.missing or "it has no pods that run vLLM"
        return Reading(replicas=0 if found.missing is None else None, missing=why)
    told = _told(found, service.cold_start_seconds, _demand(arriving), sources.now)
    asleep = [r for r in found.all if r.state is ReplicaState.ASLEEP]
    if not asleep:
        return told
    selector = selector_of(sources, service)
    lately = Later(lambda: _cut_off(sources, selector, asleep, _LATELY_WINDOWS))
    cut_off = _cut_off(sources, selector, asleep, _SLEPT_WINDOWS)
    # Of those that have slept for longer, nothing is found lately.
    return replace(told, asleep_cut_off=cut_off, asleep_cut_off_lately=None if cut_off is None else lately.get() or 0)


def _longest_step(sources: Sources, service: Service) -> float:
    """Without chunking a prompt is one step, and all others wait for its end. 0 where that is not so, or not known."""
    try:
        chunked = {pod.effective.chunked_prefill for pod in serving_pods(sources, service)}
    except SourceError:
        return 0.0
    if False not in chunked:
        return 0.0
    window = f"{round(_SLEPT_WINDOWS * sources.window_seconds)}s"
    buckets = series.histogram_rate(series.PREFILL_TIME, selector_of(sources, service), window)
    slowest = quantile(sources.metrics, _NEARLY_ALL, buckets)
    return 0.0 if slowest is None else slowest.high or slowest.low


def _cut_off(sources: Sources, selector: str, asleep: Sequence[Replica], windows: int) -> int | None:
    """vLLM ends what runs when it is told to sleep, and answers nothing more; its gauges then stand at 0. So what was
    under way at that moment is all that is seen of those who ask."""
    aborted = f'{series.FINISHED}{{{series.engines(selector)},finished_reason="abort"}}'
    awake = f'{series.SLEEP_STATE}{{{series.engines(selector)},sleep_state="awake"}} == 1'
    window = sources.window_seconds
    looks_back = f"{round(windows * window)}s:{max(1, round(window / 10))}s"
    then = f"last_over_time(({aborted} and on (namespace, pod, engine) {awake})[{looks_back}])"
    samples = whole(sources.metrics, f"sum by (namespace, pod) ({aborted}) - sum by (namespace, pod) ({then})").samples
    names_of = {(r.namespace, r.name) for r in asleep}
    found = [s.value for s in samples if (s.labels.get("namespace"), s.labels.get("pod")) in names_of]
    return round(sum(found)) if found else None


def _demand(asked: Later[Gateway]) -> float | None:
    try:
        return asked.get().arriving_per_second
    except SourceError:
        return None


def _told(found: Replicas, cold_start_seconds: float, arriving: float | None, now: datetime) -> Reading:
    by_state = {state: [r for r in found.all if r.state is state] for state in ReplicaState}
    unclear = by_state[ReplicaState.UNCLEAR]
    sure = not unclear and found.missing is None

    def good(state: ReplicaState) -> int:
        return len(by_state[state])

    def bad(state: ReplicaState) -> int | None:
        """What is seen is there; that there is none is only known if all are seen."""
        return len(by_state[state]) or (0 if sure else None)

    def of_pods(state: ReplicaState) -> int | None:
        return None if found.missing else good(state)

    hung, asleep = by_state[ReplicaState.HUNG], by_state[ReplicaState.ASLEEP]
    dead, loading = by_state[ReplicaState.DEAD], by_state[ReplicaState.LOADING]
    loads = [(now - r.since).total_seconds() for r in loading if r.since is not None]
    return Reading(
        replicas=None if found.missing else len(found.all),
        working=good(ReplicaState.WORKING),
        saturated=good(ReplicaState.SATURATED),
        idle=good(ReplicaState.IDLE),
        hung=bad(ReplicaState.HUNG),
        asleep=bad(ReplicaState.ASLEEP),
        dead=bad(ReplicaState.DEAD),
        unclear=len(unclear),
        unseen=sum(r.unseen for r in unclear),
        loading=of_pods(ReplicaState.LOADING),
        pending=of_pods(ReplicaState.PENDING),
        crashed=of_pods(ReplicaState.CRASHED),
        hung_pod=first(r.name for r in hung),
        hung_pods=names(r.name for r in hung),
        hung_requests=_requests(hung),
        hung_seconds=max((r.still_seconds for r in hung), default=None),
        asleep_pod=first(r.name for r in asleep),
        asleep_pods=names(r.name for r in asleep),
        asleep_requests=_requests(asleep),
        asleep_how=_how(asleep),
        wake_path=None if not asleep else "resume" if _how(asleep) == "paused" else "wake_up",
        dead_pod=first(r.name for r in dead),
        dead_pods=names(r.name for r in dead),
        dead_why=next((r.why for r in dead if r.why), None),
        loading_pods=names(r.name for r in loading),
        loading_seconds=max(loads, default=None),
        cold_start_seconds=cold_start_seconds,
        arriving_per_second=arriving,
        missing=_missing(unclear, found.missing),
    )


def _how(asleep: Sequence[Replica]) -> str | None:
    """Of the first of them, which an action is about."""
    if not asleep:
        return None
    return "paused" if "paused" in (min(asleep, key=lambda r: r.name).why or "") else "asleep"


def _requests(replicas: Iterable[Replica]) -> int | None:
    numbers = [r.running + r.waiting for r in replicas]
    return sum(numbers) if numbers else None


def _missing(unclear: Sequence[Replica], missing: str | None) -> str | None:
    lines = [f"{r.name}: {r.why}" for r in unclear[:_NAMED]]
    lines += [f"and {len(unclear) - _NAMED} more"] if len(unclear) > _NAMED else []
    return "; ".join([*lines, *([missing] if missing else [])]) or None
