"""The incident's one number: read now, and over time for its graph."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.incidents.incident import SignalReading
from bot.ports import Metrics, SourceError, Sources
from bot.probes.asking import Later, number, quantile
from bot.probes.served import reporting, why_silent
from bot.runbook.schema import Signal
from bot.runbook.words import filled, names_in
from bot.vllm.buckets import quantile_query

_NOT_THE_ENGINES = ("up{", "kube_", "container_", "DCGM_")


def read(signal: Signal, words: Mapping[str, Any], sources: Sources) -> SignalReading:
    """Never raises SourceError: what could not be read says why in `error`."""
    threshold = threshold_of(signal, words)

    def reading(
        value: float | None = None,
        low: float | None = None,
        high: float | None = None,
        traffic: float | None = None,
        error: str | None = None,
    ) -> SignalReading:
        return SignalReading(
            signal.name,
            signal.unit,
            threshold,
            signal.direction,
            value,
            low,
            high,
            traffic,
            error,
            signal.window_seconds,
        )

    try:
        query = _query(signal.query, words)
        silent = Later(lambda: _silent(signal, words, sources))
        traffic = Later(lambda: _traffic(signal, words, sources.metrics))
        value, low, high = _measured(sources.metrics, query)
        # What rate() still sees of pods that have gone silent is about the past.
        if (why := silent.get()) is not None:
            return reading(error=why)
        return reading(value, low, high, traffic.get())
    except SourceError as error:
        return reading(error=str(error))


def history(
    signal: Signal, words: Mapping[str, Any], metrics: Metrics, start: datetime, end: datetime, step_seconds: float
) -> tuple[tuple[datetime, float], ...]:
    """Points in order; NaN where there was nothing to say. Raises SourceError."""
    found = metrics.range(_query(signal.query, words), start, end, step_seconds)
    if len(found) > 1:
        raise SourceError("Prometheus", f"{len(found)} series came for {signal.name}; one was expected")
    return found[0].points if found else ()


def threshold_of(signal: Signal, words: Mapping[str, Any]) -> float | None:
    """None where the service promises nothing."""
    found = filled(signal.threshold, words).value
    return float(found) if isinstance(found, int | float) else None


def words_for(signal: Signal, words: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the signal's own window, if it has one."""
    return words if signal.window_seconds is None else {**words, "window": f"{round(signal.window_seconds)}s"}


def _query(query: str, words: Mapping[str, Any]) -> str:
    found = filled(query, words)
    if found.unknown:
        raise SourceError("vllm-oncall", f"needs {', '.join('$' + name for name in found.unknown)} for this query")
    return str(found.value)


def _measured(metrics: Metrics, query: str) -> tuple[float | None, float | None, float | None]:
    asked = quantile_query(query)
    if asked is None:
        return number(metrics, query), None, None
    found = quantile(metrics, asked.quantile, asked.buckets)
    return (found.value, found.low, found.high) if found is not None else (None, None, None)


def _silent(signal: Signal, words: Mapping[str, Any], sources: Sources) -> str | None:
    # What looks at `up` knows of the silent ones itself, and other exporters do not fall silent with the engine.
    if "selector" not in names_in(signal.query) or any(name in signal.query for name in _NOT_THE_ENGINES):
        return None
    if reporting(sources, words["selector"]):
        return None
    return why_silent(sources.metrics, words["selector"])


def _traffic(signal: Signal, words: Mapping[str, Any], metrics: Metrics) -> float | None:
    return None if signal.traffic is None else number(metrics, _query(signal.traffic, words))
