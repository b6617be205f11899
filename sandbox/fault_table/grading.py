"""Was the diagnosis right? Pure: findings and a row's expectation in, a grade out."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.incidents.judge import Finding, Verdict
from sandbox.fault_table.rows import Expected


class Grade(enum.Enum):
    RIGHT = "right"
    INCONCLUSIVE = "inconclusive"  # less was said than could have been
    WRONG = "WRONG"  # something was said that is not so


@dataclass(frozen=True, slots=True)
class Graded:
    grade: Grade
    confirmed: tuple[str, ...]  # rules that lead, in the order of the card
    faults: tuple[str, ...]  # what was not as expected, in words


# Expected -> found -> the grade; where a rule leads or is explained away is told apart by `_found`.
_GRADES: Mapping[Expected, Mapping[str, Grade]] = {
    "confirmed": {
        "confirmed": Grade.RIGHT,
        "explained": Grade.WRONG,
        "ruled out": Grade.WRONG,
        "inconclusive": Grade.INCONCLUSIVE,
    },
    "explained": {
        "confirmed": Grade.WRONG,
        "explained": Grade.RIGHT,
        "ruled out": Grade.RIGHT,
        "inconclusive": Grade.RIGHT,
    },
    "ruled out": {
        "confirmed": Grade.WRONG,
        "explained": Grade.WRONG,
        "ruled out": Grade.RIGHT,
        "inconclusive": Grade.INCONCLUSIVE,
    },
    # What cannot be known must not be called known, whichever way.
    "inconclusive": {
        "confirmed": Grade.WRONG,
        "explained": Grade.WRONG,
        "ruled out": Grade.WRONG,
        "inconclusive": Grade.RIGHT,
    },
}
OR = "|"  # `worker_killed|worker_died: confirmed`: one of the two, as it depends on a race which of them is to be seen
_ORDER = (Grade.RIGHT, Grade.INCONCLUSIVE, Grade.WRONG)


def graded(expect: Mapping[str, Expected], findings: Sequence[Finding]) -> Graded:
    """A rule that the row does not name must not be confirmed, not as a symptom either."""
    found: dict[str, str] = {finding.rule: _found(finding) for finding in findings}
    confirmed = tuple(f.rule for f in findings if _found(f) == "confirmed")
    marks: list[tuple[Grade, str]] = []
    for key, wanted in expect.items():
        rules = key.split(OR)
        if missing := [rule for rule in rules if rule not in found]:
            marks.append((Grade.WRONG, f"the runbook has no rule {', '.join(missing)}"))
            continue
        grade, rule = min(
            ((_GRADES[wanted][found[rule]], rule) for rule in rules), key=lambda one: _ORDER.index(one[0])
        )
        if grade is not Grade.RIGHT:
            marks.append((grade, f"{rule} is {found[rule]}, expected {wanted}{_why(rule, findings)}"))
    named = {rule for key in expect for rule in key.split(OR)}
    for finding in findings:
        if finding.rule not in named and finding.verdict is Verdict.CONFIRMED:
            marks.append((Grade.WRONG, f"{finding.rule} is {found[finding.rule]}, expected not: {finding.text}"))
    worst = max((grade for grade, _ in marks), key=_ORDER.index, default=Grade.RIGHT)
    return Graded(worst, confirmed, tuple(text for _, text in marks))


def _found(finding: Finding) -> str:
    return "explained" if finding.suppressed_by is not None else finding.verdict.value


def _why(rule: str, findings: Sequence[Finding]) -> str:
    unknown = next(f.unknown for f in findings if f.rule == rule)
    return f" ({'; '.join(unknown)})" if unknown else ""
