"""What came of one row: the grade, and what was seen on the way, for the table and for a failing test."""

from dataclasses import dataclass

from sandbox.fault_table.bot_side import Diagnosed
from sandbox.fault_table.grading import Graded
from sandbox.fault_table.rows import Row


class NotShownError(AssertionError):
    """What the row does did not have the effect that it states: the parts are not in the state to be diagnosed."""


@dataclass(frozen=True)
class Outcome:
    row: Row
    graded: Graded | None  # None: it never came to a diagnosis
    diagnosed: Diagnosed | None
    seconds: float  # of the whole row
    doctor: str | None = None
    looks: int = 1  # 2: it was inconclusive at first, and looked at once more
    error: str | None = None  # why it never came to a diagnosis

    @property
    def right(self) -> bool:
        return self.graded is not None and not self.graded.faults

    @property
    def story(self) -> str:
        """All that one wants to read when the verdict was not the expected one."""
        if self.graded is None or self.diagnosed is None:
            return f"{self.row.name}: {self.error}"
        found = self.diagnosed
        lines = [f"{self.row.name} ({self.row.fault}):", *(f"  {text}" for text in self.graded.faults)]
        lines.append(f"runbook {found.runbook}, target {found.target}")
        lines += [
            f"  {f.rule}: {f.verdict.value}{f' (explained by {f.suppressed_by})' if f.suppressed_by else ''}: {f.text}"
            + "".join(f"\n      unknown: {text}" for text in f.unknown)
            for f in found.round.findings
        ]
        lines += [
            f"  {o.step} = {o.error or _known(o.reading or {})}  [{o.seconds:.2f} s]" for o in found.round.observations
        ]
        return "\n".join(lines)


def _known(reading: object) -> str:
    fields = reading.items() if isinstance(reading, dict) else ()
    return ", ".join(f"{name}={value!r}" for name, value in fields if value is not None) or "nothing"
