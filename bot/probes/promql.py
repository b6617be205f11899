"""What does this query say now, and what did it say a while ago?"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.ports import Metrics, Sources
from bot.probes.asking import Later, number, quantile
from bot.vllm.buckets import quantile_query


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str  # one number; aggregate with sum or max
    offset_seconds: Annotated[float, Field(gt=0)] | None = None  # compare with so long ago


@dataclass(frozen=True, slots=True)
class Reading:
    value: float | None  # None: no data, or NaN
    value_low: float | None  # the bucket's edges, where the query is a histogram_quantile
    value_high: float | None
    baseline: float | None  # the value `offset_seconds` ago
    baseline_ratio: float | None  # value / baseline


def observe(params: Params, sources: Sources) -> Reading:
    now = Later(lambda: _measured(sources.metrics, params.query))
    baseline = None
    if params.offset_seconds is not None:
        then = sources.now - timedelta(seconds=params.offset_seconds)
        baseline = _measured(sources.metrics.at(then), params.query)[0]
    value, low, high = now.get()
    ratio = value / baseline if value is not None and baseline else None
    return Reading(value, low, high, baseline, ratio)


def _measured(metrics: Metrics, query: str) -> tuple[float | None, float | None, float | None]:
    asked = quantile_query(query)
    if asked is None:
        return number(metrics, query), None, None
    found = quantile(metrics, asked.quantile, asked.buckets)
    return (found.value, found.low, found.high) if found is not None else (None, None, None)
