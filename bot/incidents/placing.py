"""Where a firing alert belongs: to which runbook it leads, and which incident it is a part of. Pure."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.incidents.alert import Alert
from bot.incidents.incident import Incident, IncidentState, Target, Timing
from bot.runbook.schema import Runbook, Severity


def runbook_for(labels: Mapping[str, str], runbooks: Mapping[str, Runbook]) -> str | None:
    """The runbook whose `match` asks for the most labels and finds them; the first by name among equals."""
    scored = [(runbook.matches(labels), name) for name, runbook in sorted(runbooks.items())]
    best = max((score for score, _ in scored), default=0)
    return next((name for score, name in scored if score == best), None) if best else None


class Reopening(enum.Enum):
    FLAP = "within the hold-down"
    # People took it for over: whoever had acknowledged it has gone back to sleep.
    SAME_EPISODE = "after the hold-down, with its old startsAt"


@dataclass(frozen=True, slots=True)
class Match:
    """Where a firing alert belongs: an incident that is there, or (None) a new one."""

    incident: Incident | None
    reopens: Reopening | None = None


def place(
    alert: Alert,
    target: Target,
    *,
    known: Incident | None,
    known_start: str | None = None,
    runbook: str | None = None,
    open_incidents: Sequence[Incident],
    recently_resolved: Sequence[Incident],
    timing: Timing,
    now: datetime,
) -> Match:
    """`known` is the incident this fingerprint joined last, `known_start` its startsAt there, `runbook` the one that
    the alert leads to."""
    if known is not None and known.state is IncidentState.OPEN:
        return Match(known)
    held = now - timedelta(seconds=timing.hold_down_seconds)
    if known is not None and _ended_since(known, held):
        return Match(known, Reopening.FLAP)
    window = now - timedelta(seconds=timing.join_window_seconds)
    for incident in open_incidents:
        if incident.opened_at >= window and _same_story(alert, target, incident):
            return Match(incident)
    for incident in open_incidents:
        if _would_say_the_same(alert, runbook, incident) and _same_story(alert, target, incident):
            return Match(incident)
    for incident in recently_resolved:
        if _ended_since(incident, held) and _same_story(alert, target, incident):
            return Match(incident, Reopening.FLAP)
    # Last: where a newer incident tells the story already, two open ones of one service would be worse.
    episode = now - timedelta(seconds=timing.episode_seconds)
    if known is not None and alert.starts_at == known_start and _ended_since(known, episode):
        return Match(known, Reopening.SAME_EPISODE)
    return Match(None)


def _ended_since(incident: Incident, moment: datetime) -> bool:
    return incident.resolved_at is not None and incident.resolved_at >= moment


def _would_say_the_same(alert: Alert, runbook: str | None, incident: Incident) -> bool:
    """Two cards with one verdict and one suggestion, however long the first is open. What is worse than people were
    called for gets a card of its own, which calls: the first may be acknowledged, and nobody look. So does another
    critical Xid: what only a person ends may be open for days after its acknowledgment."""
    same = runbook is not None and runbook == incident.runbook
    calls_anew = alert.is_moment and alert.severity is Severity.CRITICAL and incident.acked_by is not None
    return same and alert.severity.rank <= incident.severity.rank and not calls_anew


def _same_story(alert: Alert, target: Target, incident: Incident) -> bool:
    theirs = incident.target
    if target.service is not None:
        return target.service == theirs.service or target.service in theirs.also
    if target.node is not None:
        return target.node == theirs.node
    # Nothing is known but the alert itself: the same rule in the same namespace is one incident, not one per series.
    nothing_known = theirs.service is None and theirs.node is None and not theirs.also
    return nothing_known and alert.name in incident.alert_names and target.namespace == theirs.namespace
