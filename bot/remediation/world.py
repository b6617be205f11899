"""What this floor is given to work with: the composition root fills it in once, and every file here takes what it
needs from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bot.fleet import Fleet
from bot.incidents.incident import Incident, SignalReading
from bot.ports import Controls, Engine, Sources
from bot.remediation.guard import Limits
from bot.remediation.policy import Members
from bot.remediation.proposal import Store


class SignalReader(Protocol):
    def __call__(self, incident: Incident, sources: Sources) -> SignalReading | None:
        """The incident's triggering signal now, over the sources' window; None if its runbook names none.

        A source that does not answer is told in the reading's `error`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How remediation is to behave here, from the settings."""

    enabled: bool = True
    dry_run: bool = False  # every action says what it would do, and does nothing
    expiry_seconds: float = 1800
    settle_seconds: float | None = None  # how long "helped" is watched; None: cold start + two windows
    poll_seconds: float = 5


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    fleet: Fleet
    sources: Callable[[datetime], Sources]
    controls: Controls
    members: Members
    engine: Engine
    signal: SignalReader
    clock: Callable[[], datetime]
    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    bot_node: str | None = None  # the node this process runs on, from the downward API
