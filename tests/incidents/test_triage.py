from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bot.incidents.alert import AlertStatus
from bot.incidents.incident import STORM_TITLE, IncidentState, RoundReason, Timing
from bot.incidents.triage import Triage
from bot.runbook.schema import Severity
from tests.fakes import NOT_ANSWERING, FakeCluster
from tests.incidents.conftest import alert, at, make_fleet, resolved, runbook

RUNBOOKS = {
    "high_latency": runbook("high_latency", {"alertname": ["VllmHighTTFT", "VllmQueue"]}),
    "gpu": runbook("gpu", {"alertname": "GpuXid"}, {"alertname": "VllmHighTTFT", "severity": "info"}),
}
TIMING = Timing(hold_down_seconds=60, join_window_seconds=600, storm_services=4)


class Desk:
    """The triage with a store behind it: tell it alerts, look at incidents."""

    def __init__(self, store, *services):
        self.store, self.cluster = store, FakeCluster()
        pool = ThreadPoolExecutor(4)
        self.fleet = make_fleet(*(services or ("chat-70b", "code-8b")))
        self.triage = Triage(store, self.cluster, self.fleet, RUNBOOKS, TIMING, pool)

    def tell(self, *alerts, seconds=0.0):
        with self.store.write() as tx:
            tx.take_in(alerts)
        while self.triage.step(at(seconds)):
            pass
        return self.incidents()

    def incidents(self):
        with self.store.read() as tx:
            return sorted(tx.latest_incidents(100), key=lambda i: i.number)

    def due(self, seconds=0.0):
        with self.store.read() as tx:
            return list(tx.due_rounds(at(seconds)))


@pytest.fixture
def desk(store):
    return Desk(store)


def test_an_alert_opens_an_incident_in_its_services_channel_and_asks_for_a_round(desk):
    (incident,) = desk.tell(alert(service="chat-70b"))
    assert (incident.target.service, incident.channel, incident.runbook) == ("chat-70b", "#chat-70b", "high_latency")
    assert [r.reason for r in desk.due()] == [RoundReason.START]


def test_several_alerts_about_one_service_are_one_incident(desk):
    (incident,) = desk.tell(
        alert(service="chat-70b"), alert("VllmQueue", service="chat-70b"), alert(service="chat-70b", pod="p")
    )
    assert incident.alert_names == ("VllmHighTTFT", "VllmQueue")


def test_another_service_is_another_incident(desk):
    assert len(desk.tell(alert(service="chat-70b"), alert(service="code-8b"))) == 2


def test_long_after_it_a_new_alert_about_the_service_is_another_incident(desk):
    desk.tell(alert(service="chat-70b"))
    assert len(desk.tell(alert("GpuXid", service="chat-70b"), seconds=601)) == 2
    assert len(desk.tell(alert("DiskFull", service="chat-70b"), seconds=1300)) == 3


def test_long_after_it_what_leads_to_the_same_diagnosis_joins_the_open_incident(desk):
    desk.tell(alert(service="chat-70b"))
    (incident,) = desk.tell(alert("VllmQueue", service="chat-70b"), seconds=601)
    assert incident.alert_names == ("VllmHighTTFT", "VllmQueue")
    assert len(desk.tell(alert(service="code-8b"), seconds=602)) == 2


def test_long_after_it_what_is_worse_is_an_incident_of_its_own_which_calls(desk):
    desk.tell(alert(service="chat-70b", severity="warning"))
    first, second = desk.tell(alert("VllmQueue", service="chat-70b"), seconds=601)
    assert (first.severity, second.severity) == (Severity.WARNING, Severity.CRITICAL)


@pytest.mark.parametrize(("acknowledged", "incidents"), [({}, 1), ({"acked_by": "U-ALICE", "acked_at": at(3)}, 2)])
def test_long_after_it_another_critical_xid_is_not_put_under_an_acknowledgment(desk, store, acknowledged, incidents):
    first, second = (
        replace(alert("GpuXid", service="chat-70b", xid=xid), ends_at=at(0).isoformat()) for xid in ("79", "95")
    )
    desk.tell(first)
    posted(store, **acknowledged)
    assert len(desk.tell(second, seconds=7200)) == incidents


def test_what_makes_it_worse_is_diagnosed_even_if_it_is_no_new_kind(desk, store):
    desk.tell(alert(service="chat-70b", severity="warning"))
    with store.write() as tx:
        tx.save_round(replace(desk.due()[0], ended_at=at(1)))
    desk.tell(alert(service="chat-70b", severity="critical", window="5m"), seconds=5)
    assert [r.reason for r in desk.due(5)] == [RoundReason.JOINED]


def test_after_its_end_the_same_diagnosis_is_another_incident(desk):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    assert len(desk.tell(alert("VllmQueue", service="chat-70b"), seconds=601)) == 2


def test_a_new_kind_of_alert_asks_for_another_round_only_when_none_is_due(desk, store):
    desk.tell(alert(service="chat-70b"))
    desk.tell(alert("VllmQueue", service="chat-70b"), seconds=1)
    assert [r.reason for r in desk.due(1)] == [RoundReason.START]


def test_a_repeated_alert_changes_nothing(desk):
    first = desk.tell(alert(service="chat-70b"))
    assert desk.tell(alert(service="chat-70b"), seconds=5) == first


def test_a_worse_alert_makes_the_incident_worse(desk):
    desk.tell(alert(service="chat-70b", severity="warning"))
    (incident,) = desk.tell(alert("VllmQueue", service="chat-70b", severity="critical"), seconds=1)
    assert incident.severity is Severity.CRITICAL


def test_all_alerts_resolved_ends_the_incident_and_asks_whether_it_is_really_over(desk):
    one, two = alert(service="chat-70b"), alert("VllmQueue", service="chat-70b")
    desk.tell(one, two)
    (incident,) = desk.tell(resolved(one, 5), seconds=5)
    assert incident.state is IncidentState.OPEN
    (incident,) = desk.tell(resolved(two, 9), seconds=9)
    assert (incident.state, incident.resolved_at) == (IncidentState.RESOLVED, at(9))


def test_the_end_is_looked_at_even_if_a_round_from_before_is_still_due(desk):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    assert [r.reason for r in desk.due(5)] == [RoundReason.START, RoundReason.RESOLVING]


def test_a_resolve_that_was_never_heard_firing_opens_nothing(desk):
    assert desk.tell(alert(service="chat-70b", resolved=True)) == []


def test_firing_again_within_the_hold_down_reopens_the_same_incident_and_is_counted(desk):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    (incident,) = desk.tell(alert(service="chat-70b", seconds=20), seconds=20)
    assert (incident.state, incident.flaps, incident.resolved_at) == (IncidentState.OPEN, 1, None)
    assert incident.reopened_at == at(20)


def anew(firing, seconds):
    """The same alert, for Alertmanager another episode."""
    return replace(firing, starts_at=at(seconds).isoformat(), received_at=at(seconds))


def calls(store):
    with store.read() as tx:
        return [(w.message.key, w.message.mention) for w in tx.waiting_messages(10)]


def test_firing_again_after_the_hold_down_is_a_new_incident(desk):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    assert len(desk.tell(anew(one, 70), seconds=70)) == 2


def posted(store, **changes):
    """Its card stands in Slack, and what happened to the incident meanwhile."""
    with store.write() as tx:
        tx.save_incident(replace(tx.incident(1), **changes))
        tx.show(1)
        tx.card_shown(1, "1.0", "digest", 0)


ACKNOWLEDGED = {"acked_by": "U-ALICE", "acked_at": at(3), "reminded": 2}


def test_the_same_episode_after_the_hold_down_reopens_the_incident_and_calls_anew(desk, store):
    one = alert(service="chat-70b")
    desk.tell(one)
    posted(store, **ACKNOWLEDGED)
    desk.tell(resolved(one, 5), seconds=5)
    with store.write() as tx:
        for done in tx.due_rounds(at(5)):
            tx.save_round(replace(done, ended_at=at(6)))
    (incident,) = desk.tell(one, seconds=3600)
    assert (incident.state, incident.flaps, incident.resolved_at) == (IncidentState.OPEN, 1, None)
    assert (incident.acked_by, incident.reminded, incident.opened_at) == (None, 0, at(3600))
    assert incident.began_at == at(0)
    assert calls(store) == [("reopened:1", "U-ALICE")]
    assert [r.reason for r in desk.due(3600)] == [RoundReason.START]


def test_a_warning_that_comes_back_calls_nobody(desk, store):
    one = alert(service="chat-70b", severity="warning")
    desk.tell(one)
    posted(store)
    desk.tell(resolved(one, 5), seconds=5)
    desk.tell(one, seconds=3600)
    assert calls(store) == [("reopened:1", None)]


def test_a_flap_keeps_the_acknowledgment_and_calls_nobody(desk, store):
    one = alert(service="chat-70b")
    desk.tell(one)
    posted(store, **ACKNOWLEDGED)
    desk.tell(resolved(one, 5), seconds=5)
    (incident,) = desk.tell(one, seconds=30)
    assert (incident.acked_by, incident.opened_at) == ("U-ALICE", at(0))
    assert calls(store) == []


def test_what_comes_back_after_many_hours_is_a_new_incident_whatever_its_start(desk):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    assert len(desk.tell(one, seconds=TIMING.episode_seconds + 10)) == 2


def test_the_same_episode_joins_the_newer_incident_that_tells_its_story(desk):
    one, two = alert(service="chat-70b"), alert("VllmQueue", service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    desk.tell(anew(two, 100), seconds=100)
    old, new = desk.tell(one, seconds=110)
    assert (old.state, new.state) == (IncidentState.RESOLVED, IncidentState.OPEN)
    assert new.alert_names == ("VllmQueue", "VllmHighTTFT")


def test_an_alert_that_flaps_keeps_one_incident_open(desk):
    one = alert(service="chat-70b")
    for seconds in range(0, 40, 10):
        desk.tell(alert(service="chat-70b", seconds=seconds), seconds=seconds)
        (incident,) = desk.tell(resolved(one, seconds + 5), seconds=seconds + 5)
    assert (incident.state, incident.flaps) == (IncidentState.OPEN, 2)


def test_fired_and_resolved_in_one_delivery_is_an_incident_that_is_over(desk):
    one = alert(service="chat-70b")
    (incident,) = desk.tell(one, resolved(one, 1), seconds=1)
    assert incident.state is IncidentState.RESOLVED


def test_an_alert_without_service_is_shown_where_everybody_looks(desk):
    (incident,) = desk.tell(alert("DiskFull", instance="db-1"), alert("DiskFull", instance="db-2"))
    assert (incident.channel, incident.runbook) == ("#oncall", None)
    assert "no service of fleet.yaml" in incident.target.unresolved


def test_two_rules_without_service_are_two_incidents(desk):
    assert len(desk.tell(alert("DiskFull"), alert("CertExpires"))) == 2


def test_a_storm_over_many_services_is_gathered_and_loses_nothing(store):
    names = [f"svc-{n}" for n in range(12)]
    desk = Desk(store, *names)
    incidents = desk.tell(*(alert(service=name) for name in names))
    storm = next(i for i in incidents if i.title == STORM_TITLE)
    assert len(incidents) == TIMING.storm_services + 1
    assert set(storm.target.also) == set(names[TIMING.storm_services :])
    with store.read() as tx:
        held = {a.labels["service"] for i in incidents for a in tx.alerts_of(i.number)}
    assert held == set(names)


def test_a_second_alert_of_a_service_in_the_storm_joins_the_storm(store):
    names = [f"svc-{n}" for n in range(6)]
    desk = Desk(store, *names)
    before = desk.tell(*(alert(service=name) for name in names))
    assert len(desk.tell(alert("VllmQueue", service="svc-5"), seconds=3)) == len(before)


@pytest.fixture
def shared(desk):
    """Both services run on gpu-07; chat-70b on gpu-08, too."""
    for node in ("gpu-07", "gpu-08"):
        desk.cluster.add_node(node)
    chat = desk.cluster.add_workload(name="chat-70b", replicas=1, node="gpu-07")
    desk.cluster.add_workload(name="code-8b", replicas=1, node="gpu-07")
    desk.cluster.add_pod(chat, node="gpu-08")
    return desk


def of_pod(shared, name, alertname="VllmHighTTFT", node="gpu-07", **more):
    pod = next(p for p in shared.cluster.pods if p.labels["app"] == name and p.node == node)
    return alert(alertname, namespace="llm", pod=pod.name, **more)


NODE = alert("GpuXid", node="gpu-07")


def test_a_nodes_alert_over_several_services_names_them_all_in_one_incident(shared):
    (incident,) = shared.tell(NODE)
    assert (incident.target.node, incident.target.service) == ("gpu-07", None)
    assert incident.target.also == ("chat-70b", "code-8b")


def test_a_nodes_alert_that_joins_a_services_incident_brings_its_other_services(shared):
    (incident,) = shared.tell(of_pod(shared, "chat-70b"), NODE)
    assert (incident.target.service, incident.target.node, incident.target.also) == ("chat-70b", "gpu-07", ("code-8b",))
    assert len(shared.tell(of_pod(shared, "code-8b"), seconds=5)) == 1


def test_a_services_alert_that_joins_a_nodes_incident_takes_neither_node_nor_services_from_it(shared):
    (incident,) = shared.tell(NODE, of_pod(shared, "code-8b"), alert(service="chat-70b"))
    assert (incident.target.node, incident.target.service) == ("gpu-07", None)
    assert incident.target.also == ("chat-70b", "code-8b")
    assert incident.runbook == "gpu"


def test_an_alert_whose_runbook_takes_over_has_it_asked_about_its_own_service(shared):
    (incident,) = shared.tell(alert("NodeFlaps", node="gpu-07", severity="warning"), alert(service="code-8b"))
    assert incident.runbook == "high_latency"
    assert (incident.target.service, incident.target.workload.name) == ("code-8b", "code-8b")
    assert (incident.target.node, incident.target.also) == ("gpu-07", ("chat-70b",))


def test_a_nodes_alert_whose_runbook_takes_over_has_it_asked_about_its_own_node(shared):
    slow = of_pod(shared, "chat-70b", node="gpu-08", severity="warning")
    (incident,) = shared.tell(slow, alert("GpuXid", node="gpu-07", service="chat-70b"))
    assert (incident.runbook, incident.target.node, incident.target.pod) == ("gpu", "gpu-07", None)
    assert incident.target.service == "chat-70b"


def test_a_further_pods_alert_under_the_same_runbook_leaves_the_first_in_question(shared):
    first = of_pod(shared, "chat-70b", severity="warning")
    (incident,) = shared.tell(first, of_pod(shared, "chat-70b", "VllmQueue", node="gpu-08"))
    assert (incident.target.pod, incident.target.node) == (first.labels["pod"], "gpu-07")


def test_what_was_not_known_at_first_is_learnt(shared):
    shared.cluster.down = NOT_ANSWERING
    (incident,) = shared.tell(NODE)
    assert incident.target.unresolved is not None
    shared.cluster.down = None
    shared.tell(resolved(NODE, 5), seconds=5)
    (incident,) = shared.tell(NODE, seconds=20)
    assert (incident.target.node, incident.target.unresolved) == ("gpu-07", None)
    assert incident.target.also == ("chat-70b", "code-8b")


def test_every_move_is_in_the_audit_chain(desk, store):
    one = alert(service="chat-70b")
    desk.tell(one)
    desk.tell(resolved(one, 5), seconds=5)
    desk.tell(alert(service="chat-70b", seconds=9), seconds=9)
    with store.read() as tx:
        actions = [e.entry.action for e in tx.audit_chain()]
    assert actions == ["incident.opened", "incident.resolved", "incident.reopened"]


def test_alert_states_are_kept_under_their_incident(desk, store):
    one = alert(service="chat-70b")
    desk.tell(one)
    (incident,) = desk.tell(resolved(one, 5), seconds=5)
    with store.read() as tx:
        assert [a.status for a in tx.alerts_of(incident.number)] == [AlertStatus.RESOLVED]
