"""What this floor needs of the store: which cards lack an edit, which thread messages lack a post."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bot.incidents.incident import ThreadMessage
from bot.remediation.proposal import RemediationTx
from bot.report import Report


@dataclass(frozen=True, slots=True)
class Card:
    """The one message of an incident. `shown` is the digest of the rendering that Slack has (`announce.seen` writes
    and reads it; the store only keeps it); None before the post."""

    incident: int
    channel: str
    ts: str | None
    shown: str | None
    attempted_at: datetime | None  # a post was begun, and its answer is not written down


@dataclass(frozen=True, slots=True)
class Waiting:
    """A thread message that is not in Slack yet. `id` is the order, and the marker of the message."""

    id: int
    message: ThreadMessage
    attempted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Whisper:
    """An answer to one person (a command's report, a refusal). Repeated after an unclear answer of Slack's, since twice
    is harmless; lost after an hour rather than late."""

    id: int
    channel: str
    user: str
    report: Report
    created_at: datetime
    attempted_at: datetime | None


class AnnounceTx(RemediationTx, Protocol):
    def stale_cards(self) -> Sequence[Card]:
        """Those that `show` marked since their last edit, oldest mark first."""
        ...

    def card(self, incident: int) -> Card | None: ...
    def card_attempted(self, incident: int, at: datetime) -> None: ...
    def card_shown(self, incident: int, ts: str, digest: str, mark: int) -> None: ...
    def card_mark(self, incident: int) -> int:
        """Grows with every `show`: read before rendering, handed to `card_shown`, so that a change made while Slack
        answered is not forgotten."""
        ...

    def card_moved(self, incident: int, channel: str) -> None:
        """The card goes to another channel than the incident's: Slack refused that one. Before its post only."""
        ...

    def waiting_messages(self, limit: int) -> Sequence[Waiting]:
        """The next one of each thread that is not posted, oldest first; only where the incident's card has a ts.

        One each, since a thread is posted in order: so a thousand waiting in one channel do not hide another's.
        """
        ...

    def message_attempted(self, id: int, at: datetime) -> None: ...
    def message_posted(self, id: int, ts: str) -> None: ...
    def whisper(self, channel: str, user: str, report: Report, at: datetime) -> None: ...
    def waiting_whispers(self, limit: int) -> Sequence[Whisper]: ...
    def whisper_attempted(self, id: int, at: datetime) -> None: ...
    def whisper_done(self, id: int) -> None: ...


class Store(Protocol):
    """Transactions on our database. `write` commits at the end of the block or not at all; `read` is one snapshot."""

    def write(self) -> AbstractContextManager[AnnounceTx]: ...
    def read(self) -> AbstractContextManager[AnnounceTx]: ...
