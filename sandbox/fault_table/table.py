"""The table as it is printed: one line a row, as soon as it is known, and a sum at the end."""

import textwrap
from collections.abc import Callable, Sequence

from sandbox.fault_table.grading import Grade
from sandbox.fault_table.outcome import Outcome

_WIDTHS = (38, 14, 30, 22, 14, 7, 34)
_HEAD = ("fault", "part", "expected", "verdict", "grade", "seconds", "vllm-doctor 0.6")
NOTHING = "nothing confirmed"


class Table:
    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self.outcomes: list[Outcome] = []

    def head(self) -> None:
        self._line(_HEAD)
        self._say("  ".join("-" * width for width in _WIDTHS))

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._line(cells(outcome))

    def foot(self) -> None:
        total = len(self.outcomes)
        grades = [None if outcome.graded is None else outcome.graded.grade for outcome in self.outcomes]
        counts = {grade: grades.count(grade) for grade in Grade}
        self._say("")
        self._say(
            f"{total} rows: {counts[Grade.RIGHT]} right, {counts[Grade.INCONCLUSIVE]} inconclusive, "
            f"{counts[Grade.WRONG]} wrong, {grades.count(None)} in which the fault could not be shown"
        )
        for outcome in self.outcomes:
            if not outcome.right:
                self._say(f"\n{outcome.story}")

    def _line(self, texts: Sequence[str]) -> None:
        wrapped = [textwrap.wrap(text, width) or [""] for text, width in zip(texts, _WIDTHS, strict=True)]
        for number in range(max(map(len, wrapped))):
            parts = [lines[number] if number < len(lines) else "" for lines in wrapped]
            self._say("  ".join(part.ljust(width) for part, width in zip(parts, _WIDTHS, strict=True)).rstrip())


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Seconds are those of the bot's look, from the alert's labels to the verdict."""
    row = outcome.row
    fault = f"{row.name}: {row.fault}"  # by its name it can be played alone
    expected = [rule if word == "confirmed" else f"{rule}: {word}" for rule, word in row.expect.items()]
    leads = any(word == "confirmed" for word in row.expect.values())
    wanted = ", ".join(expected) if leads else ", ".join([NOTHING, *expected])
    if outcome.graded is None or outcome.diagnosed is None:
        return (fault, row.part, wanted, "not diagnosed", "not shown", "", outcome.doctor or "")
    said = ", ".join(outcome.graded.confirmed) or NOTHING
    seconds = f"{outcome.diagnosed.seconds:.1f}"
    grade = outcome.graded.grade.value + (" (looked again)" if outcome.looks > 1 else "")
    return (fault, row.part, wanted, said, grade, seconds, outcome.doctor or "not asked")
