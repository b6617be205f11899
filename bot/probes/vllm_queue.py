"""How many requests wait, does the queue grow, and is every replica at its limit?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service
from bot.ports import Answer, SourceError, Sources
from bot.probes.asking import Later, number, recent, whole
from bot.probes.served import ServingPod, room_for, selector_of, service_of, serving_pods, why_silent
from bot.vllm import series


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    waiting: int | None = None
    waiting_lately: int | None = None  # the most of the last third of the window
    running: int | None = None
    growth_per_minute: float | None = None  # of waiting, over the window
    replicas: int | None = None  # that export metrics
    silent_replicas: int | None = None  # that are ready, and export none: what is told here is without them
    waiting_per_replica_max: int | None = None
    waiting_per_replica_min: int | None = None
    saturated_replicas: int | None = None  # all of whose engines have lately run max_num_seqs requests
    # True if all of them have been so for most of the window; None if not, or only of late: how busy GPUs are is told
    # some time after it was so, and then says nothing about full batches yet.
    full_throughout: bool | None = None
    max_num_seqs: int | None = None  # per engine; None where replicas differ
    finished_per_second: float | None = None
    # How many more would serve what arrives, if each serves what one serves now: at least one where requests wait, at
    # most as many as there are.
    replicas_short: int | None = None
    # As many of them as free GPUs and fleet.yaml allow now; one if none, and the review then says what is in the way.
    replicas_to_add: int | None = None
    missing: str | None = None


Key = tuple[str, str]  # namespace, pod

# So much of a batch may have ended in the step that was just counted.
_NEARLY_FULL = 0.9
_MOSTLY = 0.8


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods, room = Later(lambda: serving_pods(sources, service)), Later(lambda: room_for(sources, service))
    selector = selector_of(sources, service)
    metrics, window, engines = sources.metrics, sources.window, series.engines(selector)
    peak = Later(lambda: _ran(sources, engines, "max_over_time", recent(sources)))
    mean = Later(lambda: _ran(sources, engines, "avg_over_time", window))
    running = Later(lambda: number(metrics, f"sum({series.once(f'{series.RUNNING}{{{engines}}}')})"))
    growth = Later(
        lambda: number(metrics, f"60 * sum({series.once(f'deriv({series.WAITING}{{{engines}}}[{window}])')})")
    )
    ended = series.once(f"rate({series.FINISHED}{{{engines}}}[{window}])", "finished_reason")
    finished = Later(lambda: number(metrics, f"sum({ended})"))
    lately = Later(lambda: number(metrics, f"max_over_time({_all_waiting(engines)}[{recent(sources)}:1s])"))
    waiting = _by_pod(whole(metrics, f"sum by (namespace, pod) ({series.once(f'{series.WAITING}{{{engines}}}')})"))
    if not waiting:
        return Reading(missing=why_silent(metrics, selector))
    caps, missing = _caps(pods)
    silent = _silent(pods, waiting, sources)
    short = _short(sum(waiting.values()), len(waiting), growth.get(), finished.get())
    ran = running.get()
    return Reading(
        waiting=round(sum(waiting.values())),
        waiting_lately=round(max(lately.get() or 0, sum(waiting.values()))),
        running=None if ran is None else round(ran),
        growth_per_minute=growth.get(),
        replicas=len(waiting),
        silent_replicas=silent,
        waiting_per_replica_max=round(max(waiting.values())),
        waiting_per_replica_min=round(min(waiting.values())),
        saturated_replicas=_saturated(waiting, caps, peak.get()),
        full_throughout=_full_throughout(waiting, caps, mean.get()),
        max_num_seqs=next(iter(caps.values())) if len(set(caps.values())) == 1 else None,
        finished_per_second=finished.get(),
        replicas_short=short,
        replicas_to_add=_to_add(short, len(waiting), service, room),
        missing=missing,
    )


def _ran(sources: Sources, engines: str, over_time: str, window: str) -> Answer:
    each = f"{over_time}({series.RUNNING}{{{engines}}}[{window}])"
    return whole(sources.metrics, f"max by (namespace, pod, engine) ({each})")


def _all_waiting(engines: str) -> str:
    return f"sum({series.once(f'{series.WAITING}{{{engines}}}')})"


def _by_pod(answer: Answer) -> dict[Key, float]:
    return dict(_by_engine(answer))


def _caps(pods: Later[tuple[ServingPod, ...]]) -> tuple[dict[Key, int], str | None]:
    try:
        found = pods.get()
    except SourceError as error:
        return {}, f"max_num_seqs is not known: {error}"
    caps = {
        (p.pod.namespace, p.pod.name): p.effective.max_num_seqs
        for p in found
        if p.effective.max_num_seqs is not None  # neither given, nor its GPU known
    }
    return caps, None if len(caps) == len(found) else "max_num_seqs of some replicas is not known"


def _silent(pods: Later[tuple[ServingPod, ...]], waiting: Mapping[Key, float], sources: Sources) -> int | None:
    """One that has only just become ready may not have been scraped yet, and is not counted."""
    try:
        ready = [p.pod for p in pods.get() if p.pod.ready]
    except SourceError:
        return None
    grace = timedelta(seconds=sources.window_seconds / 3)
    return sum(
        (p.namespace, p.name) not in waiting and p.ready_at is not None and sources.now - p.ready_at > grace
        for p in ready
    )


def _saturated(waiting: Mapping[Key, float], caps: Mapping[Key, int], peak: Answer) -> int | None:
    """vLLM counts what runs after a step has ended, so a full batch shows its cap only in some samples, and a large one
    hardly ever: hence the highest of late, and nearly the cap where requests wait."""
    if not waiting.keys() <= caps.keys():
        return None
    full = {key: _NEARLY_FULL if queue else 1.0 for key, queue in waiting.items()}
    return len(waiting.keys() - {key for key, ran in _by_engine(peak) if ran < full.get(key, 1.0) * caps.get(key, 0)})


def _full_throughout(waiting: Mapping[Key, float], caps: Mapping[Key, int], mean: Answer) -> bool | None:
    ran = _by_engine(mean)
    known = waiting.keys() <= caps.keys() and waiting.keys() <= {key for key, _ in ran}
    return True if known and all(value >= _MOSTLY * caps.get(key, 0) for key, value in ran) else None


def _by_engine(answer: Answer) -> list[tuple[Key, float]]:
    return [((s.labels.get("namespace", ""), s.labels.get("pod", "")), s.value) for s in answer.samples]


def _short(waiting: float, replicas: int, growth_per_minute: float | None, finished: float | None) -> int | None:
    if waiting <= 0:
        return 0
    if not growth_per_minute or growth_per_minute < 0:
        return 1
    if not finished:
        return None  # nothing is served at all: more of the same would not help
    needed = replicas * (1 + growth_per_minute / 60 / finished)
    return min(replicas, max(1, math.ceil(needed - 0.05) - replicas))


def _to_add(short: int | None, replicas: int, service: Service, room: Later[int | None]) -> int | None:
    if not short:
        return short
    try:
        fits = room.get()
    except SourceError:
        fits = None  # what has no room is objected to when it is proposed
    allowed = service.maximum_replicas - replicas
    return max(1, min(short, allowed, short if fits is None else fits))
