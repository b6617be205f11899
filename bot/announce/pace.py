"""How fast Slack may be talked to. Pure: it is told what was sent when, and says when the next may go.

A post counts from Slack's answer, not from our call: on a slow line two calls a second apart may arrive together.
"""

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta

SECONDS_BETWEEN_POSTS = 1.0  # in one channel
SECONDS_BETWEEN_EDITS = 1.0  # in one channel; the latest rendering wins, so nothing queues up
EDITS_PER_MINUTE = 50.0  # of the whole app (Slack's tier 3)
EDITS_AT_ONCE = 20.0
# After an error that may pass: doubled each time, so that a minute's outage costs few calls and is noticed soon.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0


class Kind(enum.Enum):
    POST = "post"
    EDIT = "edit"
    WHISPER = "whisper"


_GAPS = {Kind.POST: SECONDS_BETWEEN_POSTS, Kind.EDIT: SECONDS_BETWEEN_EDITS, Kind.WHISPER: 0.0}


@dataclass
class Pace:
    _free_at: dict[tuple[str, Kind], datetime] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _edits: float = EDITS_AT_ONCE
    _edits_at: datetime | None = None
    _edits_blocked_until: datetime | None = None

    def free_at(self, channel: str, kind: Kind, now: datetime) -> datetime:
        """When the next of this kind may be sent there; not after `now` if it may at once."""
        own = self._free_at.get((channel, kind), now)
        if kind is not Kind.EDIT:
            return own
        blocked = self._edits_blocked_until or now
        return max(own, blocked, now + timedelta(seconds=self._until_an_edit(now)))

    def sent(self, channel: str, kind: Kind, now: datetime) -> None:
        self._free_at[channel, kind] = now + timedelta(seconds=_GAPS[kind])
        self._failures.pop(channel, None)
        if kind is Kind.EDIT:
            self._until_an_edit(now)
            self._edits -= 1

    def told_to_wait(self, channel: str, kind: Kind, now: datetime, seconds: float) -> None:
        """429. Posts are limited by channel, edits for the whole app."""
        until = now + timedelta(seconds=seconds)
        self._free_at[channel, kind] = until
        if kind is Kind.EDIT:
            self._edits_blocked_until = until

    def failed(self, channel: str, now: datetime) -> None:
        """No answer, or a broken one: the channel pauses, longer each time."""
        failures = self._failures.get(channel, 0)
        self._failures[channel] = failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS)
        for kind in Kind:
            until = now + timedelta(seconds=pause)
            self._free_at[channel, kind] = max(until, self._free_at.get((channel, kind), until))

    def _until_an_edit(self, now: datetime) -> float:
        if self._edits_at is not None:
            filled = max(0.0, (now - self._edits_at).total_seconds()) * EDITS_PER_MINUTE / 60
            self._edits = min(EDITS_AT_ONCE, self._edits + filled)
        self._edits_at = now
        return 0.0 if self._edits >= 1 else (1 - self._edits) * 60 / EDITS_PER_MINUTE
