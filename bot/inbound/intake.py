"""The thread that puts webhooks on disk: whatever waits goes into one commit, and each webhook is answered after it.

A commit costs a disk sync, whatever it holds; so under load thousands of webhooks a second share a few hundred syncs.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import structlog

from bot.incidents.alert import TakenIn
from bot.ports import SourceError

_log = structlog.get_logger(__name__)

_MOST_ALERTS_PER_COMMIT = 2000
_MOST_BYTES_WAITING = 64 * 1024 * 1024


class IntakeFullError(Exception):
    """As much waits for the disk as may wait; the sender must come again."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    taken: TakenIn
    size_bytes: int
    done: Future[None]


_STOP = _Waiting(TakenIn(()), 0, Future())


class Intake:
    """`put` never blocks. `commit` returns how many alerts were no repeats; `wake` is called after each commit."""

    def __init__(
        self, commit: Callable[[Sequence[TakenIn]], int], wake: Callable[[], None], *, waiting_limit: int = 2000
    ) -> None:
        self._commit = commit
        self._wake = wake
        self._limit = waiting_limit
        self._queue: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        self._stopped = False
        self.alerts = 0  # taken in, repeats included
        self.repeats = 0
        self.failed = 0  # webhooks whose commit failed
        self._thread = threading.Thread(target=self._run, daemon=True, name="intake")

    @property
    def waiting(self) -> int:
        """Webhooks that are not on disk yet."""
        return self._waiting

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Refuses what comes, writes what waits, and returns when it is on disk (or the database refused it)."""
        with self._lock:
            self._stopped = True
            self._queue.put(_STOP)
        self._thread.join()

    def put(self, taken: TakenIn, size_bytes: int) -> Future[None]:
        """The future ends when the webhook is on disk, or with the reason why not. Raises IntakeFullError."""
        waiting = _Waiting(taken, size_bytes, Future())
        with self._lock:
            full = self._waiting >= self._limit or self._waiting_bytes + size_bytes > _MOST_BYTES_WAITING
            if self._stopped or (full and self._waiting):
                why = "this replica is stopping" if self._stopped else f"{self._waiting} webhooks wait for the disk"
                raise IntakeFullError(why)
            self._waiting += 1
            self._waiting_bytes += size_bytes
            self._queue.put(waiting)  # inside the lock: nothing may follow the stop
        return waiting.done

    def _run(self) -> None:
        while True:
            batch, stopping = self._next_batch()
            if batch:
                self._store(batch)
                self._wake()
            if stopping:
                return

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        batch: list[_Waiting] = []
        alerts = 0
        one = self._queue.get()
        while one is not _STOP:
            batch.append(one)
            alerts += len(one.taken.alerts)
            if alerts >= _MOST_ALERTS_PER_COMMIT:
                break
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                break
        return batch, one is _STOP

    def _store(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._store_together(batch)
        except Exception as error:
            # The top of a thread. A database that is away is away for all of them; but one webhook that it refuses
            # must not fail its neighbours, so then each is tried.
            alone = len(batch) == 1 or (isinstance(error, SourceError) and error.retryable)
            for one in batch:
                if alone:
                    self._fail(one, error)
                else:
                    self._store([one])

    def _fail(self, one: _Waiting, error: Exception) -> None:
        _log.error("a webhook could not be stored", alerts=len(one.taken.alerts), why=str(error))
        self.failed += 1
        self._answer(one, error)

    def _store_together(self, batch: Sequence[_Waiting]) -> None:
        kept = self._commit([one.taken for one in batch])
        alerts = sum(len(one.taken.alerts) for one in batch)
        self.alerts += alerts
        self.repeats += alerts - kept
        for one in batch:
            self._answer(one, None)

    def _answer(self, one: _Waiting, error: Exception | None) -> None:
        with self._lock:
            self._waiting -= 1
            self._waiting_bytes -= one.size_bytes
        try:
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(error)
        except InvalidStateError:
            pass  # whoever waited has given up
