"""From observations to findings: three-valued, pure, and never "fine" for lack of data."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.runbook.schema import Severity, Suggestion


class Verdict(enum.Enum):
    CONFIRMED = "confirmed"
    RULED_OUT = "ruled out"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Query:
    """One question put to Prometheus by a step, with what came back, for the thread."""

    promql: str
    value: str  # "138", "no data", "3 series"
    link: str


@dataclass(frozen=True, slots=True)
class Observation:
    """A step's answer: `reading` (the probe's Reading as JSON-like fields), or why there is none."""

    step: str
    probe: str
    ask: str
    reading: Mapping[str, Any] | None  # field -> value; None values mean "not known"
    error: str | None
    seconds: float
    queries: tuple[Query, ...] = ()
    log_excerpt: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule and its verdict. Ranked: confirmed first, by severity, then by specificity (number of conditions)."""

    rule: str
    verdict: Verdict
    severity: Severity
    title: str
    text: str
    because: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # for inconclusive: what could not be known ("gpu: not exported")
    suggest: tuple[Suggestion, ...] = ()  # with readings and targets filled in
    suppressed_by: str | None = None
    note: str | None = None
