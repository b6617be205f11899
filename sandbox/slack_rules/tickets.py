"""What Slack hands out with an interaction and honours only so long: trigger ids and response addresses. Pure."""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from sandbox.slack_rules.refused import RefusedError


@dataclass(frozen=True)
class Trigger:
    app_id: str
    user: str
    issued_at: float


class Reply(StrEnum):
    """What a response address belongs to."""

    COMMAND = "command"
    MESSAGE = "message"


@dataclass(frozen=True)
class ResponseTicket:
    app_id: str
    user: str
    channel: str
    message_ts: str | None  # of the message that was clicked, which the reply may replace or delete
    issued_at: float

    @property
    def kind(self) -> Reply:
        return Reply.MESSAGE if self.message_ts else Reply.COMMAND


@dataclass
class Tickets:
    trigger_seconds: float = 3
    response_seconds: float = 30 * 60
    response_uses: int = 5
    _triggers: dict[str, Trigger] = field(default_factory=dict)
    _exchanged: set[str] = field(default_factory=set)
    _responses: dict[str, ResponseTicket] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=dict)

    def new_trigger(self, app_id: str, user: str, now: float) -> str:
        trigger_id = f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
        self._triggers[trigger_id] = Trigger(app_id, user, now)
        return trigger_id

    def exchange(self, trigger_id: str | None, app_id: str, now: float, *, strict: bool) -> Trigger:
        """Use a trigger id up. Raises RefusedError as views.open answers; without `strict` age and use are free."""
        trigger = self._triggers.get(trigger_id or "")
        if trigger_id is None or trigger is None or trigger.app_id != app_id:
            raise RefusedError("invalid_trigger_id")
        if strict and trigger_id in self._exchanged:
            raise RefusedError("exchanged_trigger_id")
        if strict and now - trigger.issued_at > self.trigger_seconds:
            raise RefusedError("expired_trigger_id")
        self._exchanged.add(trigger_id)
        return trigger

    def new_response(self, app_id: str, user: str, channel: str, message_ts: str | None, now: float) -> str:
        """The last part of a response address."""
        secret = secrets.token_urlsafe(24)
        self._responses[secret] = ResponseTicket(app_id, user, channel, message_ts, now)
        return secret

    def use_response(self, secret: str, now: float, *, strict: bool) -> ResponseTicket:
        ticket = self._responses.get(secret)
        if ticket is None:
            raise RefusedError("expired_url", status=404)
        if strict and now - ticket.issued_at > self.response_seconds:
            raise RefusedError("expired_url", status=404)
        if strict and self._uses.get(secret, 0) >= self.response_uses:
            raise RefusedError("used_url", status=404)
        self._uses[secret] = self._uses.get(secret, 0) + 1
        return ticket
