"""A probe's Reading in words, led by its field names: units are in them, `…_low_…`/`…_high_…` are a bucket's edges,
and `missing` says what could not be measured. What is not known is left to `missing`, or told if nothing else is."""

from collections.abc import Iterator, Mapping
from typing import Any

from bot.announce.amounts import amount, amount_range
from bot.report import plain

ITEMS = 8
WORD_CHARACTERS = 100
MISSING = "missing"

# Part of a field's name -> the unit of its value, and how the name reads without it.
_UNITS = {
    "per_minute": "per_minute",
    "per_second": "/s",
    "seconds": "seconds",
    "minutes": "min",
    "celsius": "celsius",
    "ratio": "ratio",
    "percent": "%",
    "tokens": "tokens",
    "bytes": "bytes",
}


def in_words(reading: Mapping[str, Any]) -> list[str]:
    """Short facts, each for itself."""
    facts = list(_facts({k: v for k, v in reading.items() if k != MISSING}))
    return facts or ["not known"]


def missing(reading: Mapping[str, Any] | None) -> str | None:
    """What could not be measured although the question was answered, in the probe's words."""
    told = reading.get(MISSING) if reading is not None else None
    return str(told) if told else None


def short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= WORD_CHARACTERS else one_line[: WORD_CHARACTERS - 1] + "…"


def _facts(reading: Mapping[str, Any]) -> Iterator[str]:
    for name, value in reading.items():
        upper = name.replace("_low", "_high")
        if upper != name and upper in reading:
            if value is not None or reading[upper] is not None:
                words, unit = _named(name.replace("_low", ""))
                yield f"{words} {_edges(value, reading[upper], unit)}"
        elif value is None or ("_high" in name and name.replace("_high", "_low") in reading):
            continue
        elif isinstance(value, Mapping | list | tuple):
            yield f"{_named(name)[0]}: {_items(value)}"
        else:
            words, unit = _named(name)
            yield f"{words} {_value(value, unit)}"


def _named(name: str) -> tuple[str, str]:
    """The name as words, and the unit of its value."""
    part = next((p for p in _UNITS if f"_{p}_" in f"_{name}_"), None)
    rest = f"_{name}_".replace(f"_{part}_", "_", 1).strip("_") if part else name
    return plain((rest or name).replace("_", " ")), _UNITS[part] if part else "count"


def _edges(low: Any, high: Any, unit: str) -> str:
    if unit in ("bytes", "/s", "min"):
        return f"{_value(low, unit)} to {_value(high, unit)}"
    return amount_range(low, high, unit)


def _value(value: object, unit: str = "count") -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return f"({_items(value)})"
    if isinstance(value, int | float):
        if unit == "bytes":
            return f"{value / 2**30:.3g} GiB"
        return f"{amount(float(value), 'count')}/s" if unit == "/s" else amount(float(value), unit)
    return plain(short(str(value)))


def _items(value: Any) -> str:
    if isinstance(value, Mapping):
        words = [f"{plain(k)} {_value(v, _named(str(k))[1])}" for k, v in value.items()]
    else:
        words = [_value(v) for v in value]
    shown = ", ".join(words[:ITEMS])
    return f"{shown} and {len(words) - ITEMS} more" if len(words) > ITEMS else shown or "none"
