"""Who works: every replica takes in, the holder of one lock does what is due.

There is no queue behind it. Each work looks into the store for what is due, does some of it, and says whether there
was anything; so a crash loses nothing, and a work that fails is simply tried again.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE_SECONDS = 30.0
_EXIT_CANNOT_LEAD = 4


class Lock(Protocol):
    """Held by one process at a time (`outbound/lock.py`). Whoever loses it ends at once: nothing is to be undone."""

    def acquire(self, stopped: threading.Event) -> bool:
        """Blocks until this process leads; False if `stopped` was set first."""
        ...

    def release(self) -> None: ...


class Bell:
    """Wakes the lanes that wait. A ring while a lane is busy is not lost: it looks once more before it waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings = 0
        self._alone: Counter[str] = Counter()

    def ring(self, lane: str | None = None) -> None:
        """For all lanes; or for one alone, where it is known who has work: the others would only be in its way."""
        with self._changed:
            if lane is None:
                self._rings += 1
            else:
                self._alone[lane] += 1
            self._changed.notify_all()

    def rings(self, lane: str) -> int:
        """How often it rang for this lane."""
        return self._rings + self._alone[lane]

    def wait(self, lane: str, seen: int, seconds: float) -> None:
        """Until it has rung for the lane since `seen`, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.rings(lane) != seen, seconds)


@dataclass(frozen=True, slots=True)
class Work:
    """`step` does some of what is due and returns whether there was anything. Works of one lane follow one another;
    lanes run side by side, so that a slow answer of Slack's does not hold up a diagnosis."""

    name: str
    step: Callable[[datetime], bool]
    lane: str = "work"


class Leader:
    """`on_leading` is called once, between getting the lock and the first work: nobody else acts any more then.
    `on_stopped` is called after the last work, while the lock is still held: nobody else acts yet."""

    def __init__(
        self,
        lock: Lock,
        works: Sequence[Work],
        bell: Bell,
        *,
        on_leading: Callable[[], None] = lambda: None,
        on_stopped: Callable[[], None] = lambda: None,
        poll_seconds: float = 0.2,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lock = lock
        self._bell = bell
        self._on_leading = on_leading
        self._on_stopped = on_stopped
        self._poll = poll_seconds
        self._clock = clock
        self._stopped = threading.Event()
        self._lanes = {
            lane: _Lane([w for w in works if w.lane == lane]) for lane in dict.fromkeys(w.lane for w in works)
        }
        self._main = threading.Thread(target=self._run, daemon=True, name="leader")
        self.leads = False

    def start(self) -> None:
        self._main.start()

    def stop(self, seconds: float = 10) -> None:
        """Ends after the steps that are running; those that take longer are left to the next leader."""
        self._stopped.set()
        self._bell.ring()
        self._main.join(seconds)

    @property
    def errors(self) -> Mapping[str, int]:
        """Failed steps so far, by work."""
        return {name: count for lane in self._lanes.values() for name, count in lane.errors.items()}

    def age_seconds(self) -> float:
        """Since the slowest lane was last through; 0 while this process does not lead."""
        now = time.monotonic()
        return max((now - lane.through_at for lane in self._lanes.values()), default=0.0) if self.leads else 0.0

    def _run(self) -> None:
        with _or_end():
            if self._lock.acquire(self._stopped):
                self._lead()

    def _lead(self) -> None:
        _log.info("this process leads")
        self._on_leading()
        loops = []
        for name, lane in self._lanes.items():
            lane.through_at = time.monotonic()
            loops.append(threading.Thread(target=self._loop, args=(name, lane), daemon=True, name=f"leader-{name}"))
        self.leads = True
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
        self.leads = False
        self._on_stopped()
        self._lock.release()

    def _loop(self, name: str, lane: "_Lane") -> None:
        with _or_end():
            while not self._stopped.is_set():
                seen = self._bell.rings(name)
                if lane.go_through(self._clock):
                    self._bell.ring()  # what one lane did is often what another waits for
                else:
                    self._bell.wait(name, seen, self._poll)


@contextmanager
def _or_end() -> Iterator[None]:
    """The top of a thread. A process that holds the lock and does nothing is worse than one that is gone."""
    try:
        yield
    except Exception:
        _log.critical("this process cannot lead, so it ends", exc_info=True)
        os._exit(_EXIT_CANNOT_LEAD)


class _Lane:
    """Works that follow one another, and how they fare."""

    def __init__(self, works: Sequence[Work]) -> None:
        self._works = works
        self._failures: Counter[str] = Counter()  # in a row
        self._not_before: dict[str, float] = {}
        self.errors = {work.name: 0 for work in works}
        self.through_at = 0.0

    def go_through(self, clock: Callable[[], datetime]) -> bool:
        did = False
        for work in self._works:
            if time.monotonic() >= self._not_before.get(work.name, 0):
                did |= self._do(work, clock())
        self.through_at = time.monotonic()
        return did

    def _do(self, work: Work, now: datetime) -> bool:
        try:
            did = bool(work.step(now))
        except Exception:
            # The top of a job: the others go on, and this one is tried again, less and less often.
            self.errors[work.name] += 1
            self._failures[work.name] += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** (self._failures[work.name] - 1))
            self._not_before[work.name] = time.monotonic() + pause
            _log.exception("a work of the leader failed", work=work.name, again_in_seconds=pause)
            return False
        self._failures[work.name] = 0
        return did
