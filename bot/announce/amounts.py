"""Numbers as people say them: with a unit, no more digits than help, and a histogram's quantile as the range it is."""

import math
import re
from datetime import timedelta

from bot.incidents.incident import SignalReading
from bot.report import duration

_NUMBER = re.compile(r"^-?[\d,.]+")


def amount(value: float, unit: str) -> str:
    """`unit` as a runbook's signal names it; an unknown one is put behind the number as it is."""
    if math.isnan(value):
        return "no data"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    match unit:
        case "seconds":
            return _seconds(value)
        case "ratio":
            return f"{_digits(value * 100)} %"
        case "celsius":
            return f"{_digits(value)} °C"
        case "per_minute":
            return f"{_digits(value)}/min"
        case "count":
            return _digits(value)
        case _:
            return f"{_digits(value)} {unit}"


def amount_range(low: float | None, high: float | None, unit: str) -> str:
    """A bucket: 2.5–5 s, < 0.3 s, > 80 s."""
    open_below = low is None or low <= 0
    open_above = high is None or math.isinf(high)
    if open_below and open_above:
        return "no data"
    if low is None or open_below:
        return f"< {amount(high or 0, unit)}"
    if high is None or open_above:
        return f"> {amount(low, unit)}"
    if low == high:
        return amount(low, unit)
    lower, upper = amount(low, unit), amount(high, unit)
    if unit == "seconds" and low < 1 <= high < 100:
        lower = f"{low:.3g} s"  # 0.5–1 s, not 500 ms–1 s
    number, suffix = _NUMBER.match(lower), _NUMBER.sub("", upper)
    same_unit = number is not None and lower[number.end() :] == suffix
    return f"{lower.removesuffix(suffix)}–{upper}" if same_unit and suffix else f"{lower}–{upper}"


def reading(signal: SignalReading) -> str:
    """The signal's value alone: "2.5–5 s", "138", "no data"; "not known" if it could not be asked for."""
    if signal.error is not None:
        return "not known"
    if signal.low is not None or signal.high is not None:
        return amount_range(signal.low, signal.high, signal.unit)
    return "no data" if signal.value is None else amount(signal.value, signal.unit)


def is_bad(signal: SignalReading) -> bool | None:
    """Is it on the bad side of its threshold? None: not known, or the bucket straddles the threshold."""
    if signal.threshold is None:
        return None
    low = signal.low if signal.low is not None else signal.value
    high = signal.high if signal.high is not None else signal.value
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    if signal.direction == "below":
        return True if high <= signal.threshold else False if low >= signal.threshold else None
    return True if low >= signal.threshold else False if high <= signal.threshold else None


def _seconds(value: float) -> str:
    if abs(value) >= 100:
        return duration(timedelta(seconds=value))
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
