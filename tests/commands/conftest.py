"""A store on disk, the two services of the stories, and a context to run commands in."""

from dataclasses import replace

import pytest

from bot.actions.contract import Aim
from bot.commands.context import Context
from bot.incidents.incident import Round
from bot.outbound.store import SqlStore
from bot.report import Report
from tests import stories as s
from tests.fakes import FakeCluster, FakeMetrics, fake_sources


class Bench:
    """What a command may use, with what was done through it."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.cluster = FakeCluster()
        self.cluster.add_workload(namespace="llm", name="chat-70b", replicas=3)
        self.cluster.add_workload(namespace="llm", name="code-7b", replicas=2)
        self.cluster.add_node("gpu-01", gpus=8)
        self.metrics = FakeMetrics({"vllm:num_requests_running": 5.0})
        self.diagnosed: list[tuple] = []
        self.proposed: list[tuple] = []
        self.aims: list[Aim | None] = []
        self.refusal: str | None = None
        self.notes: list[Report] = []

    def context(self, user: str = s.BOB, **changes: object) -> Context:
        made = Context(
            store=self.store,
            sources=lambda at: fake_sources(cluster=self.cluster, metrics=self.metrics, fleet=s.FLEET, now=at),
            fleet=s.FLEET,
            runbooks=s.RUNBOOKS,
            diagnose=self._diagnose,
            propose=self._propose,
            later=self._later,
            user=user,
            channel=s.CHANNEL,
            now=s.at(3),
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def in_a_terminal(self) -> Context:
        return self.context("terminal:bob", propose=None)

    def opened(self, *incidents, rounds=()) -> None:
        with self.store.write() as tx:
            for incident in incidents:
                tx.save_incident(incident)
                tx.show(incident.number)
            for round in rounds:
                tx.save_round(round)

    def _diagnose(self, incident, round: Round) -> Round:
        self.diagnosed.append((incident, round))
        return replace(s.round_of(), incident=0, reason=round.reason, as_of=round.as_of, asked_by=round.asked_by)

    def _propose(self, incident, action, with_, user, now, aim=None):
        if self.refusal is not None:
            raise ValueError(self.refusal)
        self.aims.append(aim)
        self.proposed.append((incident.id, action, dict(with_), user, now))
        return s.proposal(9)

    def _later(self, note: Report, work) -> Report:
        self.notes.append(note)
        return work()


@pytest.fixture
def bench(tmp_path):
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield Bench(store)
    store.close()
