"""Did it help? The triggering signal before against after, under comparable traffic. Pure.

"Helped" is claimed only for a difference that noise does not make. The signal counts as better when it is
- back within its threshold: for a quantile the whole bucket, since where it lies inside was not measured; or
- clearly fallen: for a quantile there is at least one whole bucket between before and after (neighbouring buckets can
  hold two nearly equal values on both sides of one edge), for a plain number at least half of what it was beyond the
  threshold (half of its value, where no threshold is known) is gone.

Less traffic makes every signal better, so "helped" needs 80 % of the traffic of before. "Did not help" does not: what
is still bad under less traffic was not helped. Whatever cannot be compared is "cannot tell".
"""

import math
from dataclasses import dataclass

from bot.incidents.incident import SignalReading
from bot.remediation.proposal import Helped
from bot.report import plain

TRAFFIC_NEEDED = 0.8


@dataclass(frozen=True, slots=True)
class Outcome:
    helped: Helped
    sentence: str  # marked up: "TTFT P99 2.5–5 s → 0.25–0.5 s (limit 1 s), with 98 % of the traffic of before"


def judge(before: SignalReading | None, after: SignalReading | None) -> Outcome:
    """`after` was read when its whole window lay behind the change: what it says of earlier would not be fresh."""
    if before is None or unusable(before):
        return Outcome(Helped.CANNOT_TELL, unusable(before))
    if after is None or (unknown := _unread(after, "after it")):
        return Outcome(Helped.CANNOT_TELL, unknown if after else f"{plain(before.name)} was not read after the change")
    moved = f"{plain(after.name)} {reading_words(before)} → {reading_words(after)}{_limit(after)}"
    back = _within(after)
    if not back and not _clearly_better(before, after):
        worse = ", worse than before" if _clearly_better(after, before) else ""
        return Outcome(Helped.NO, f"{moved}{worse}{_traffic(before, after)}")
    if before.traffic is None or after.traffic is None:
        return Outcome(Helped.CANNOT_TELL, f"{moved}, but the traffic of before and after is not known")
    if after.traffic < TRAFFIC_NEEDED * before.traffic:
        share = f"{after.traffic / before.traffic * 100:.0f} %"
        return Outcome(Helped.CANNOT_TELL, f"{moved}, but only {share} of the traffic of before is there")
    still = "" if back else ", better, though still beyond its limit"
    return Outcome(Helped.YES, f"{moved}{still}{_traffic(before, after)}")


def unusable(before: SignalReading | None) -> str:
    """Why nothing could be compared with this reading from before, whatever comes after; "" if it can."""
    if before is None:
        return "no signal of what was changed is known (the incident's runbook names none, or one of another service)"
    if why := _unread(before, "before the change"):
        return why
    if _within(before):
        return f"{plain(before.name)} was {reading_words(before)}{_limit(before)}: within its limit before the change"
    return ""


def _unread(reading: SignalReading, when: str) -> str:
    if reading.error is not None:
        return f"{plain(reading.name)} could not be read {when}: {plain(reading.error)}"
    if reading.value is None or math.isnan(reading.value):
        return f"{plain(reading.name)} had no data {when}: nothing was served, or nothing was measured"
    return ""


def _edges(reading: SignalReading) -> tuple[float, float]:
    """The bucket; a plain number is a bucket without width. Above the last bucket there is no upper edge."""
    value = reading.value if reading.value is not None else math.nan
    if reading.low is None and reading.high is None:
        return value, value
    return (
        reading.low if reading.low is not None else -math.inf,
        reading.high if reading.high is not None else math.inf,
    )


def _within(reading: SignalReading) -> bool:
    if reading.threshold is None:
        return False
    low, high = _edges(reading)
    return low >= reading.threshold if reading.direction == "below" else high <= reading.threshold


def _clearly_better(before: SignalReading, after: SignalReading) -> bool:
    (low, high), (new_low, new_high) = _edges(before), _edges(after)
    if low != high or new_low != new_high:
        return new_low > high if before.direction == "below" else new_high < low
    limit = before.threshold if before.threshold is not None else 0.0
    beyond, left = low - limit, new_low - limit
    if before.direction == "below":
        if before.threshold is None:
            return new_low >= 2 * low > 0  # twice as good is the mirror of half as bad
        beyond, left = -beyond, -left
    return beyond > 0 and left <= beyond / 2


def _traffic(before: SignalReading, after: SignalReading) -> str:
    if not before.traffic or after.traffic is None:
        return ""
    return f", with {after.traffic / before.traffic * 100:.0f} % of the traffic of before"


def _limit(reading: SignalReading) -> str:
    return "" if reading.threshold is None else f" (limit {number_words(reading.threshold, reading.unit)})"


def reading_words(reading: SignalReading) -> str:
    """`2.5–5 s`, `138`, `over 80 s`, `no data`."""
    if reading.value is None:
        return "no data"
    low, high = _edges(reading)
    if low == high:
        return number_words(reading.value, reading.unit)
    if math.isinf(high):
        return f"over {number_words(low, reading.unit)}"
    if math.isinf(low):
        return f"up to {number_words(high, reading.unit)}"
    scale, unit = _scale(high, reading.unit)
    return f"{_short(low * scale)}–{_short(high * scale)}{unit}"


def number_words(value: float, unit: str) -> str:
    scale, suffix = _scale(value, unit)
    return f"{_short(value * scale)}{suffix}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    if unit == "seconds":
        return (1000, " ms") if 0 < abs(value) < 0.1 else (1, " s")
    return {"ratio": (100.0, " %"), "celsius": (1.0, " °C"), "per_minute": (1.0, "/min")}.get(unit, (1.0, ""))


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
