"""Alerts in doubt are asked for, never assumed.

A webhook with `truncatedAlerts` hides alerts by position, resolved ones among them. A resolve can be lost for good
(Alertmanager forgets after a crash). So an alert that was not told for long, or whose group was truncated, is looked
for in Alertmanager and in Prometheus; it counts as resolved only when both answered and lacked it, twice.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from bot.incidents.alert import Alert, AlertStatus
from bot.incidents.incident import Store, Timing
from bot.ports import Alerts, FiringAlert, Metrics, SourceError

log = logging.getLogger(__name__)


class Reconcile:
    """`step` is called by the leader's loop. What was lacked once is in memory: a new leader looks twice itself."""

    def __init__(
        self, store: Store, alerts: Alerts | None, metrics: Metrics, timing: Timing, *, interval_seconds: float
    ) -> None:
        """`alerts` is None where no Alertmanager URL is set: then doubts stay, and the alert keeps its last state."""
        self._store = store
        self._alerts = alerts
        self._metrics = metrics
        self._timing = timing
        self._interval = timedelta(seconds=interval_seconds)
        self._next: datetime | None = None
        self._lacked: dict[str, datetime] = {}
        self._suspects: set[str] = set()

    def step(self, now: datetime) -> bool:
        if self._alerts is None or (self._next is not None and now < self._next):
            return False
        self._next = now + self._interval
        with self._store.read() as tx:
            groups = tx.truncated_groups()
            firing = {a.fingerprint: a for a in tx.firing_alerts()}
        if groups:
            self._suspects |= set(firing)
        self._suspects &= set(firing)
        silent = now - timedelta(seconds=self._timing.silent_seconds)
        doubtful = {f for f, a in firing.items() if a.received_at <= silent} | self._suspects
        self._lacked = {f: t for f, t in self._lacked.items() if f in doubtful}
        if not doubtful and not groups:
            return False
        try:
            told = {a.fingerprint: a for a in self._alerts.active() if a.fingerprint is not None}
            computed = [a for a in self._metrics.alerts() if a.state == "firing"]
        except SourceError as error:
            log.warning("alerts in doubt stay as they were", extra={"doubtful": len(doubtful), "why": str(error)})
            return False
        found = [_taken(a, now) for a in told.values() if groups or a.fingerprint in doubtful]
        gone = [a for a in self._gone(doubtful, firing, told, now) if not _is_computed(a, computed)]
        with self._store.write() as tx:
            kept = tx.take_in([*found, *(replace(a, status=AlertStatus.RESOLVED, received_at=now) for a in gone)])
            tx.reconciled([g.id for g in groups])
        self._suspects -= {a.fingerprint for a in gone} | set(told)
        return kept > 0

    def _gone(
        self, doubtful: set[str], firing: Mapping[str, Alert], told: Mapping[str, FiringAlert], now: datetime
    ) -> list[Alert]:
        gone = []
        for fingerprint in sorted(doubtful):
            if fingerprint in told:
                self._lacked.pop(fingerprint, None)
            elif fingerprint in self._lacked:
                gone.append(firing[fingerprint])
            else:
                self._lacked[fingerprint] = now
        return gone


def _is_computed(alert: Alert, computed: list[FiringAlert]) -> bool:
    """Prometheus adds external labels only on the way to Alertmanager: its own labels are a subset of the alert's."""
    return any(alert.labels.items() >= a.labels.items() for a in computed)


def _taken(alert: FiringAlert, now: datetime) -> Alert:
    return Alert(
        fingerprint=alert.fingerprint or "",
        status=AlertStatus.FIRING,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=alert.starts_at,
        ends_at="",
        generator_url=alert.generator_url,
        received_at=now,
    )
