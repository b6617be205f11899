"""A leader with the real engine, store and API server, for tests that kill it: `-m tests.remediation.drain_child`.

    DATABASE_URL API_SERVER_URL TOKEN_FILE CA_FILE NAMESPACE

It begins what is approved and ends the rounds that are asked for; Prometheus and Slack are not there.
"""

import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bot.fleet import WorkloadRef
from bot.outbound.engine import DbosEngine
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.outbound.lock import lock_for
from bot.outbound.store import SqlStore
from bot.ports import Controls, Engine
from bot.remediation.due import Remediation
from bot.remediation.execute import KIND, Execution
from bot.remediation.world import Rules, World
from tests.fakes import FakeAlerts, fake_sources
from tests.remediation.stage import fleet

WINDOW_SECONDS = 15.0  # a drain is waited for at least twice as long


def world(
    store: SqlStore, http: KubernetesHttp, namespace: str, engine: Engine, *, minimum: int, leads: threading.Event
) -> World:
    ref = WorkloadRef(namespace=namespace, name="chat-70b")
    declared = fleet(ref)
    service = declared.services[0].model_copy(update={"minimum_ready_replicas": minimum, "cold_start_seconds": 1})
    ours = declared.model_copy(update={"services": (service,)})
    reader = KubernetesReader(http)
    return World(
        store=store,
        fleet=ours,
        sources=lambda now: fake_sources(  # type: ignore[arg-type]
            cluster=reader, fleet=ours, now=now, window_seconds=WINDOW_SECONDS
        ),
        controls=Controls(KubernetesWriter(http, still_leader=leads.is_set), FakeAlerts()),
        members=lambda group: frozenset(),
        engine=engine,
        signal=lambda incident, sources: None,
        clock=lambda: datetime.now(UTC),
        rules=Rules(poll_seconds=0.1),
        bot_node="cpu-01",
    )


def main() -> None:
    url, server, token, ca, namespace = sys.argv[1:]
    lock = lock_for(url)
    lock.acquire(threading.Event())
    leads = threading.Event()
    leads.set()
    store = SqlStore.open(url)
    engine = DbosEngine(store, lock.check, slots=5)
    http = KubernetesHttp(server, token_file=Path(token), ca_file=Path(ca), timeout_seconds=10)
    ours = world(store, http, namespace, engine, minimum=2, leads=leads)
    engine.register(KIND, Execution(ours).run)
    engine.launch()
    remediation = Remediation(ours)
    while True:
        now = ours.clock()
        remediation.step(now)
        with store.write() as tx:
            for due in tx.due_rounds(now):
                tx.save_round(replace(due, started_at=now, ended_at=now))
        time.sleep(0.05)


if __name__ == "__main__":
    main()
