"""Deliveries become incidents: open one, join one, reopen one, resolve one.

Several alerts about one service are one story (KV cache, queue and TTFT of one overload); one node's alert that hits
several services is one incident; a storm over many services is gathered into one. An alert that fires again within
the hold-down reopens its incident quietly, and is counted; one that comes back later with its old startsAt is the same
episode, as Alertmanager sees it: that reopens it, too, and calls people anew.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.audit import AuditEntry
from bot.fleet import Fleet
from bot.incidents.alert import Alert, AlertStatus, Delivery
from bot.incidents.incident import (
    STORM_TITLE,
    Incident,
    IncidentState,
    IncidentTx,
    Round,
    RoundReason,
    Store,
    Target,
    ThreadMessage,
    Timing,
)
from bot.incidents.owner import oncall
from bot.incidents.placing import Reopening, place, runbook_for
from bot.incidents.target import key_labels, merged, resolve
from bot.ports import ClusterReader
from bot.report import Note, Report, Text, moment, plain
from bot.runbook.schema import Runbook, Severity

# After so many re-firings within the hold-down an incident stays open until its alerts have been quiet for that long.
FLAPS_UNTIL_DAMPED = 2
# One transaction takes so many: long enough to batch a storm, short enough that a click is not kept waiting.
BATCH = 500
# A pod's owner does not change; which services run on a node does.
TARGETS_KEPT_SECONDS = 10.0


class Triage:
    """Acts on what the intake wrote. `step` is called by the leader's loop."""

    def __init__(
        self,
        store: Store,
        cluster: ClusterReader,
        fleet: Fleet,
        runbooks: Mapping[str, Runbook],
        timing: Timing,
        pool: Executor,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._fleet = fleet
        self._runbooks = runbooks
        self._timing = timing
        self._pool = pool
        # A storm's alerts come in hundreds of groups about the same few pods.
        self._resolved: dict[tuple[tuple[str, str], ...], Target] = {}
        self._resolved_until = datetime.min.replace(tzinfo=UTC)

    def step(self, now: datetime) -> bool:
        """Triage a batch. True if there was something."""
        with self._store.read() as tx:
            deliveries = tx.deliveries(BATCH)
        if not deliveries:
            return False
        # Asked before the transaction: the API server may be slow, and the store has one writer.
        targets = self._targets([d.alert for d in deliveries], now)
        with self._store.write() as tx:
            desk = _Desk(tx, self._fleet, self._runbooks, self._timing, now)
            for delivery in deliveries:
                desk.take(delivery.alert, targets[key_labels(delivery.alert.labels)])
            tx.delivered([d.id for d in deliveries])
            desk.close(deliveries)
        return True

    def _targets(self, alerts: Sequence[Alert], now: datetime) -> Mapping[tuple[tuple[str, str], ...], Target]:
        if now >= self._resolved_until:
            self._resolved_until = now + timedelta(seconds=TARGETS_KEPT_SECONDS)
            self._resolved = {}
        wanted = {key: a.labels for a in alerts if (key := key_labels(a.labels)) not in self._resolved}
        found = self._pool.map(lambda labels: resolve(labels, self._cluster, self._fleet), wanted.values())
        fresh = dict(zip(wanted, found, strict=True))
        self._resolved |= {key: target for key, target in fresh.items() if target.unresolved is None}
        return {**self._resolved, **fresh}


class _Desk:
    """One transaction's work: knows the open incidents, so that a batch of thousands asks the store once."""

    def __init__(
        self, tx: IncidentTx, fleet: Fleet, runbooks: Mapping[str, Runbook], timing: Timing, now: datetime
    ) -> None:
        self._tx = tx
        self._fleet = fleet
        self._runbooks = runbooks
        self._timing = timing
        self._now = now
        held = now - timedelta(seconds=timing.hold_down_seconds)
        self._incidents = {i.number: i for i in (*tx.incidents_resolved_since(held), *tx.open_incidents())}
        self._touched: dict[int, None] = {}  # in order
        self._resolved_in: dict[int, None] = {}

    def take(self, alert: Alert, target: Target) -> None:
        joined = self._tx.last_joined(alert.fingerprint)
        known = self._known(joined.incident) if joined is not None else None
        if alert.status is AlertStatus.RESOLVED:
            if known is not None:  # else it was resolved before we ever heard of it
                self._tx.join_alert(known.number, alert)
                self._resolved_in[known.number] = None
                self._touched[known.number] = None
            return
        named = runbook_for(alert.labels, self._runbooks)
        match = place(
            alert,
            target,
            known=known,
            known_start=joined.starts_at if joined is not None else None,
            runbook=named,
            open_incidents=[i for i in self._incidents.values() if i.state is IncidentState.OPEN],
            recently_resolved=[i for i in self._incidents.values() if i.state is IncidentState.RESOLVED],
            timing=self._timing,
            now=self._now,
        )
        if match.incident is None:
            incident = self._storm(target) or self._opened(alert, target, named)
        else:
            incident = self._reopened(match.incident, match.reopens, alert) if match.reopens else match.incident
        self._keep(self._joined(incident, alert, target, named))
        self._tx.join_alert(incident.number, alert)

    def close(self, deliveries: Sequence[Delivery]) -> None:
        """After the batch: incidents all of whose alerts are resolved end, the rest is shown as it is."""
        for number in self._resolved_in:
            incident = self._incidents[number]
            if incident.state is not IncidentState.OPEN or self._tx.alert_tally(number).firing:
                continue
            if resolved := when_all_resolved(incident, self._timing, self._now, last_change=self._now):
                self._keep(resolved)
                self._audit("incident.resolved", resolved, reason=resolved.resolution)
                self._ask_round(resolved, RoundReason.RESOLVING)
        for number in self._touched:
            self._tx.show(number)

    def _known(self, number: int) -> Incident | None:
        if number not in self._incidents:
            incident = self._tx.incident(number)
            if incident is None:
                return None
            self._incidents[number] = incident
        return self._incidents[number]

    def _opened(self, alert: Alert, target: Target, named: str | None) -> Incident:
        service = self._fleet.service(target.service) if target.service else None
        incident = Incident(
            number=self._tx.new_incident_number(),
            state=IncidentState.OPEN,
            severity=alert.severity,
            title=alert.annotations.get("summary") or alert.name,
            target=target,
            runbook=named,
            channel=service.channel if service else self._channel_of(target),
            opened_at=self._now,
            began_at=started(alert) or self._now,
        )
        self._audit("incident.opened", incident, alert=alert.name, fingerprint=alert.fingerprint)
        self._ask_round(incident, RoundReason.START)
        return incident

    def _channel_of(self, target: Target) -> str:
        channels = {s.channel for s in self._fleet.services if s.name in target.also}
        return channels.pop() if len(channels) == 1 else self._fleet.default_channel

    def _storm(self, target: Target) -> Incident | None:
        """The incident that gathers a storm: from the n-th service within a minute on, one message for all further."""
        if target.service is None:
            return None
        minute = self._now - timedelta(seconds=60)
        fresh = [i for i in self._incidents.values() if i.opened_at >= minute and i.state is IncidentState.OPEN]
        storm = next((i for i in self._incidents.values() if i.title == STORM_TITLE and i in fresh), None)
        if storm is None:
            if len({i.target.service for i in fresh if i.target.service}) < self._timing.storm_services:
                return None
            storm = Incident(
                number=self._tx.new_incident_number(),
                state=IncidentState.OPEN,
                severity=Severity.CRITICAL,
                title=STORM_TITLE,
                target=Target(),
                runbook=None,
                channel=self._fleet.default_channel,
                opened_at=self._now,
                began_at=self._now,
            )
            self._audit("incident.opened", storm, reason=f"alerts over {self._timing.storm_services} services in 60 s")
        return replace(storm, target=replace(storm.target, also=_with(storm.target.also, target.service)))

    def _reopened(self, incident: Incident, how: Reopening, alert: Alert) -> Incident:
        again = replace(
            incident,
            state=IncidentState.OPEN,
            resolved_at=None,
            resolution=None,
            flaps=incident.flaps + 1,
            reopened_at=self._now,
        )
        if how is Reopening.SAME_EPISODE:
            again = replace(again, opened_at=self._now, acked_by=None, acked_at=None, reminded=0)
            self._call_again(again, alert)
            self._ask_round(again, RoundReason.START)
        self._audit("incident.reopened", again, flaps=again.flaps, why=how.value)
        return again

    def _call_again(self, incident: Incident, alert: Alert) -> None:
        """In place of the thread's own word that it fires again, which calls nobody."""
        whom = oncall(incident, self._fleet) if incident.severity is Severity.CRITICAL else None
        name = plain(incident.target.service or incident.target.node or incident.title)
        text = f"{name}: it was not over: {plain(alert.name)} fires again."
        since = f" since {moment(start)}" if (start := started(alert)) else ""
        parts = (
            Text(f":rotating_light: {text}"),
            Note(f"For Alertmanager it is the same alert{since}. {incident.id} is open again and is diagnosed anew."),
        )
        key = f"reopened:{incident.flaps}"
        self._tx.say(ThreadMessage(incident.number, key, Report(text, parts), mention=whom))

    def _joined(self, incident: Incident, alert: Alert, target: Target, named: str | None) -> Incident:
        new_kind = alert.name not in incident.alert_names
        worse = alert.severity.rank > incident.severity.rank
        began = min(filter(None, (incident.began_at, started(alert))))
        storm = incident.title == STORM_TITLE
        leads = not storm and named not in (None, incident.runbook) and (incident.runbook is None or worse)
        joined = replace(
            incident,
            severity=alert.severity if worse else incident.severity,
            alert_names=_with(incident.alert_names, alert.name),
            began_at=began,
            runbook=named if leads else incident.runbook,
            target=incident.target if storm else merged(incident.target, target, leads=leads),
        )
        if (new_kind or worse) and incident.alert_names:
            self._audit("incident.joined", joined, alert=alert.name, fingerprint=alert.fingerprint)
            self._ask_round(joined, RoundReason.JOINED)
        return joined

    def _keep(self, incident: Incident) -> None:
        if self._incidents.get(incident.number) != incident:
            self._tx.save_incident(incident)
        self._incidents[incident.number] = incident
        self._touched[incident.number] = None

    def _ask_round(self, incident: Incident, reason: RoundReason) -> None:
        ask_round(self._tx, incident, reason, self._now)

    def _audit(self, action: str, incident: Incident, **detail: object) -> None:
        self._tx.audit(AuditEntry(self._now, "bot", action, incident.id, detail))


def ask_round(
    tx: IncidentTx, incident: Incident, reason: RoundReason, now: datetime, *, asked_by: str | None = None
) -> Round | None:
    """Make a round due now, if the incident has a runbook. One that is due already serves as well, but for the round
    after the end: what was begun before it does not know of it."""
    due = [r.reason for r in tx.due_rounds(now) if r.incident == incident.number]
    if incident.runbook is None or reason in due or (due and reason is not RoundReason.RESOLVING):
        return None
    number = tx.next_round_number(incident.number)
    round = Round(incident.number, number, incident.runbook, reason, due_at=now, asked_by=asked_by)
    # The incident's own row may be newer than the store's: the round refers to it by number only.
    tx.save_incident(incident)
    tx.save_round(round)
    return round


def when_all_resolved(incident: Incident, timing: Timing, now: datetime, *, last_change: datetime) -> Incident | None:
    """The incident resolved, or None while it flaps: then its alerts must have been quiet for the hold-down."""
    quiet_since = now - timedelta(seconds=timing.hold_down_seconds)
    if incident.flaps >= FLAPS_UNTIL_DAMPED and last_change > quiet_since:
        return None
    return replace(incident, state=IncidentState.RESOLVED, resolved_at=now, resolution="all alerts resolved")


def started(alert: Alert) -> datetime | None:
    """startsAt as a time; None if it is not one."""
    try:
        return datetime.fromisoformat(alert.starts_at)
    except ValueError:
        return None


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
