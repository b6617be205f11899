"""How probes put their questions: side by side, and without taking silence for an answer."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from bot.ports import Answer, Metrics, SourceError, Sources
from bot.vllm.buckets import QuantileRange, quantile_range

T = TypeVar("T")


class Later(Generic[T]):
    """A question that is put at once, and whose answer is waited for where it is needed.

    A thread of its own each: a probe itself runs in a bounded pool, and may not wait for a place in it. The thread ends
    by itself, since every source has its own deadline.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answer: Future[T] = Future()
        context = contextvars.copy_context()  # the log's incident id
        threading.Thread(target=context.run, args=(self._run, ask), daemon=True).start()

    def get(self) -> T:
        """Raises what the question raised."""
        return self._answer.result()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            answer = ask()
        except BaseException as error:
            self._answer.set_exception(error)  # raised again by `get`
        else:
            self._answer.set_result(answer)


def whole(metrics: Metrics, query: str) -> Answer:
    """The answer without its NaNs ("nothing to say now"). Raises SourceError for a partial one."""
    answer = metrics.instant(query)
    if answer.warnings:
        raise SourceError("Prometheus", f"answered `{query}` only in part: {'; '.join(answer.warnings)}")
    return Answer(tuple(s for s in answer.samples if s.value == s.value))


def number(metrics: Metrics, query: str) -> float | None:
    """One number; None: no series, or NaN. Raises SourceError if several series come."""
    answer = whole(metrics, query)
    try:
        return answer.number
    except ValueError as error:
        raise SourceError("Prometheus", f"`{query}`: {error}", "Correct the query.") from error


def quantile(metrics: Metrics, of: float, buckets: str) -> QuantileRange | None:
    """`buckets`: bucket rates by `le`. None: no such series, or nothing was observed."""
    return quantile_range(of, whole(metrics, buckets).samples)


def recent(sources: Sources) -> str:
    """A PromQL range for what must be smoothed a little, and still be about now: the last third of the window."""
    return f"{max(1, round(sources.window_seconds / 3))}s"
