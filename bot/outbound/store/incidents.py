"""Incidents, the alerts that joined them, and their rounds."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from bot.incidents.alert import Alert, AlertStatus
from bot.incidents.incident import AlertState, AlertTally, Incident, IncidentState, Joined, Round
from bot.outbound.store import tables
from bot.outbound.store.rows import Rows, row_of

# Put together once: it is asked for every alert of a storm.
_joined = tables.incident_alert.c
_LATEST = (
    sa.select(_joined.incident, _joined.starts_at)
    .where(_joined.fingerprint == sa.bindparam("fingerprint"))
    .order_by(_joined.incident.desc())
    .limit(1)
)
_TALLY = (sa.func.count().filter(_joined.status == AlertStatus.FIRING), sa.func.max(_joined.received_at))
_IS_OPEN = tables.incident.c.state == IncidentState.OPEN


class IncidentRows(Rows):
    def new_incident_number(self) -> int:
        """Given back if the transaction is rolled back: it has named nothing then."""
        last = tables.incident_number.c.last
        taken = self._connection.execute(
            sa.update(tables.incident_number).values(last=last + 1).returning(last)
        ).scalar_one_or_none()
        if taken is None:
            taken = 1
            self._connection.execute(sa.insert(tables.incident_number).values(last=taken))
        return int(taken)

    def save_incident(self, incident: Incident) -> None:
        self._upsert(tables.incident, row_of(incident), ["number"])

    def incident(self, number: int) -> Incident | None:
        return self._one(Incident, sa.select(tables.incident).where(tables.incident.c.number == number))

    def open_incidents(self) -> Sequence[Incident]:
        t = tables.incident
        return self._all(Incident, sa.select(t).where(t.c.state == IncidentState.OPEN).order_by(t.c.number))

    def incidents_resolved_since(self, moment: datetime) -> Sequence[Incident]:
        t = tables.incident
        resolved = (t.c.state == IncidentState.RESOLVED) & (t.c.resolved_at >= moment)
        return self._all(Incident, sa.select(t).where(resolved).order_by(t.c.number))

    def latest_incidents(self, limit: int) -> Sequence[Incident]:
        t = tables.incident
        return self._all(Incident, sa.select(t).order_by(t.c.number.desc()).limit(limit))

    def join_alert(self, incident: int, alert: Alert) -> None:
        self._upsert(tables.incident_alert, {"incident": incident, **row_of(alert)}, ["incident", "fingerprint"])

    def alerts_of(self, incident: int) -> Sequence[Alert]:
        t = tables.incident_alert
        return self._all(Alert, sa.select(t).where(t.c.incident == incident).order_by(t.c.starts_at, t.c.fingerprint))

    def alert_states(self, incident: int) -> Sequence[AlertState]:
        t = tables.incident_alert
        moment = (t.c.status == AlertStatus.FIRING) & (t.c.ends_at == t.c.starts_at)
        states = sa.select(t.c.status, t.c.received_at, moment.label("is_moment"))
        return self._all(AlertState, states.where(t.c.incident == incident))

    def alert_tally(self, incident: int) -> AlertTally:
        tally = sa.select(*_TALLY).where(tables.incident_alert.c.incident == incident)
        return AlertTally(*self._connection.execute(tally).one())

    def open_tallies(self) -> Mapping[int, AlertTally]:
        t, i = tables.incident_alert, tables.incident
        found = sa.select(t.c.incident, *_TALLY).join(i, i.c.number == t.c.incident).group_by(t.c.incident)
        return {n: AlertTally(*tally) for n, *tally in self._connection.execute(found.where(_IS_OPEN))}

    def open_diagnosed_at(self) -> Mapping[int, datetime]:
        t, i = tables.round, tables.incident
        found = sa.select(t.c.incident, sa.func.max(t.c.ended_at)).join(i, i.c.number == t.c.incident)
        ended = found.where(_IS_OPEN & t.c.ended_at.is_not(None)).group_by(t.c.incident)
        return {number: at for number, at in self._connection.execute(ended)}

    def last_joined(self, fingerprint: str) -> Joined | None:
        found = self._connection.execute(_LATEST, {"fingerprint": fingerprint}).one_or_none()
        return None if found is None else Joined(*found)

    def save_round(self, round: Round) -> None:
        self._upsert(tables.round, row_of(round), ["incident", "number"])

    def next_round_number(self, incident: int) -> int:
        t = tables.round
        last = self._connection.execute(sa.select(sa.func.max(t.c.number)).where(t.c.incident == incident)).scalar_one()
        return int(last or 0) + 1

    def due_rounds(self, now: datetime) -> Sequence[Round]:
        t = tables.round
        due = t.c.ended_at.is_(None) & (t.c.due_at <= now)
        return self._all(Round, sa.select(t).where(due).order_by(t.c.due_at, t.c.incident, t.c.number))

    def rounds_of(self, incident: int) -> Sequence[Round]:
        t = tables.round
        return self._all(Round, sa.select(t).where(t.c.incident == incident).order_by(t.c.number))

    def last_round(self, incident: int) -> Round | None:
        t = tables.round
        ended = (t.c.incident == incident) & t.c.ended_at.is_not(None)
        return self._one(Round, sa.select(t).where(ended).order_by(t.c.number.desc()).limit(1))
