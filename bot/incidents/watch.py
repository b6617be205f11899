"""What time alone does to an incident: it burns and is looked at again, it has been quiet long enough, or nobody
has acknowledged it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from bot.audit import AuditEntry
from bot.fleet import Fleet
from bot.incidents.incident import (
    AlertTally,
    Incident,
    IncidentTx,
    RoundReason,
    Store,
    ThreadMessage,
    Timing,
)
from bot.incidents.owner import escalation, oncall
from bot.incidents.triage import ask_round, when_all_resolved
from bot.report import Report, mention, plain
from bot.runbook.schema import Severity

# What time does here takes a minute or more; the loop comes by many times a second.
LOOKS_EVERY = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class _Since:
    """Of one open incident."""

    tally: AlertTally | None
    diagnosed_at: datetime | None


class Watch:
    def __init__(self, store: Store, fleet: Fleet, timing: Timing) -> None:
        self._store = store
        self._fleet = fleet
        self._timing = timing
        self._next = datetime.min.replace(tzinfo=UTC)

    def step(self, now: datetime) -> bool:
        if now < self._next:
            return False
        self._next = now + LOOKS_EVERY
        with self._store.read() as tx:
            due = [i.number for i, since in self._open(tx) if self._something_is_due(i, since, now)]
        if not due:
            return False
        with self._store.write() as tx:
            for incident, since in self._open(tx):
                if incident.number in due:
                    self._advance(tx, incident, since, now)
        return False  # what became due is another step's work, which has been asked for by a row

    def _open(self, tx: IncidentTx) -> Iterator[tuple[Incident, "_Since"]]:
        tallies, diagnosed = tx.open_tallies(), tx.open_diagnosed_at()
        for incident in tx.open_incidents():
            yield incident, _Since(tallies.get(incident.number), diagnosed.get(incident.number))

    def _something_is_due(self, incident: Incident, since: "_Since", now: datetime) -> bool:
        return self._is_quiet(since, now) or self._burns(incident, since, now) or self._is_ignored(incident, now)

    def _advance(self, tx: IncidentTx, incident: Incident, since: "_Since", now: datetime) -> None:
        if self._is_quiet(since, now):
            last_change = since.tally.last_at if since.tally is not None else None
            resolved = when_all_resolved(incident, self._timing, now, last_change=last_change or incident.opened_at)
            if resolved is not None:
                tx.save_incident(resolved)
                tx.audit(AuditEntry(now, "bot", "incident.resolved", resolved.id, {"reason": resolved.resolution}))
                ask_round(tx, resolved, RoundReason.RESOLVING, now)
                tx.show(resolved.number)
            return
        if self._burns(incident, since, now):
            ask_round(tx, incident, RoundReason.BURNING, now)
        if self._is_ignored(incident, now):
            self._remind(tx, incident, now)

    def _is_quiet(self, since: "_Since", now: datetime) -> bool:
        tally = since.tally
        long_ago = now - timedelta(seconds=self._timing.hold_down_seconds)
        return tally is not None and tally.last_at is not None and tally.firing == 0 and tally.last_at <= long_ago

    def _burns(self, incident: Incident, since: "_Since", now: datetime) -> bool:
        if incident.runbook is None or since.diagnosed_at is None:
            return False
        return now - since.diagnosed_at >= timedelta(seconds=self._timing.burn_interval_seconds)

    def _is_ignored(self, incident: Incident, now: datetime) -> bool:
        if incident.acked_by is not None or incident.severity is not Severity.CRITICAL or incident.reminded >= 2:
            return False
        patience = (self._timing.ack_reminder_seconds, self._timing.escalation_seconds)[incident.reminded]
        return now - incident.opened_at >= timedelta(seconds=patience)

    def _remind(self, tx: IncidentTx, incident: Incident, now: datetime) -> None:
        """First the on-call again, then somebody else."""
        second = incident.reminded == 1
        whom = (escalation if second else oncall)(incident, self._fleet)
        minutes = round((now - incident.opened_at).total_seconds() / 60)
        name = plain(incident.target.service or incident.title)
        text = f"{name}: nobody has acknowledged {incident.id} for {minutes} min."
        ack = f"Press *Ack* on the card, or type `/vllm ack {incident.id}`."
        report = Report(text, ())
        if whom is not None:
            report = Report(f"{mention(whom)} {text} {ack}")
        key = f"reminder:{incident.flaps}:{incident.reminded + 1}"
        tx.say(ThreadMessage(incident.number, key, report, mention=whom))
        tx.save_incident(replace(incident, reminded=incident.reminded + 1))
        action = "incident.escalated" if second else "incident.reminded"
        tx.audit(AuditEntry(now, "bot", action, incident.id, {"whom": whom}))
