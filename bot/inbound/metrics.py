"""The bot's own metrics. The parts keep plain numbers; they are read here when Prometheus asks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from bot.ports import SourceError

_log = structlog.get_logger(__name__)

PREFIX = "vllm_oncall_"

Values = float | Mapping[str, float]  # one, or one per value of the label


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric: `label` names what the keys of a mapping are."""

    name: str
    help: str
    read: Callable[[], Values]
    label: str | None = None
    counts: bool = False  # a counter; else a gauge


class OwnMetrics:
    def __init__(self, readings: Iterable[Reading]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Collector(tuple(readings)))

    def text(self) -> bytes:
        """In the exposition format of Prometheus."""
        return generate_latest(self._registry)


class _Collector:
    def __init__(self, readings: tuple[Reading, ...]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        unread = 0
        for reading in self._readings:
            try:
                values = reading.read()
            except SourceError as error:
                # A number that is not known is left out, never zero; the others are still told.
                _log.warning("a metric could not be read", metric=reading.name, why=str(error))
                unread += 1
                continue
            yield _metric(reading, values)
        yield _metric(Reading("metrics_unread", "Metrics that could not be read just now.", lambda: 0), unread)


def _metric(reading: Reading, values: Values) -> Metric:
    family = CounterMetricFamily if reading.counts else GaugeMetricFamily
    metric: Metric = family(PREFIX + reading.name, reading.help, labels=[reading.label] if reading.label else [])
    if isinstance(values, Mapping):
        for key, value in values.items():
            metric.add_metric([key], value)  # type: ignore[attr-defined]
    else:
        metric.add_metric([], values)  # type: ignore[attr-defined]
    return metric
