"""A quantile of a histogram is a range: the bucket it falls into. What lies between its edges was not measured."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bot.ports import Sample

_CALL = re.compile(r"\s*histogram_quantile\s*\(\s*(?P<quantile>[0-9.]+)\s*,(?P<inner>.*)\)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class QuantileRange:
    """low <= quantile <= high. `high` is None above the last bucket. `value` is what PromQL interpolates between."""

    low: float
    high: float | None
    value: float


@dataclass(frozen=True, slots=True)
class QuantileQuery:
    """`histogram_quantile(quantile, buckets)`, taken apart."""

    quantile: float
    buckets: str


def quantile_query(promql: str) -> QuantileQuery | None:
    """None if the query as a whole is anything else."""
    match = _CALL.fullmatch(promql)
    if match is None or not _balanced(match["inner"]):
        return None
    try:
        return QuantileQuery(float(match["quantile"]), match["inner"].strip())
    except ValueError:
        return None


def quantile_range(quantile: float, samples: Iterable[Sample]) -> QuantileRange | None:
    """From cumulative bucket counts or rates with their `le` labels; what else distinguishes them is added up.

    None where nothing was observed (an idle service), or where there is no `+Inf` bucket to know the total from.
    """
    counts: dict[float, float] = {}
    for sample in samples:
        edge = _edge(sample.labels.get("le"))
        if edge is not None and not math.isnan(sample.value):
            counts[edge] = counts.get(edge, 0.0) + sample.value
    total = counts.get(math.inf)
    if not total:
        return None
    rank = quantile * total
    low, below = 0.0, 0.0
    for edge in sorted(counts):
        # Rates of buckets that were scraped a moment apart may fall a little; PromQL takes the maximum so far, too.
        count = max(counts[edge], below)
        if count >= rank:
            return _within(low, edge, rank, below, count)
        low, below = edge, count
    return None


def _within(low: float, edge: float, rank: float, below: float, count: float) -> QuantileRange:
    if math.isinf(edge):
        return QuantileRange(low, None, low)
    share = (rank - below) / (count - below) if count > below else 1.0
    return QuantileRange(low, edge, low + (edge - low) * share)


def _edge(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _balanced(text: str) -> bool:
    """Does the first bracket that closes close one of this text's own? Brackets in label values do not count."""
    depth = 0
    for character in re.sub(r'"(?:\\.|[^"\\])*"', "", text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0
