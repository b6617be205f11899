"""Does an engine work, wait, sleep or hang? Told from its progress counters between scrapes, never from /health, which
stays 200 while the engine hangs, and never from gauges alone, which keep their last value then.

Pure. A hang is said only of an engine that had work at every scrape of the whole stretch and moved nothing, though it
has moved before: the very first request may wait for kernels that compile. Requests that are deferred are no work for
it: the decode side of a split service waits for KV that another engine computes.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.ports import Series

# Any of them moves while an engine works; each exists since 0.8. What is absent stands still.
COUNTERS = ("vllm:iteration_tokens_total_count", "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WAITING_BY_REASON = "vllm:num_requests_waiting_by_reason"  # since 0.20
DEFERRED = "deferred"
# Fewer scrapes do not show that nothing moved between them.
_SCRAPES = 3


class EngineState(enum.Enum):
    """The worst first: a replica of several engines is in the worst of their states."""

    HUNG = "hung"  # it has work, and makes no step
    ASLEEP = "asleep"  # somebody put it to sleep
    UNCLEAR = "unclear"
    SATURATED = "saturated"  # it makes steps, and requests wait all the time
    WORKING = "working"
    IDLE = "idle"  # no work, no steps

    @property
    def rank(self) -> int:
        return list(EngineState).index(self)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One page of one engine. `progress`: its counters, always in the same order."""

    at: datetime
    progress: tuple[float, ...]
    running: float
    waiting: float
    deferred: float = 0  # of the waiting ones: for something outside of this engine

    @property
    def busy(self) -> bool:
        return self.running + self.waiting > 0

    @property
    def able(self) -> bool:
        """Has it work that it could do?"""
        return self.running + self.waiting - self.deferred > 0


@dataclass(frozen=True, slots=True)
class EngineProgress:
    """still_seconds: for how long it has had work and moved nothing."""

    state: EngineState
    running: int
    waiting: int
    still_seconds: float = 0
    why: str | None = None  # of UNCLEAR


def judged(scrapes: Sequence[Scrape], now: datetime, limit_seconds: float, *, asleep: bool) -> EngineProgress:
    """`scrapes` in order of time, at least one. With work and without a step for longer than the limit, it hangs."""
    last = scrapes[-1]
    moved = _moved_at(scrapes)
    still = _still(scrapes)
    still_seconds = (last.at - still[0].at).total_seconds() if last.able else 0.0

    def found(state: EngineState, why: str | None = None) -> EngineProgress:
        return EngineProgress(state, round(last.running), round(last.waiting), still_seconds, why)

    age = (now - last.at).total_seconds()
    if age > limit_seconds:
        return found(EngineState.UNCLEAR, f"it was last scraped {age:.0f} s ago")
    if asleep:
        return found(EngineState.ASLEEP)
    if not last.busy:
        if moved is not None and (last.at - moved).total_seconds() <= limit_seconds:
            return found(EngineState.WORKING)  # between two requests
        if (last.at - scrapes[0].at).total_seconds() < limit_seconds / 2:
            return found(EngineState.UNCLEAR, "it has only just begun to report")
        return found(EngineState.IDLE)
    if still_seconds >= limit_seconds and len(still) >= _SCRAPES:
        if not any(last.progress):
            return found(EngineState.UNCLEAR, "it has not made a step since it started: kernels may still be compiled")
        return found(EngineState.HUNG)
    if moved is not None and moved >= scrapes[-2].at:
        lately = [s for s in scrapes if (last.at - s.at).total_seconds() <= limit_seconds]
        full = len(lately) >= _SCRAPES and all(s.waiting > 0 for s in lately)
        return found(EngineState.SATURATED if full else EngineState.WORKING)
    if len(scrapes) < _SCRAPES:
        return found(EngineState.UNCLEAR, "it has only just begun to report")
    if not last.able:
        return found(EngineState.UNCLEAR, "all its requests are deferred: they wait for something outside of it")
    why = f"no step for {still_seconds:.0f} s, though it has work; {limit_seconds:.0f} s make a hang"
    return found(EngineState.UNCLEAR, why)


def _moved_at(scrapes: Sequence[Scrape]) -> datetime | None:
    """The last scrape whose counters differ from those before; one that fell is of a new process, and moved, too."""
    for before, after in zip(reversed(scrapes[:-1]), reversed(scrapes[1:]), strict=True):
        if before.progress != after.progress:
            return after.at
    return None


def _still(scrapes: Sequence[Scrape]) -> Sequence[Scrape]:
    """The last stretch with work all the time and the same counters; it begins with the scrape that last saw a move."""
    start = len(scrapes) - 1
    while start > 0 and scrapes[start - 1].able and scrapes[start - 1].progress == scrapes[start].progress:
        start -= 1
    return scrapes[start:]


# ---------------------------------------------------------------------------------------------- out of Prometheus


@dataclass(frozen=True, slots=True)
class EngineKey:
    namespace: str
    pod: str
    engine: str  # the data-parallel rank


def range_queries(selector: str) -> tuple[str, str]:
    """All values in one question, and beside them when each was really scraped: between scrapes, and for minutes after
    the last one, Prometheus repeats the old value as if it were new."""
    names = "|".join((*COUNTERS, RUNNING, WAITING, WAITING_BY_REASON))
    return f'{{__name__=~"{names}",{selector}}}', f"timestamp({RUNNING}{{{selector}}})"


def scrapes_of(values: Sequence[Series], times: Sequence[Series]) -> Mapping[EngineKey, tuple[Scrape, ...]]:
    """From the answers to `range_queries`, both with the same start, end and step."""
    found: dict[EngineKey, tuple[Scrape, ...]] = {}
    for dated in times:
        key = _key(dated.labels)
        if key in found:
            continue  # the same page scraped by a second job
        page = [s for s in values if _same_page(s, dated)]
        own = {name: dict(s.points) for s in reversed(page) if (name := _name(s)) is not None}
        if scrapes := _scrapes(dated, own):
            found[key] = scrapes
    return found


def _key(labels: Mapping[str, str]) -> EngineKey:
    return EngineKey(labels.get("namespace", ""), labels.get("pod", ""), labels.get("engine", ""))


def _name(one: Series) -> str | None:
    """None: of no interest here."""
    name = one.labels.get("__name__", "")
    return None if name == WAITING_BY_REASON and one.labels.get("reason") != DEFERRED else name


def _same_page(one: Series, other: Series) -> bool:
    names = ("namespace", "pod", "engine", "job", "instance")
    return all(one.labels.get(name) == other.labels.get(name) for name in names)


def _scrapes(dated: Series, own: Mapping[str, Mapping[datetime, float]]) -> tuple[Scrape, ...]:
    scrapes: dict[float, Scrape] = {}
    for shown_at, scraped in dated.points:
        running, waiting = (own.get(name, {}).get(shown_at) for name in (RUNNING, WAITING))
        if scraped in scrapes or running is None or waiting is None:
            continue
        progress = tuple(own.get(name, {}).get(shown_at, 0.0) for name in COUNTERS)
        deferred = own.get(WAITING_BY_REASON, {}).get(shown_at, 0.0)
        scrapes[scraped] = Scrape(datetime.fromtimestamp(scraped, UTC), progress, running, waiting, deferred)
    return tuple(scrapes[at] for at in sorted(scrapes))
