"""A runbook's case file: readings, and the verdicts that must follow from them. The runbook's tests, as data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

from bot.incidents.judge import Finding, Observation, Verdict, judge
from bot.probes.finder import fields_of, probe_names
from bot.runbook.conditions import nearest
from bot.runbook.loading import Mistake, all_told, position, read_yaml
from bot.runbook.schema import Runbook

_WORDS = {"confirmed": Verdict.CONFIRMED, "ruled out": Verdict.RULED_OUT, "inconclusive": Verdict.INCONCLUSIVE}


class Case(pydantic.BaseModel):
    """readings: by step; a step that is not named has failed, a field that is not named is not known.

    expect: every rule that is named must come out so. first: the finding on top.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    readings: Mapping[str, Mapping[str, Any]]
    slo: Mapping[str, float] = pydantic.Field(default_factory=dict)
    expect: Mapping[str, Literal["confirmed", "ruled out", "inconclusive"]]
    first: str | None = None
    suppressed: tuple[str, ...] = ()


def run_all(runbooks: Mapping[str, Runbook], folder: Path) -> tuple[int, tuple[Mistake, ...]]:
    """How many cases there were, and what is wrong. A runbook without a file there has none."""
    there = [(book, folder / f"{name}.yaml") for name, book in sorted(runbooks.items())]
    files = [(book, path) for book, path in there if path.is_file()]
    documents = (read_yaml(path) for _, path in files)
    count = sum(len(document) for document in documents if isinstance(document, list))
    return count, tuple(mistake for book, path in files for mistake in run(book, path))


def run(runbook: Runbook, path: Path) -> tuple[Mistake, ...]:
    """What does not come out as the file expects, and which verdicts it does not show at all."""
    document = read_yaml(path)
    if isinstance(document, Mistake):
        return (document,)
    if not isinstance(document, list):
        return (Mistake(path, 1, 1, "is to be a list of cases: - name: …, readings: …, expect: …"),)
    cases: list[tuple[int, Case]] = []
    wrong: list[Mistake] = []
    for index, one in enumerate(document):
        try:
            cases.append((index, Case.model_validate(one)))
        except pydantic.ValidationError as error:
            wrong += all_told(path, document, error, Case, (index,))
    found = [
        Mistake(path, *position(document, (index, *place)), f"{case.name}: {text}")
        for index, case in cases
        for place, text in _wrong(runbook, case)
    ]
    if wrong:  # what they would show is not known
        return (*wrong, *found)
    return (*found, *(Mistake(path, 1, 1, text) for text in _not_shown(runbook, [case for _, case in cases])))


def judged(runbook: Runbook, case: Case) -> tuple[Finding, ...]:
    words = {"service": "sample", "kind": "deployment", "workload": "sample", "namespace": "sample", "window": "300s"}
    observations = [
        Observation(s.id, s.probe, s.ask or s.id, _whole(s.probe, case.readings[s.id]), None, 0.0)
        if s.id in case.readings
        else Observation(s.id, s.probe, s.ask or s.id, None, "did not answer", 0.0)
        for s in runbook.steps
    ]
    return judge(runbook, observations, {**words, **{f"slo.{name}": value for name, value in case.slo.items()}})


def _whole(probe: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**dict.fromkeys(fields_of(probe)), **given}


def _wrong(runbook: Runbook, case: Case) -> list[tuple[tuple[str, ...], str]]:
    if unknown := _unknown_names(runbook, case):
        return unknown
    findings = judged(runbook, case)
    verdicts = {finding.rule: finding.verdict for finding in findings}
    wrong: list[tuple[tuple[str, ...], str]] = [
        (("expect", rule), f"{rule} is {verdicts[rule].value}, not {wanted}")
        for rule, wanted in case.expect.items()
        if verdicts[rule] is not _WORDS[wanted]
    ]
    if case.first is not None and findings[0].rule != case.first:
        wrong.append((("first",), f"{findings[0].rule} is on top, not {case.first}"))
    hidden = {finding.rule for finding in findings if finding.suppressed_by is not None}
    wrong += [(("suppressed",), f"{rule} is not suppressed") for rule in case.suppressed if rule not in hidden]
    return wrong


def _unknown_names(runbook: Runbook, case: Case) -> list[tuple[tuple[str, ...], str]]:
    probes = {step.id: step.probe for step in runbook.steps if step.probe in probe_names()}
    rules = [rule.id for rule in runbook.rules]
    found: list[tuple[tuple[str, ...], str]] = []
    for step, fields in case.readings.items():
        if step not in probes:
            found.append((("readings", step), f"no step '{step}'{nearest(step, list(probes))}"))
            continue
        known = list(fields_of(probes[step]))
        found += [
            (("readings", step, field), f"no reading '{step}.{field}'{nearest(field, known)}")
            for field in fields
            if field not in known
        ]
    named = {"expect": tuple(case.expect), "first": (case.first,) if case.first else (), "suppressed": case.suppressed}
    found += [
        ((key,), f"no rule '{rule}'{nearest(rule, rules)}")
        for key, names in named.items()
        for rule in names
        if rule not in rules
    ]
    return found


def _not_shown(runbook: Runbook, cases: Sequence[Case]) -> list[str]:
    shown = {(rule, verdict) for case in cases for rule, verdict in case.expect.items()}
    return [
        f"no case in which {rule.id} is {verdict}"
        for rule in runbook.rules
        for verdict in _WORDS
        if (rule.id, verdict) not in shown
    ]
