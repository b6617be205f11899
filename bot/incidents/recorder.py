"""Writes down what a step asks of Prometheus and what comes back: the thread shows each number with its query."""

from datetime import datetime
from typing import Self

from bot.incidents.judge import Query
from bot.ports import Answer, FiringAlert, Metrics, Series, SourceError


class Recorder:
    """Implements ports.Metrics."""

    def __init__(self, metrics: Metrics, queries: list[Query] | None = None) -> None:
        self._metrics = metrics
        self._queries = queries if queries is not None else []

    @property
    def queries(self) -> tuple[Query, ...]:
        """By text, as questions asked side by side come in any order."""
        return tuple(sorted(dict.fromkeys(self._queries), key=lambda query: query.promql))

    def instant(self, query: str) -> Answer:
        try:
            answer = self._metrics.instant(query)
        except SourceError as error:
            self._write(query, f"failed: {error.why}")
            raise
        self._write(query, _told(answer))
        return answer

    def range(self, query: str, start: datetime, end: datetime, step_seconds: float) -> tuple[Series, ...]:
        found = self._metrics.range(query, start, end, step_seconds)
        self._write(query, f"{len(found)} series over {(end - start).total_seconds():g} s")
        return found

    def at(self, time: datetime) -> Self:
        return type(self)(self._metrics.at(time), self._queries)

    def alerts(self) -> tuple[FiringAlert, ...]:
        return self._metrics.alerts()

    def link(self, query: str) -> str:
        return self._metrics.link(query)

    def _write(self, query: str, value: str) -> None:
        self._queries.append(Query(query, value, self._metrics.link(query)))


def _told(answer: Answer) -> str:
    if not answer.samples:
        return "no data"
    if len(answer.samples) > 1:
        return f"{len(answer.samples)} series"
    value = answer.samples[0].value
    return "NaN (nothing to count)" if value != value else f"{value:.4g}"
