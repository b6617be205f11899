"""What was measured, beside its goal, for somebody who reads it for the first time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`met` is None for a number that stands there for comparison only."""

    what: str
    measured: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    how: str  # what was done, in a sentence or two
    rows: Sequence[Row]


def missed(sections: Iterable[Section]) -> int:
    return sum(row.met is False for section in sections for row in section.rows)


def text(section: Section) -> str:
    """For a terminal."""
    rows = [("", "measured", "goal", ""), *(_cells(row) for row in section.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"\n{section.title}", section.how, "", *(f"  {line}" for line in lines)])


def markdown(section: Section) -> str:
    rows = [("", "measured", "goal", ""), ("---",) * 4, *(_cells(row) for row in section.rows)]
    return "\n".join([f"## {section.title}", "", section.how, "", *("| " + " | ".join(row) + " |" for row in rows)])


def _cells(row: Row) -> tuple[str, str, str, str]:
    verdict = {None: "", True: "met", False: "MISSED"}[row.met]
    return row.what, row.measured, row.goal, verdict


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
