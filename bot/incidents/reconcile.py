"""Alerts in doubt are asked for, never assumed.

A webhook with `truncatedAlerts` hides alerts by position, resolved ones among them. A resolve can be lost for good
(Alertmanager forgets after a crash). So an alert that was not told for long, or whose group was truncated, is looked
for in Alertmanager and in Prometheus; it counts as resolved only when both answered and lacked it, twice. What a
truncated webhook hid is taken in as the webhook would have told it: nothing silenced, nothing of other receivers.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from bot.incidents.alert import Alert, AlertStatus, LastTold, TruncatedGroup
from bot.incidents.incident import Store, Timing
from bot.ports import FiringAlert, SourceError

log = logging.getLogger(__name__)
T = TypeVar("T")

# Alertmanager keeps no alerts on disk and Prometheus sends each again within a minute; then `for` has to pass anew.
# Twice that, so that what burns is back in both lists before its absence counts.
FORGETFUL_SECONDS = 120
# So many alerts are written, or read, at a time: a storm's need not all be there at once.
PART = 500


class Told(Protocol):
    """Alertmanager, as the witness of what it was told."""

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]: ...
    def started_at(self) -> datetime: ...


class Computed(Protocol):
    """Prometheus, as the witness of what its rules say. None: it cannot be asked when it started (Thanos, Mimir)."""

    def alerts(self) -> tuple[FiringAlert, ...]: ...
    def started_at(self) -> datetime | None: ...


class Reconcile:
    """`step` is called by the leader's loop. What was lacked once is in memory: a new leader looks twice itself."""

    def __init__(
        self, store: Store, told: Told | None, computed: Computed, timing: Timing, *, interval_seconds: float
    ) -> None:
        """`told` is None where no Alertmanager URL is set: then doubts stay, and the alert keeps its last state."""
        self._store = store
        self._told = told
        self._computed = computed
        self._timing = timing
        self._interval = timedelta(seconds=interval_seconds)
        self._next: datetime | None = None
        self._lacked: dict[str, datetime] = {}
        self._suspects: set[str] = set()

    def step(self, now: datetime) -> bool:
        if self._told is None or (self._next is not None and now < self._next):
            return False
        self._next = now + self._interval
        with self._store.read() as tx:
            groups = tx.truncated_groups()
            firing = {a.fingerprint: a for a in tx.firing()}
        if groups:
            self._suspects |= set(firing)
        self._suspects &= set(firing)
        silent = now - timedelta(seconds=self._timing.silent_seconds)
        doubtful = {f for f, a in firing.items() if a.received_at <= silent} | self._suspects
        self._lacked = {f: t for f, t in self._lacked.items() if f in doubtful}
        if not doubtful and not groups:
            return False
        told: set[str] = set()
        kept = 0
        try:
            restarted = self._restarted_after(now - timedelta(seconds=FORGETFUL_SECONDS))
            for listed in self._listed(doubtful, groups):
                told |= {a.fingerprint for a in listed if a.fingerprint is not None}
                # One that is known goes on firing while it is silenced: a silence ends no trouble.
                found = [a for a in listed if a.fingerprint in doubtful or _was_hidden(a, groups)]
                kept += self._take_in(found, firing, now)
            computed = [a for a in self._computed.alerts() if a.state == "firing"] if doubtful - told else []
        except SourceError as error:
            log.warning("alerts in doubt stay as they were", extra={"doubtful": len(doubtful), "why": str(error)})
            return kept > 0
        if restarted is not None:
            log.info("what is absent counts later: %s restarted lately and may list too few", restarted)
            gone: list[Alert] = []
        else:
            gone = self._gone(doubtful, told, now, computed)
        with self._store.write() as tx:
            kept += tx.take_in([replace(a, status=AlertStatus.RESOLVED, received_at=now) for a in gone])
            if restarted is None:
                tx.reconciled([g.id for g in groups])
        self._suspects -= {a.fingerprint for a in gone} | (told if restarted is None else set())
        return kept > 0

    def _listed(self, doubtful: Set[str], groups: Sequence[TruncatedGroup]) -> Iterator[Sequence[FiringAlert]]:
        """What Alertmanager has, in parts by name, since a storm's list is large; all at once where some may be hidden
        whose names nobody told."""
        assert self._told is not None
        if groups:
            yield self._told.active()
            return
        for name in sorted(self._names(doubtful)):  # a matcher's text is quoted as JSON's
            yield self._told.active(matchers=[f"alertname={json.dumps(name, ensure_ascii=False)}"])

    def _names(self, fingerprints: Set[str]) -> set[str]:
        names: set[str] = set()
        with self._store.read() as tx:
            for part in _parts(sorted(fingerprints)):
                names |= {a.labels.get("alertname", "") for a in tx.last_states(part)}
        return names

    def _take_in(self, found: Sequence[FiringAlert], firing: Mapping[str, LastTold], now: datetime) -> int:
        with self._store.write() as tx:
            parts = ([_taken(a, firing.get(a.fingerprint or ""), now) for a in part] for part in _parts(found))
            return sum(tx.take_in(part) for part in parts)

    def _restarted_after(self, moment: datetime) -> str | None:
        assert self._told is not None
        if self._told.started_at() > moment:
            return "Alertmanager"
        started = self._computed.started_at()
        return "Prometheus" if started is not None and started > moment else None

    def _gone(self, doubtful: Set[str], told: Set[str], now: datetime, computed: Sequence[FiringAlert]) -> list[Alert]:
        twice = []
        for fingerprint in sorted(doubtful):
            if fingerprint in told:
                self._lacked.pop(fingerprint, None)
            elif fingerprint in self._lacked:
                twice.append(fingerprint)
            else:
                self._lacked[fingerprint] = now
        if not twice:
            return []
        with self._store.read() as tx:
            alerts = tx.last_states(twice)
        by_name: dict[str | None, list[FiringAlert]] = {}
        for one in computed:
            by_name.setdefault(one.labels.get("alertname"), []).append(one)
        return [a for a in alerts if not _is_computed(a, by_name.get(a.labels.get("alertname"), ()))]


def _was_hidden(alert: FiringAlert, groups: Sequence[TruncatedGroup]) -> bool:
    """May one of these groups' webhooks have left it out? Without a receiver, any may: rather a card too many."""
    told = alert.state != "suppressed"
    return told and any(not group.receiver or group.receiver in alert.receivers for group in groups)


def _is_computed(alert: Alert, computed: Sequence[FiringAlert]) -> bool:
    """Prometheus adds external labels only on the way to Alertmanager: its own labels are a subset of the alert's."""
    return any(alert.labels.items() >= a.labels.items() for a in computed)


def _taken(alert: FiringAlert, stored: LastTold | None, now: datetime) -> Alert:
    """As a webhook would have told it. The API spells the same startsAt otherwise (`.100Z` for the webhook's `.1Z`):
    where it is the moment that we know, our spelling stays, or it would look like a new state."""
    same = stored is not None and _moment(stored.starts_at) == _moment(alert.starts_at)
    return Alert(
        fingerprint=alert.fingerprint or "",
        status=AlertStatus.FIRING,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=stored.starts_at if stored is not None and same else alert.starts_at,
        ends_at="",
        generator_url=alert.generator_url,
        received_at=now,
    )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _parts(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    return (whole[start : start + PART] for start in range(0, len(whole), PART))
