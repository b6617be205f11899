"""Reads the tiny markup of `bot.report` back: the tokens for times, people and links, and the text between them.

Each renderer (Slack, terminal) decides what a token becomes; here alone it is decided what a token is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_TOKEN = re.compile(
    r"<t:(?P<at>\d+):(?P<form>time|date)>|<@(?P<who>[A-Z0-9]+)>|<(?P<url>https?://[^|>\s]+)\|(?P<text>[^<>]*)>"
)


@dataclass(frozen=True, slots=True)
class Moment:
    at: datetime
    form: str


@dataclass(frozen=True, slots=True)
class Person:
    """`U…` a user, `S…` a user group."""

    id: str


@dataclass(frozen=True, slots=True)
class Link:
    url: str
    text: str  # escaped, as `plain` left it


Piece = str | Moment | Person | Link


def pieces(text: str) -> Iterator[Piece]:
    """What is no token comes back as it is: escaped by `plain` where it was foreign, raw where we wrote it."""
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            yield text[end : found.start()]
        end = found.end()
        if found["at"]:
            yield Moment(datetime.fromtimestamp(int(found["at"]), UTC), found["form"])
        elif found["who"]:
            yield Person(found["who"])
        else:
            yield Link(found["url"], found["text"])
    if end < len(text):
        yield text[end:]


def unescaped(text: str) -> str:
    """What `plain` made of foreign text, as it was: for places without formatting (a terminal, a button's label)."""
    back = text.translate({ord("∗"): "*", ord("∼"): "~", ord("ʹ"): "`"})
    return back.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def unformatted(text: str) -> str:
    """Our own text without its bold and code marks. Foreign marks are not among them: `plain` changed those."""
    return text.replace("*", "").replace("`", "")
