"""From observations to findings: three-valued, pure, and never "fine" for lack of data."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bot.runbook.conditions import ConditionError, Truth, compiled
from bot.runbook.schema import Rule, Runbook, Severity, Suggestion
from bot.runbook.words import Filled, filled, sentence


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
    unknown: tuple[str, ...] = ()  # what could not be known, by step: "gpu: DCGM_FI_DEV_GPU_UTIL is not exported"
    suggest: tuple[Suggestion, ...] = ()  # with readings and targets filled in
    suppressed_by: str | None = None
    note: str | None = None


def judge(runbook: Runbook, observations: Sequence[Observation], words: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Every rule's finding, ranked. `words`: what the runbook's `$service` … `$slo.ttft_p99_seconds` stand for.

    One false condition rules a rule out; else one unknown makes it inconclusive; else it is confirmed.
    """
    seen = {o.step: o for o in observations}
    readings: dict[str, Mapping[str, Any]] = {step.id: _reading(seen.get(step.id)) for step in runbook.steps}
    slo = {name.removeprefix("slo."): value for name, value in words.items() if name.startswith("slo.")}
    findings = [_finding(rule, {**readings, "slo": slo}, seen, words) for rule in runbook.rules]
    ranked = sorted(zip(findings, runbook.rules, strict=True), key=_rank)
    return _suppressed(ranked)


def _reading(observation: Observation | None) -> Mapping[str, Any]:
    return (observation.reading or {}) if observation is not None else {}


def _finding(
    rule: Rule, readings: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Observation], words: Mapping[str, Any]
) -> Finding:
    truths = [_truth(source, readings) for source in rule.when]
    told = sentence(rule.finding, readings, words)
    lines = [sentence(line, readings, words) for line in rule.because]
    lacking: tuple[str, ...] = ()
    if any(t.value is False for t in truths):
        verdict = Verdict.RULED_OUT
    elif any(t.value is None for t in truths):
        verdict, lacking = Verdict.INCONCLUSIVE, _why_unknown(truths, seen)
    else:
        # What no condition needed, but a line of evidence would have told: said as "not checked".
        verdict, lacking = Verdict.CONFIRMED, _why_lacking([n for line in lines for n in line.unknown], seen)
    return Finding(
        rule=rule.id,
        verdict=verdict,
        severity=rule.severity,
        title=rule.title,
        text=" ".join(str(told.value).split()),
        because=tuple(str(line.value) for line in lines if not line.unknown),
        unknown=lacking,
        suggest=tuple(_suggestion(s, readings, words) for s in rule.suggest),
        note=rule.note,
    )


def _truth(source: str, readings: Mapping[str, Mapping[str, Any]]) -> Truth:
    try:
        return compiled(source).truth(readings)
    except ConditionError as error:  # refused when runbooks are loaded; never guessed at here
        return Truth(None, (), f"`{source}` {error}")


def _why_unknown(truths: Sequence[Truth], seen: Mapping[str, Observation]) -> tuple[str, ...]:
    unknown = [t for t in truths if t.value is None]
    names = [str(reference) for t in unknown for reference in t.unknown]
    return (*_why_lacking(names, seen), *(t.error for t in unknown if t.error is not None))


def _why_lacking(names: Sequence[str], seen: Mapping[str, Observation]) -> tuple[str, ...]:
    """`gpu: DCGM_FI_DEV_GPU_UTIL is not exported`: one line a step, with its own reason where it gives one."""
    by_step: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        step, _, field = name.partition(".")
        by_step.setdefault(step, []).append(field)
    return tuple(f"{step}: {_reason(step, fields, seen.get(step))}" for step, fields in by_step.items())


def _reason(step: str, fields: Sequence[str], observation: Observation | None) -> str:
    lacking = " and ".join(field for field in fields if field)
    if step == "slo":
        return f"fleet.yaml promises no {lacking}"
    if observation is None:
        return f"{lacking} was not asked" if lacking else "not known for this alert"
    if observation.error is not None:
        return observation.error
    missing = (observation.reading or {}).get("missing")
    return str(missing) if missing else f"no {lacking}"


def _suggestion(
    suggestion: Suggestion, readings: Mapping[str, Mapping[str, Any]], words: Mapping[str, Any]
) -> Suggestion:
    given = {**words, **{f"{step}.{name}": value for step, found in readings.items() for name, value in found.items()}}
    by_hand = None if suggestion.by_hand is None else filled(suggestion.by_hand, given)
    return suggestion.model_copy(
        update={
            # What is not known is left out; the action then says what it lacks, or takes its own default.
            "with_": {name: one.value for name, one in _each(suggestion.with_, given) if not one.unknown},
            "why": str(sentence(suggestion.why, readings, words).value),
            "by_hand": None if by_hand is None else _command(by_hand),
        }
    )


def _each(with_: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Filled]]:
    return ((name, filled(value, given)) for name, value in with_.items())


def _command(by_hand: Filled) -> str:
    """A command with a hole in it must not look like one that can be run."""
    text = str(by_hand.value)
    return text if not by_hand.unknown else f"{text}   # fill in: {', '.join(by_hand.unknown)}"


_ORDER = (Verdict.CONFIRMED, Verdict.INCONCLUSIVE, Verdict.RULED_OUT)


def _rank(pair: tuple[Finding, Rule]) -> tuple[int, int, int]:
    finding, rule = pair
    return _ORDER.index(finding.verdict), -finding.severity.rank, -len(rule.when)


def _suppressed(ranked: Sequence[tuple[Finding, Rule]]) -> tuple[Finding, ...]:
    """A confirmed cause explains its confirmed symptoms, which then stand behind the others."""
    by: dict[str, str] = {}
    for finding, rule in ranked:
        if finding.verdict is Verdict.CONFIRMED and rule.id not in by:
            for symptom in rule.suppresses:
                by.setdefault(symptom, rule.id)
    marked = [
        replace(f, suppressed_by=by[f.rule]) if f.verdict is Verdict.CONFIRMED and f.rule in by else f
        for f, _ in ranked
    ]
    return tuple(sorted(marked, key=lambda f: (_ORDER.index(f.verdict), f.suppressed_by is not None)))
