"""Our markup in Slack's words: mrkdwn for blocks, and the plain line that a lock screen shows."""

import re
from collections.abc import Callable
from datetime import datetime

from bot.outbound.markup import Link, Moment, Person, Piece, pieces, unescaped, unformatted

# What stands for a person: a name that rings nobody, or a mention.
Naming = Callable[[str], str]

_DATE = {"time": "{time}", "date": "{date_short_pretty} {time}"}
_STRAY_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt);)")


def called(who: str) -> str:
    """A mention. In a post it rings a phone; in an edit it does not."""
    return f"<!subteam^{who}>" if who.startswith("S") else f"<@{who}>"


def mrkdwn(text: str, naming: Naming) -> str:
    return "".join(_in_slack(piece, naming) for piece in pieces(text))


def lock_screen(text: str, naming: Naming) -> str:
    """Without formatting, and times in UTC: a lock screen knows neither."""
    return "".join(_on_a_lock_screen(piece, naming) for piece in pieces(text))


def escaped(text: str) -> str:
    """Slack reads `<…>` and `&…;`: what we wrote as text must not be taken for those. What is escaped stays so."""
    return _STRAY_AMPERSAND.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


def verbatim(text: str) -> str:
    """For the inside of a code block."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "ʹʹʹ")


def label(text: str, limit: int) -> str:
    """For plain_text: a button, a title."""
    whole = unescaped(unformatted(text))
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def utc(at: datetime, form: str) -> str:
    return at.strftime("%H:%M UTC" if form == "time" else "%Y-%m-%d %H:%M UTC")


def _in_slack(piece: Piece, naming: Naming) -> str:
    match piece:
        case Moment(at, form):
            return f"<!date^{int(at.timestamp())}^{_DATE[form]}|{utc(at, form)}>"
        case Person(who):
            return naming(who)
        case Link(url, text):
            return f"<{url}|{text}>"
        case _:
            return escaped(piece)


def _on_a_lock_screen(piece: Piece, naming: Naming) -> str:
    match piece:
        case Moment(at, form):
            return utc(at, form)
        case Person(who):
            return naming(who)
        case Link(_, text):
            return text
        case _:
            return escaped(unformatted(piece))
