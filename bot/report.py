"""Text before it is Slack or terminal: what a card, a thread message, or a command's answer says.

Text is written in a tiny markup that both renderers know: `*bold*`, backticks for code, and the tokens made by
`moment`, `mention` and `link`. Foreign text (label values, log lines, names typed by users) goes through `plain`.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta


def plain(value: object) -> str:
    """Foreign text, unable to mention anybody or to change the formatting around it."""
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.translate({ord("*"): "∗", ord("_"): "_", ord("~"): "∼", ord("`"): "ʹ"})


def moment(at: datetime, form: str = "time") -> str:
    """A time that Slack shows in the reader's zone. form: "time" | "date" (day and time)."""
    return f"<t:{int(at.timestamp())}:{form}>"


def duration(time: timedelta) -> str:
    """How long, in two units at most: 1.4 s, 48 s, 6 min 40 s, 2 h 5 min, 3 d 4 h."""
    seconds = time.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, big, small, step in ((86_400, "d", "h", 3_600), (3_600, "h", "min", 60), (60, "min", "s", 1)):
        if whole >= size:
            many, few = divmod(whole, size)
            return f"{many} {big} {few // step} {small}" if few // step else f"{many} {big}"
    return f"{whole} s"


def mention(slack_id: str) -> str:
    """`U…` a user, `S…` a user group."""
    return f"<@{slack_id}>"


def link(url: str, text: str) -> str:
    return f"<{url}|{plain(text)}>"


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Small print."""

    text: str


@dataclass(frozen=True, slots=True)
class Fields:
    """Short facts, shown in two columns at most."""

    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Verbatim lines: a diff, a log excerpt, a query. Never marked up."""

    text: str


class Style(enum.Enum):
    PLAIN = ""
    PRIMARY = "primary"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Button:
    """`action` names what is meant ("review", "ack"), `value` is an id; the store holds the rest."""

    label: str
    action: str
    value: str
    style: Style = Style.PLAIN


@dataclass(frozen=True, slots=True)
class Menu:
    """The overflow: at most five choices."""

    choices: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class Buttons:
    buttons: tuple[Button | Menu, ...]


Part = Text | Note | Fields | Code | Buttons


@dataclass(frozen=True, slots=True)
class Report:
    """`text` is the lock screen and the terminal's first line; `parts` is the whole."""

    text: str
    parts: tuple[Part, ...] = ()
