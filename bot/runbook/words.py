"""Puts readings and targets into a runbook's words: `${queue.waiting}` requests wait on `$service`.

Python's string.Template, and nothing more: whoever wants logic writes a rule, or a probe.
"""

import datetime
import math
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_KNOWN = "not known"

# What a runbook may name besides readings. `slo.…` are the service's promises.
TARGET_WORDS = ("service", "kind", "workload", "namespace", "pod", "node", "place", "selector", "window", "began")
_READING = re.compile(r"(?P<stem>.+)_(?P<unit>[a-z]+)")


class _Template(string.Template):
    # `$slo.ttft_p99_seconds` bare; everything else with a dot in braces, as `$service.` may end a sentence.
    idpattern = r"(?a:slo\.[a-z][a-z0-9_]*|[a-z][a-z0-9_]*)"
    braceidpattern = r"(?a:[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)"
    flags = re.VERBOSE  # names are small letters only: `$PATH` in a command is a mistake, and is said to be one


@dataclass(frozen=True, slots=True)
class Filled:
    value: Any
    unknown: tuple[str, ...]  # names for which there was nothing


def names_in(value: Any) -> tuple[str, ...]:
    """All names that a text, or the texts in a list or mapping, want filled."""
    if isinstance(value, str):
        return tuple(dict.fromkeys(_Template(value).get_identifiers()))
    if isinstance(value, Mapping):
        return tuple(dict.fromkeys(name for item in value.values() for name in names_in(item)))
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(name for item in value for name in names_in(item)))
    return ()


def broken(value: Any) -> str | None:
    """A `$` that begins no name, in words; None if all do."""
    if isinstance(value, str):
        if _Template(value).is_valid():
            return None
        return f"a lone $ in {value!r}: names are $service or ${{step.field}}, a dollar sign itself is $$"
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for item in items if (found := broken(item)) is not None), None)


def filled(value: Any, given: Mapping[str, Any]) -> Filled:
    """Raw values, for parameters and queries: a text that is one name becomes that name's value, number or not."""
    unknown: list[str] = []

    def put(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: put(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [put(inner) for inner in item]
        if not isinstance(item, str):
            return item
        names = names_in(item)
        unknown.extend(name for name in names if given.get(name) is None)
        if len(names) == 1 and item in (f"${names[0]}", f"${{{names[0]}}}"):
            return given.get(names[0])
        return _Template(item).safe_substitute({name: _plain(given.get(name)) for name in names})

    return Filled(put(value), tuple(dict.fromkeys(unknown)))


def sentence(text: str, readings: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]) -> Filled:
    """For people: numbers with their units, `not known` where there is nothing."""
    unknown: list[str] = []

    def word(name: str) -> str:
        step, dot, field = name.partition(".")
        written = amount(field, readings.get(step, {})) if dot and step != "slo" else _target(name, given)
        if written is None:
            unknown.append(name)
        return written or NOT_KNOWN

    return Filled(_Template(text).safe_substitute({name: word(name) for name in names_in(text)}), tuple(unknown))


def _target(name: str, given: Mapping[str, Any]) -> str | None:
    value = given.get(name)
    return None if value is None else written(name, value)


def amount(field: str, reading: Mapping[str, Any]) -> str | None:
    """A reading's field with its unit; `ttft_p99_seconds` stands for its low and high edges. None: not known."""
    if field in reading:
        value = reading[field]
        return None if value is None else written(field, value)
    edges = range_fields(field)
    if edges is None or reading.get(edges[0]) is None:
        return None
    low, high = reading[edges[0]], reading.get(edges[1])
    if high is None:
        return f"over {written(field, low)}"
    if not low:
        return f"under {written(field, high)}"
    first, second = written(field, low), written(field, high)
    number, _, unit = first.partition(" ")
    return f"{number}–{second}" if unit and second.endswith(f" {unit}") else f"{first}–{second}"


def range_fields(field: str) -> tuple[str, str] | None:
    """`ttft_p99_seconds` -> (`ttft_p99_low_seconds`, `ttft_p99_high_seconds`)."""
    match = _READING.fullmatch(field)
    if match is None:
        return None
    return f"{match['stem']}_low_{match['unit']}", f"{match['stem']}_high_{match['unit']}"


def written(name: str, value: Any) -> str:
    """A value as people write it; the unit is in the name."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if not isinstance(value, int | float):
        return str(value)
    words = name.rpartition(".")[2].split("_")
    if name.endswith("_per_minute"):
        return f"{_short(value)}/min"
    if name.endswith("_per_second"):
        return f"{_short(value)}/s"
    if "ratio" in words:
        # A share of a whole, or a comparison: names of the first say of what.
        return f"{_short(value)}×" if words[-1] == "ratio" and value > 1.5 else f"{_short(100 * value)} %"
    if words[-1] == "seconds":
        return duration(value)
    if "minutes" in words:
        return duration(60 * value)
    if words[-1] == "tokens":
        return f"{_large(value)} tokens"
    if words[-1] == "bytes":
        return f"{_short(value / 2**30)} GiB"
    if words[-1] == "celsius":
        return f"{_short(value)} °C"
    return _large(value)


def duration(seconds: float) -> str:
    size = abs(seconds)
    if size < 1 and size:
        return f"{_short(seconds * 1000)} ms"
    if size < 100:
        return f"{_short(seconds)} s"
    if size < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" if rest == 0 or size >= 600 else f"{minutes} min {rest} s"
    hours = seconds / 3600
    return f"{_short(hours)} h" if abs(hours) < 48 else f"{_short(hours / 24)} days"


def _short(value: float) -> str:
    """Two significant digits, but no fewer than the whole number."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10 or value == round(value):
        return str(round(value))
    return f"{value:.2g}"


def _large(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return _short(value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value == round(value) and abs(value) < 1e15:
        return str(round(value))
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)
