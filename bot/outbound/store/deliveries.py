"""What Alertmanager told: the last state of every alert, and the changes that wait for triage."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from bot.incidents.alert import Alert, AlertStatus, Delivery, LastTold, TakenIn, TruncatedGroup
from bot.outbound.store import tables
from bot.outbound.store.engines import lock_intake
from bot.outbound.store.rows import Rows, in_chunks, row_of, upsert, value_of


class DeliveryRows(Rows):
    def take_in(self, alerts: Sequence[Alert]) -> int:
        """As a webhook would: what equals the fingerprint's last stored (status, startsAt) is dropped. Number kept.

        Nothing else is a repeat: an alert that lapsed may fire again with its old startsAt, after a resolve.
        """
        if not alerts:
            return 0
        lock_intake(self._connection)  # other replicas read the last state, too, before they write
        known = self._states({a.fingerprint for a in alerts})
        last: dict[str, dict[str, Any]] = {}
        changes: list[dict[str, Any]] = []
        for alert in alerts:
            row = last[alert.fingerprint] = row_of(alert)
            state = (alert.status, alert.starts_at)
            if known.get(alert.fingerprint) != state:
                known[alert.fingerprint] = state
                changes.append(row)
        self._connection.execute(upsert(self._connection, tables.alert, ["fingerprint"]), list(last.values()))
        if changes:
            self._connection.execute(sa.insert(tables.delivery), changes)
        return len(changes)

    def take_in_webhooks(self, webhooks: Sequence[TakenIn]) -> int:
        for truncation in (w.truncation for w in webhooks):
            if truncation is not None:
                t = tables.truncated_group
                same = (t.c.group_key == truncation.group_key) & (t.c.receiver == truncation.receiver)
                # A new id for every telling: what is reconciled is what was read, not what came in meanwhile.
                self._connection.execute(sa.delete(t).where(same))
                self._connection.execute(sa.insert(t).values(**row_of(truncation)))
        moments = [a for w in webhooks if w.moments for a in w.alerts]
        if moments:
            lock_intake(self._connection)
            known = self._states({a.fingerprint for a in moments})
            moments = [a for a in moments if a.fingerprint not in known]
        return self.take_in([*(a for w in webhooks if not w.moments for a in w.alerts), *moments])

    def _states(self, fingerprints: Iterable[str]) -> dict[str, tuple[AlertStatus, str]]:
        t = tables.alert
        found: dict[str, tuple[AlertStatus, str]] = {}
        for chunk in in_chunks(sorted(fingerprints)):
            query = sa.select(t.c.fingerprint, t.c.status, t.c.starts_at).where(t.c.fingerprint.in_(chunk))
            found |= {fingerprint: (status, at) for fingerprint, status, at in self._connection.execute(query)}
        return found

    def deliveries(self, limit: int) -> Sequence[Delivery]:
        t = tables.delivery
        rows = self._connection.execute(sa.select(t).order_by(t.c.id).limit(limit)).mappings()
        return tuple(Delivery(row["id"], value_of(Alert, row)) for row in rows)

    def delivered(self, ids: Sequence[int]) -> None:
        for chunk in in_chunks(ids):
            self._connection.execute(sa.delete(tables.delivery).where(tables.delivery.c.id.in_(chunk)))

    def firing(self) -> Sequence[LastTold]:
        t = tables.alert
        # The word stands in the query's text, so that the planner sees that the partial index serves it.
        firing = sa.literal_column("status") == sa.literal_column("'firing'")
        lasts = t.c.ends_at != t.c.starts_at
        return self._all(LastTold, sa.select(t.c.fingerprint, t.c.starts_at, t.c.received_at).where(firing, lasts))

    def last_states(self, fingerprints: Sequence[str]) -> Sequence[Alert]:
        t = tables.alert
        chunks = in_chunks(sorted(fingerprints))
        found = (self._all(Alert, sa.select(t).where(t.c.fingerprint.in_(c)).order_by(t.c.fingerprint)) for c in chunks)
        return tuple(alert for chunk in found for alert in chunk)

    def truncated_groups(self) -> Sequence[TruncatedGroup]:
        t = tables.truncated_group
        return self._all(TruncatedGroup, sa.select(t).order_by(t.c.id))

    def reconciled(self, ids: Sequence[int]) -> None:
        for chunk in in_chunks(ids):
            self._connection.execute(sa.delete(tables.truncated_group).where(tables.truncated_group.c.id.in_(chunk)))
