"""What time alone does to an incident: it burns and is looked at again, it has been quiet long enough, or nobody
has acknowledged it."""

from dataclasses import replace
from datetime import datetime, timedelta

from bot.audit import AuditEntry
from bot.fleet import Fleet
from bot.incidents.incident import (
    Incident,
    IncidentState,
    IncidentTx,
    RoundReason,
    Store,
    ThreadMessage,
    Timing,
)
from bot.incidents.owner import owner
from bot.incidents.triage import ask_round, when_all_resolved
from bot.report import Report, mention, plain
from bot.runbook.schema import Severity


class Watch:
    def __init__(self, store: Store, fleet: Fleet, timing: Timing) -> None:
        self._store = store
        self._fleet = fleet
        self._timing = timing

    def step(self, now: datetime) -> bool:
        with self._store.read() as tx:
            due = [i for i in tx.open_incidents() if self._something_is_due(tx, i, now)]
        if not due:
            return False
        with self._store.write() as tx:
            for stale in due:
                incident = tx.incident(stale.number)
                if incident is not None and incident.state is IncidentState.OPEN:
                    self._advance(tx, incident, now)
        return False  # what became due is another step's work, which has been asked for by a row

    def _something_is_due(self, tx: IncidentTx, incident: Incident, now: datetime) -> bool:
        return self._is_quiet(tx, incident, now) or self._burns(tx, incident, now) or self._is_ignored(incident, now)

    def _advance(self, tx: IncidentTx, incident: Incident, now: datetime) -> None:
        if self._is_quiet(tx, incident, now):
            resolved = when_all_resolved(incident, self._timing, now, last_change=_last_change(tx, incident))
            if resolved is not None:
                tx.save_incident(resolved)
                tx.audit(AuditEntry(now, "bot", "incident.resolved", resolved.id, {"reason": resolved.resolution}))
                ask_round(tx, resolved, RoundReason.RESOLVING, now)
                tx.show(resolved.number)
            return
        if self._burns(tx, incident, now):
            ask_round(tx, incident, RoundReason.BURNING, now)
        if self._is_ignored(incident, now):
            self._remind(tx, incident, now)

    def _is_quiet(self, tx: IncidentTx, incident: Incident, now: datetime) -> bool:
        tally = tx.alert_tally(incident.number)
        long_ago = now - timedelta(seconds=self._timing.hold_down_seconds)
        return tally.last_at is not None and tally.firing == 0 and tally.last_at <= long_ago

    def _burns(self, tx: IncidentTx, incident: Incident, now: datetime) -> bool:
        last = tx.last_round(incident.number)
        if incident.runbook is None or last is None or last.ended_at is None:
            return False
        return now - last.ended_at >= timedelta(seconds=self._timing.burn_interval_seconds)

    def _is_ignored(self, incident: Incident, now: datetime) -> bool:
        if incident.acked_by is not None or incident.severity is not Severity.CRITICAL or incident.reminded >= 2:
            return False
        patience = (self._timing.ack_reminder_seconds, self._timing.escalation_seconds)[incident.reminded]
        return now - incident.opened_at >= timedelta(seconds=patience)

    def _remind(self, tx: IncidentTx, incident: Incident, now: datetime) -> None:
        """First the on-call again, then the escalation contact (the on-call once more where none is declared)."""
        service = owner(incident, self._fleet)
        second = incident.reminded == 1
        whom = (service.escalation if second and service and service.escalation else None) or (
            service.oncall if service else None
        )
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


def _last_change(tx: IncidentTx, incident: Incident) -> datetime:
    return tx.alert_tally(incident.number).last_at or incident.opened_at
