"""Call an incident over by hand: its alerts are wrong, or were dealt with elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from bot.audit import AuditEntry
from bot.commands.context import Context, incident_meant
from bot.commands.words import UsageError, sorted_out, unknown
from bot.incidents.alert import Alert, AlertStatus
from bot.incidents.incident import IncidentState
from bot.report import Report, mention, plain

USAGE = "resolve <incident> [why ...]"
SUMMARY = "Call an incident over by hand."
READS_ONLY = False


def run(words: Sequence[str], context: Context) -> Report:
    given = sorted_out(words)
    if given.named:
        raise UsageError(unknown("parameter", next(iter(given.named)), ("incident", "why")))
    why = " ".join(given.ordered[1:])
    with context.store.write() as tx:
        incident = incident_meant(tx, given.ordered[0] if given.ordered else None)
        told = tx.alerts_of(incident.number)
        firing = [a for a in told if a.status is AlertStatus.FIRING and not a.is_moment]
        by = f"resolved by {mention(context.user)}" + (f": {plain(why)}" if why else "")
        tx.save_incident(replace(incident, state=IncidentState.RESOLVED, resolved_at=context.now, resolution=by))
        detail = {"why": why, "still_firing": [a.name for a in firing]}
        tx.audit(AuditEntry(context.now, context.user, "incident.resolved", incident.id, detail))
        tx.show(incident.number)
    return Report(f"{incident.id} is resolved.{_still_firing(firing)}")


def _still_firing(firing: Sequence[Alert]) -> str:
    if not firing:
        return ""
    names = ", ".join(dict.fromkeys(plain(a.name) for a in firing))
    return f" But {names} still fires: if it fires anew within the hold-down, this incident opens again."
