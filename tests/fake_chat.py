"""A Slack for unit tests that keeps what it is told, and fails as it is told to."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from bot.ports import GoneError, Modal, NoChannelError, SourceError, TooManyError, UnclearError
from bot.report import Report


@dataclass(frozen=True)
class Told:
    ts: str
    channel: str
    marker: str
    report: Report
    thread: str | None
    call: str | None
    at: datetime
    edits: int = 0


@dataclass
class FakeChat:
    """`clock` gives the ts. `paced`: more than one post a second and channel is answered with 429, as Slack does."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    paced: bool = False
    messages: list[Told] = field(default_factory=list)
    pictures: list[tuple[str, str, str]] = field(default_factory=list)  # channel, thread, name
    whispers: list[tuple[str, str, Report]] = field(default_factory=list)
    modals: dict[str, list[Modal]] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)  # channels without the bot
    errors: deque[SourceError] = field(default_factory=deque)  # raised by the next calls, without effect
    lose_answers: int = 0  # the next posts have their effect, and are not answered
    gates: dict[str, threading.Event] = field(default_factory=dict)  # posts to a channel wait for its gate
    refused: int = 0  # how often the pace was broken

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, datetime] = {}

    def post(
        self,
        channel: str,
        report: Report,
        *,
        marker: str,
        thread: str | None = None,
        broadcast: bool = False,
        call: str | None = None,
    ) -> str:
        self._begin(f"post {channel} {marker}")
        gate = self.gates.get(channel)
        if gate is not None:
            gate.wait(20)
        with self._lock:
            now = self.clock()
            if channel in self.absent:
                raise NoChannelError("Slack", f"refused to {channel}: not_in_channel", "Invite the bot there.")
            last = self._last.get(channel)
            if self.paced and last is not None and (now - last).total_seconds() < 1:
                self.refused += 1
                raise TooManyError("too fast", 1.0)
            self._last[channel] = now
            ts = f"{now.timestamp():.6f}"
            while any(m.channel == channel and m.ts == ts for m in self.messages):
                ts = f"{float(ts) + 0.000001:.6f}"
            self.messages.append(Told(ts, channel, marker, report, thread, call, now))
            if self.lose_answers:
                self.lose_answers -= 1
                raise UnclearError("Slack", "did not answer chat.postMessage", retryable=True)
        return ts

    def update(self, channel: str, ts: str, report: Report, *, marker: str) -> None:
        self._begin(f"update {channel} {marker}")
        with self._lock:
            for position, told in enumerate(self.messages):
                if (told.channel, told.ts) == (channel, ts):
                    self.messages[position] = replace(told, report=report, marker=marker, edits=told.edits + 1)
                    return
        raise GoneError("Slack", "chat.update: message_not_found")

    def find(self, channel: str, marker: str, *, thread: str | None = None, since: datetime) -> str | None:
        self._begin(f"find {channel} {marker}")
        with self._lock:
            return next((m.ts for m in self.messages if (m.channel, m.marker) == (channel, marker)), None)

    def picture(self, channel: str, thread: str, *, name: str, title: str, alt: str, png: bytes) -> None:
        self._begin(f"picture {channel} {name}")
        self.pictures.append((channel, thread, name))
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnclearError("Slack", "did not answer files.upload", retryable=True)

    def has_picture(self, channel: str, thread: str, name: str) -> bool:
        self._begin(f"has_picture {channel} {name}")
        return (channel, thread, name) in self.pictures

    def whisper(self, channel: str, user: str, report: Report) -> None:
        self._begin(f"whisper {user}")
        self.whispers.append((channel, user, report))

    def open_modal(self, trigger: str, modal: Modal) -> str:
        self._begin(f"open {trigger}")
        self.modals[f"V{trigger}"] = [modal]
        return f"V{trigger}"

    def update_modal(self, view: str, modal: Modal) -> None:
        self._begin(f"fill {view}")
        self.modals[view].append(modal)

    def group_members(self, group: str) -> frozenset[str]:
        self._begin(f"members {group}")
        return self.groups.get(group, frozenset())

    def delete(self, ts: str) -> None:
        self.messages = [m for m in self.messages if m.ts != ts]

    def cards(self) -> list[Told]:
        return [m for m in self.messages if m.thread is None]

    def thread(self, root: str) -> list[Told]:
        return [m for m in self.messages if m.thread == root]

    def _begin(self, call: str) -> None:
        with self._lock:
            self.calls.append(call)
            if self.errors:
                raise self.errors.popleft()
