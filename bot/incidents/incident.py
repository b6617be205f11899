"""An incident and its rounds, and what this floor needs of the store."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bot.audit import AuditEntry, ChainedEntry
from bot.fleet import WorkloadRef
from bot.incidents.alert import Alert, AlertStatus, Delivery, LastTold, TruncatedGroup
from bot.incidents.judge import Finding, Observation
from bot.report import Report
from bot.runbook.schema import Severity

STORM_TITLE = "Alert storm"


class IncidentState(enum.Enum):
    OPEN = "open"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Target:
    """What the alerts are about, resolved through the API server; `unresolved` says in words why parts are missing."""

    service: str | None = None
    workload: WorkloadRef | None = None
    pod: str | None = None
    namespace: str | None = None
    node: str | None = None
    unresolved: str | None = None
    also: tuple[str, ...] = ()  # further services, when one node's alert hits several


@dataclass(frozen=True, slots=True)
class Incident:
    number: int
    state: IncidentState
    severity: Severity
    title: str  # the first alert's name or summary
    target: Target
    runbook: str | None
    channel: str
    opened_at: datetime  # when we heard; anew when it seemed over and was not
    began_at: datetime  # earliest startsAt
    alert_names: tuple[str, ...] = ()
    resolved_at: datetime | None = None
    resolution: str | None = None  # "all alerts resolved", "resolved by @alice", what fixed it
    acked_by: str | None = None  # Slack user id
    acked_at: datetime | None = None
    flaps: int = 0  # re-firings that reopened it
    reminded: int = 0  # pushes for lack of an ack
    reopened_at: datetime | None = None  # the last time; what was done before it did not end the trouble

    @property
    def id(self) -> str:
        return f"inc-{self.number}"


class RoundReason(enum.Enum):
    START = "start"
    JOINED = "a new kind of alert joined"
    REQUESTED = "requested"
    AFTER_CHANGE = "after a change"
    BURNING = "still burning"
    RESOLVING = "alerts resolved"


@dataclass(frozen=True, slots=True)
class SignalReading:
    """The triggering signal at one moment. A quantile of a histogram is a range: its bucket."""

    name: str
    unit: str
    threshold: float | None
    direction: str
    value: float | None  # None: no data
    low: float | None = None  # the bucket's edges, for quantiles
    high: float | None = None
    traffic: float | None = None
    error: str | None = None
    window_seconds: float | None = None  # how far back it looks; None: the setting's window


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a runbook for an incident. Due until `ended_at` is set; a crash in between runs it again."""

    incident: int
    number: int
    runbook: str
    reason: RoundReason
    due_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    as_of: datetime | None = None  # `at=`
    asked_by: str | None = None
    signal: SignalReading | None = None
    observations: tuple[Observation, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: str | None = None  # the round itself could not run
    for_execution: str | None = None  # proposal id, when a change is being verified


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message of an incident's thread, in order. `key` makes writing it twice harmless."""

    incident: int
    key: str  # "round:3", "execution:inc-142-p2:applied"
    report: Report
    mention: str | None = None  # a push: mentions this user or group
    picture: str | None = None  # "signal:<round number>": a graph the announcer draws and uploads with it
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Where an alert was put last, and its startsAt there: the same one means the same episode."""

    incident: int
    starts_at: str


@dataclass(frozen=True, slots=True)
class AlertState:
    """As much of an alert as an incident's card needs: a storm's incident has thousands."""

    status: AlertStatus
    received_at: datetime
    is_moment: bool = False


@dataclass(frozen=True, slots=True)
class AlertTally:
    firing: int
    last_at: datetime | None  # when the last one was told; None: there is none


class IncidentTx(Protocol):
    """Reads and writes inside one transaction. Writes become visible together, at its end, or not at all."""

    def deliveries(self, limit: int) -> Sequence[Delivery]:
        """Not yet triaged, oldest first."""
        ...

    def delivered(self, ids: Sequence[int]) -> None: ...
    def truncated_groups(self) -> Sequence[TruncatedGroup]: ...
    def reconciled(self, ids: Sequence[int]) -> None: ...
    def take_in(self, alerts: Sequence[Alert]) -> int:
        """As a webhook would: what equals the fingerprint's last stored (status, startsAt) is dropped. Number kept."""
        ...

    def firing(self) -> Sequence[LastTold]:
        """Every alert that is firing by its last telling, with `received_at` of that; but no event of a moment, which
        is never told again, so that its silence says nothing."""
        ...

    def last_states(self, fingerprints: Sequence[str]) -> Sequence[Alert]:
        """Of those that are known, by fingerprint."""
        ...

    def new_incident_number(self) -> int: ...
    def save_incident(self, incident: Incident) -> None: ...
    def incident(self, number: int) -> Incident | None: ...
    def open_incidents(self) -> Sequence[Incident]: ...
    def incidents_resolved_since(self, moment: datetime) -> Sequence[Incident]: ...
    def latest_incidents(self, limit: int) -> Sequence[Incident]: ...
    def join_alert(self, incident: int, alert: Alert) -> None:
        """Remember the alert's latest state under the incident (one row per fingerprint and incident)."""
        ...

    def alerts_of(self, incident: int) -> Sequence[Alert]: ...
    def alert_states(self, incident: int) -> Sequence[AlertState]: ...
    def alert_tally(self, incident: int) -> AlertTally: ...

    def open_tallies(self) -> Mapping[int, AlertTally]:
        """Of every open incident with alerts, by number: one question, however many there are."""
        ...

    def open_diagnosed_at(self) -> Mapping[int, datetime]:
        """When the last round of every open incident ended; those without one are not in it."""
        ...

    def last_joined(self, fingerprint: str) -> Joined | None:
        """The latest incident of this alert."""
        ...

    def save_round(self, round: Round) -> None: ...
    def next_round_number(self, incident: int) -> int: ...
    def due_rounds(self, now: datetime) -> Sequence[Round]:
        """`ended_at` unset and due_at <= now, oldest first."""
        ...

    def rounds_of(self, incident: int) -> Sequence[Round]: ...
    def last_round(self, incident: int) -> Round | None:
        """The latest one that ended."""
        ...

    def audit(self, entry: AuditEntry) -> None: ...
    def audited(self, subject: str | None, limit: int) -> Sequence[ChainedEntry]:
        """Newest first; of one incident (its proposals too) or proposal, or of everything."""
        ...

    def audit_chain(self) -> Iterator[ChainedEntry]:
        """All of it, from its first entry on, for `audit.broken_link`."""
        ...

    def show(self, incident: int) -> None:
        """The card's rendering may have changed."""
        ...

    def say(self, message: ThreadMessage) -> None:
        """Append to the thread's outbox, unless a message with this key is there."""
        ...


class Store(Protocol):
    """Transactions on our database. `write` commits at the end of the block or not at all; `read` is one snapshot."""

    def write(self) -> AbstractContextManager[IncidentTx]: ...
    def read(self) -> AbstractContextManager[IncidentTx]: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Domain times, from the settings."""

    hold_down_seconds: float = 300  # re-firing within it reopens the same incident, and calls nobody anew
    episode_seconds: float = 6 * 3600  # so does, calling anew, an alert that comes back with its old startsAt
    join_window_seconds: float = 900  # alerts about one service within it are one incident
    verdict_grace_seconds: float = 2  # the card waits this long for the first verdict
    verdict_limit_seconds: float = 10  # then an inconclusive verdict is pushed
    burn_interval_seconds: float = 240  # a new round while it burns
    ack_reminder_seconds: float = 300
    escalation_seconds: float = 900
    silent_seconds: float = 600  # an alert not told for so long is asked for
    storm_services: int = 8  # alerts over so many services within a minute: one summary
