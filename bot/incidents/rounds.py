"""Rounds that are due are diagnosed in a pool and written down; what a round leads to is written with it.

A round is not a workflow: it reads, takes seconds, and is simply run again after a crash, since it stays due until
its end is stored.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from bot.audit import AuditEntry
from bot.fleet import Fleet
from bot.incidents.incident import Incident, Round, Store, Target
from bot.incidents.target import merged, resolve
from bot.ports import ClusterReader

log = logging.getLogger(__name__)


class Diagnose(Protocol):
    def __call__(self, incident: Incident, round: Round) -> Round:
        """The round with its signal, observations, findings and `ended_at`."""
        ...


class Prepare(Protocol):
    def __call__(self, incident: Incident, round: Round) -> Callable[[Any], None]:
        """Looks at the world for what follows from a round (dry runs of its suggestions), before the transaction.
        What it returns writes that down, in the transaction that stores the round."""
        ...


class Rounds:
    """`step` is called by the leader's loop."""

    def __init__(
        self,
        store: Store,
        diagnose: Diagnose,
        cluster: ClusterReader,
        fleet: Fleet,
        pool: Executor,
        *,
        clock: Callable[[], datetime],
        prepare: Prepare,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._diagnose = diagnose
        self._cluster = cluster
        self._fleet = fleet
        self._pool = pool
        self._clock = clock
        self._prepare = prepare
        self._wake = wake
        self._running: set[int] = set()  # incidents: their rounds run one after the other
        self._lock = threading.Lock()
        self.ended = 0  # for the metrics, with the seconds that they took in all
        self.seconds = 0.0

    def step(self, now: datetime) -> bool:
        with self._store.read() as tx:
            due = tx.due_rounds(now)
        begun = False
        for round in due:
            with self._lock:
                if round.incident in self._running:
                    continue
                self._running.add(round.incident)
            self._pool.submit(self._run, round)
            begun = True
        return begun

    def _run(self, round: Round) -> None:
        try:
            with self._store.read() as tx:
                incident = tx.incident(round.incident)
            if incident is not None:
                self._run_for(incident, round)
        except Exception:
            # The top of a job. The round stays due, so the loop runs it again; a pause keeps that from spinning.
            log.exception("round %s of inc-%s could not be stored", round.number, round.incident)
            threading.Event().wait(1)
        finally:
            with self._lock:
                self._running.discard(round.incident)
            self._wake()

    def _run_for(self, incident: Incident, round: Round) -> None:
        target = self._looked_up_again(incident)
        asked = replace(incident, target=target)
        done = self._diagnose(asked, round)
        proposals = self._prepare(asked, done)
        with self._store.write() as tx:
            latest = tx.incident(incident.number)
            if latest is None:
                return
            if target != incident.target and latest.target == incident.target:  # else an alert has told more meanwhile
                latest = replace(latest, target=target)
                tx.save_incident(latest)
            tx.save_round(done)
            verdicts = {f.rule: f.verdict.value for f in done.findings}
            tx.audit(AuditEntry(self._clock(), "bot", "round.ended", latest.id, {"round": done.number, **verdicts}))
            proposals(tx)
            tx.show(latest.number)
        with self._lock:
            self.ended += 1
            if done.started_at is not None and done.ended_at is not None:
                self.seconds += (done.ended_at - done.started_at).total_seconds()

    def _looked_up_again(self, incident: Incident) -> Target:
        """A target that could not be resolved when the alert came (the API server was down) may be now."""
        known = incident.target
        if known.unresolved is None and (known.service is not None or known.node is not None or known.also):
            return known
        with self._store.read() as tx:
            alerts = tx.alerts_of(incident.number)
        for alert in alerts:
            found = resolve(alert.labels, self._cluster, self._fleet)
            if found.service is not None or found.node is not None:
                return replace(merged(known, found, leads=True), unresolved=found.unresolved)
        return known
