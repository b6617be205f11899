"""What people asked for: a click, a submitted dialog, a slash command. Any replica writes it down and answers Slack;
the leader acts on it. The row is unique by Slack's own id, so a repeated delivery is one request."""

import enum
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bot.announce.outbox import AnnounceTx


class RequestKind(enum.Enum):
    COMMAND = "command"  # payload: {"text": "diagnose high_latency"}
    CLICK = "click"  # payload: {"action": "ack", "value": "inc-142"}
    SUBMISSION = "submission"  # payload: {"callback": "review", "token": "inc-142-p2", "inputs": {...}}


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    key: str  # Slack's trigger_id, envelope id or view id: unique
    kind: RequestKind
    user: str
    channel: str
    payload: Mapping[str, Any]
    received_at: datetime


class RequestTx(AnnounceTx, Protocol):
    def ask(
        self, *, key: str, kind: RequestKind, user: str, channel: str, payload: Mapping[str, Any], at: datetime
    ) -> bool:
        """Write it down; False if this key is there already."""
        ...

    def requests(self, limit: int) -> Sequence[Request]:
        """Not yet acted on, oldest first."""
        ...

    def acted_on(self, id: int) -> None: ...


class Store(Protocol):
    """Transactions on our database. `write` commits at the end of the block or not at all; `read` is one snapshot."""

    def write(self) -> AbstractContextManager[RequestTx]: ...
    def read(self) -> AbstractContextManager[RequestTx]: ...
