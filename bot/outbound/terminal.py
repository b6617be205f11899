"""Report as a terminal shows it: the same words, times in the reader's zone, no marks that only Slack knows."""

import re
import textwrap
from collections.abc import Iterator
from datetime import tzinfo

from bot.outbound.markup import Link, Moment, Person, Piece, pieces, unescaped, unformatted
from bot.report import Buttons, Code, Fields, Note, Part, Report, Text

WIDTH = 100
_SHORTCODE = re.compile(r"(?<!\S):[a-z][a-z0-9_+-]+:(?: |$)")  # not inside `job:requests:rate`
# What an icon alone would say is said by these; the others only decorate.
_ICONS = {
    ":red_circle:": "!!",
    ":large_yellow_circle:": "!",
    ":warning:": "!",
    ":rotating_light:": "!!",
    ":see_no_evil:": "?",
    ":grey_question:": "?",
}


def render(report: Report, *, zone: tzinfo | None = None, width: int = WIDTH) -> str:
    """`zone`: whose times; None is the machine's own. Ends with a newline."""
    blocks = ["\n".join(_lines(part, zone, width)) for part in report.parts or (Text(report.text),)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _lines(part: Part, zone: tzinfo | None, width: int) -> Iterator[str]:
    match part:
        case Text(text) | Note(text):
            for line in said(text, zone).split("\n"):
                yield from textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        case Fields(fields):
            yield from (f"  {said(field, zone)}" for field in fields)
        case Code(text):
            yield from (f"    {line}" for line in text.split("\n"))
        case Buttons():
            return  # pressed in Slack, where it is known who presses


def said(text: str, zone: tzinfo | None) -> str:
    return _without_icons("".join(_piece(piece, zone) for piece in pieces(text)))


def _piece(piece: Piece, zone: tzinfo | None) -> str:
    match piece:
        case Moment(at, form):
            local = at.astimezone(zone)
            return local.strftime("%H:%M" if form == "time" else "%Y-%m-%d %H:%M")
        case Person(who):
            return f"@{who}"
        case Link(url, text):
            return f"{unescaped(text)} ({url})"
        case _:
            return unescaped(unformatted(piece))


def _without_icons(text: str) -> str:
    def icon(found: re.Match[str]) -> str:
        word = _ICONS.get(found[0].strip())
        return f"{word} " if word else ""

    return _SHORTCODE.sub(icon, text)
