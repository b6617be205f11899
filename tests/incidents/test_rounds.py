from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target, ThreadMessage
from bot.incidents.judge import Finding, Verdict
from bot.incidents.rounds import Rounds
from bot.report import Report
from bot.runbook.schema import Severity
from tests.fakes import FakeCluster
from tests.incidents.conftest import alert, at, make_fleet

FINDING = Finding("under_provisioned", Verdict.CONFIRMED, Severity.CRITICAL, "Under-provisioned", "138 wait")


@pytest.fixture
def incident(store):
    it = Incident(1, IncidentState.OPEN, Severity.CRITICAL, "t", Target("chat-70b"), "high_latency", "#c", at(0), at(0))
    with store.write() as tx:
        tx.save_incident(it)
        tx.save_round(Round(1, 1, "high_latency", RoundReason.START, due_at=at(0)))
    return it


class Workshop:
    def __init__(self, store, diagnose, cluster=None):
        self.pool = ThreadPoolExecutor(4)
        self.woken = Event()
        self.rounds = Rounds(
            store,
            diagnose,
            cluster or FakeCluster(),
            make_fleet("chat-70b"),
            self.pool,
            clock=lambda: at(1),
            prepare=lambda incident, round: lambda tx: tx.say(ThreadMessage(1, "follows", Report(round.runbook))),
            wake=self.woken.set,
        )

    def run(self, seconds=0.0):
        begun = self.rounds.step(at(seconds))
        self.pool.shutdown(wait=True)
        return begun


def test_a_due_round_is_diagnosed_and_what_it_leads_to_is_written_with_it(store, incident):
    shop = Workshop(store, lambda incident, round: replace(round, ended_at=at(2), findings=(FINDING,)))
    assert shop.run()
    with store.read() as tx:
        assert tx.last_round(1).findings == (FINDING,)
        assert not tx.due_rounds(at(9))
        assert tx.stale_cards()
        assert [e.entry.action for e in tx.audit_chain()] == ["round.ended"]
    assert shop.woken.is_set()


def test_a_round_that_breaks_stays_due(store, incident):
    def broken(incident, round):
        raise RuntimeError("a bug")

    Workshop(store, broken).run()
    with store.read() as tx:
        assert [r.number for r in tx.due_rounds(at(9))] == [1]


def test_two_rounds_of_one_incident_run_one_after_the_other(store, incident):
    with store.write() as tx:
        tx.save_round(Round(1, 2, "high_latency", RoundReason.REQUESTED, due_at=at(0)))
    begun, go_on = [], Event()

    def slow(incident, round):
        begun.append(round.number)
        go_on.wait(5)
        return replace(round, ended_at=at(2))

    shop = Workshop(store, slow)
    assert shop.rounds.step(at(0))
    assert not shop.rounds.step(at(0))
    go_on.set()
    shop.pool.shutdown(wait=True)
    assert begun == [1]


NODE = Target(node="gpu-07", also=("chat-70b", "code-8b"))


def test_a_nodes_incident_stays_the_nodes_whichever_of_its_services_has_an_alert_in_it(store, incident):
    cluster = FakeCluster()
    cluster.add_node("gpu-07")
    cluster.add_workload(name="chat-70b", replicas=1, node="gpu-07")
    with store.write() as tx:
        tx.save_incident(replace(incident, target=NODE))
        tx.join_alert(1, alert(namespace="llm", pod=cluster.pods[0].name))
    Workshop(store, lambda incident, round: replace(round, ended_at=at(2)), cluster).run()
    with store.read() as tx:
        assert tx.incident(1).target == NODE


def test_what_an_alert_told_of_the_target_meanwhile_is_not_overwritten(store, incident):
    cluster = FakeCluster()
    cluster.add_workload(name="chat-70b", replicas=1)
    unresolved = replace(incident, target=Target(unresolved="Kubernetes could not be asked: down"))
    with store.write() as tx:
        tx.save_incident(unresolved)
        tx.join_alert(1, alert(namespace="llm", pod=cluster.pods[0].name))

    def meanwhile(incident, round):
        with store.write() as tx:
            tx.save_incident(replace(unresolved, target=NODE))
        return replace(round, ended_at=at(2))

    Workshop(store, meanwhile, cluster).run()
    with store.read() as tx:
        assert tx.incident(1).target == NODE


def test_a_target_that_could_not_be_resolved_is_looked_up_again(store, incident):
    cluster = FakeCluster()
    cluster.add_workload(name="chat-70b", replicas=1)
    with store.write() as tx:
        tx.save_incident(replace(incident, target=Target(unresolved="Kubernetes could not be asked: down")))
        tx.join_alert(1, alert(namespace="llm", pod=cluster.pods[0].name))
    Workshop(store, lambda incident, round: replace(round, ended_at=at(2)), cluster).run()
    with store.read() as tx:
        assert tx.incident(1).target.service == "chat-70b"
