"""What Slack has of a card, as one short word in the store: the rendering's digest, and whether its post called
somebody. The latter decides whether the verdict still has to ring a phone."""

import hashlib
from dataclasses import dataclass

from bot.report import Report

_CALLED, _QUIET = "!", "."


@dataclass(frozen=True, slots=True)
class Seen:
    digest: str
    called: bool


def digest(report: Report) -> str:
    """Frozen dataclasses of text: equal reports have equal reprs, here and in the next version's process."""
    return hashlib.sha256(repr(report).encode()).hexdigest()[:32]


def written(seen: Seen) -> str:
    return (_CALLED if seen.called else _QUIET) + seen.digest


def read(shown: str | None) -> Seen | None:
    return None if shown is None else Seen(shown[1:], shown.startswith(_CALLED))


def marker(incident: int, *, called: bool) -> str:
    """What a card is found by. It tells the two kinds of first post apart, for the case that the bot dies between the
    post and writing it down."""
    return f"card-inc-{incident}" + ("-called" if called else "")
