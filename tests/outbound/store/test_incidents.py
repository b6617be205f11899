from dataclasses import replace
from datetime import timedelta

from bot.fleet import WorkloadRef
from bot.incidents.alert import AlertStatus
from bot.incidents.incident import AlertTally, IncidentState, Joined, Round, RoundReason, SignalReading, Target
from bot.incidents.judge import Finding, Observation, Query, Verdict
from bot.runbook.schema import Severity, Suggestion
from tests.fixtures_store import NOW, an_alert, an_incident

MINUTE = timedelta(minutes=1)


def save(store, *incidents):
    with store.write() as tx:
        for incident in incidents:
            tx.save_incident(incident)


def test_numbers_are_given_out_in_order_and_once(store):
    numbers = []
    for _ in range(3):
        with store.write() as tx:
            numbers.append(tx.new_incident_number())
    assert numbers == [1, 2, 3]


def test_an_incident_comes_back_as_it_was_saved(store):
    workload = WorkloadRef(namespace="ml", name="chat-70b")
    full = an_incident(
        142,
        target=Target("chat-70b", workload, "chat-70b-x2k", "ml", "gpu-03", "pod is gone", ("embed",)),
        alert_names=("VLLMQueueLong", "VLLMKVCacheHigh"),
        resolved_at=NOW + MINUTE,
        resolution="all alerts resolved",
        acked_by="U1",
        acked_at=NOW,
        flaps=2,
        reminded=1,
    )
    save(store, full)
    with store.read() as tx:
        assert tx.incident(142) == full
        assert tx.incident(143) is None


def test_saving_again_replaces(store):
    save(store, an_incident(), an_incident(title="other"))
    with store.read() as tx:
        assert [i.title for i in tx.open_incidents()] == ["other"]


def test_open_and_resolved_incidents_are_told_apart(store):
    ended = an_incident(2, state=IncidentState.RESOLVED, resolved_at=NOW)
    long_ago = an_incident(3, state=IncidentState.RESOLVED, resolved_at=NOW - MINUTE)
    save(store, an_incident(1), ended, long_ago)
    with store.read() as tx:
        assert [i.number for i in tx.open_incidents()] == [1]
        assert [i.number for i in tx.incidents_resolved_since(NOW)] == [2]
        assert [i.number for i in tx.latest_incidents(2)] == [3, 2]


def test_an_alert_is_kept_once_per_incident_in_its_latest_state(store):
    save(store, an_incident())
    ended = replace(an_alert(), status=AlertStatus.RESOLVED, ends_at="2026-11-24T02:09:00Z")
    with store.write() as tx:
        tx.join_alert(1, an_alert())
        tx.join_alert(1, ended)
        tx.join_alert(1, an_alert("aa"))
    with store.read() as tx:
        assert {a.fingerprint: a for a in tx.alerts_of(1)} == {ended.fingerprint: ended, "aa": an_alert("aa")}


def test_an_incidents_alerts_are_counted(store):
    save(store, an_incident(1), an_incident(2))
    ended = replace(an_alert(), status=AlertStatus.RESOLVED, received_at=NOW + MINUTE)
    with store.write() as tx:
        tx.join_alert(1, ended)
        tx.join_alert(1, an_alert("aa"))
    with store.read() as tx:
        assert tx.alert_tally(1) == AlertTally(firing=1, last_at=NOW + MINUTE)
        assert tx.alert_tally(2) == AlertTally(firing=0, last_at=None)
        assert tx.open_tallies() == {1: AlertTally(firing=1, last_at=NOW + MINUTE)}
        assert {(s.status, s.received_at) for s in tx.alert_states(1)} == {
            (AlertStatus.RESOLVED, NOW + MINUTE),
            (AlertStatus.FIRING, an_alert("aa").received_at),
        }


def test_a_moment_is_known_as_such_and_what_resolved_as_it_began_is_none(store):
    save(store, an_incident())
    begun = an_alert().starts_at
    with store.write() as tx:
        tx.join_alert(1, replace(an_alert("moment"), ends_at=begun))
        tx.join_alert(1, replace(an_alert("resolved", AlertStatus.RESOLVED), ends_at=begun))
        tx.join_alert(1, an_alert("state"))
    with store.read() as tx:
        assert sorted((s.status.value, s.is_moment) for s in tx.alert_states(1)) == [
            ("firing", False),
            ("firing", True),
            ("resolved", False),
        ]


def test_a_fingerprint_leads_to_the_latest_incident_it_joined(store):
    save(store, an_incident(1), an_incident(2))
    with store.write() as tx:
        tx.join_alert(1, an_alert())
        tx.join_alert(2, an_alert())
    with store.read() as tx:
        assert tx.last_joined(an_alert().fingerprint) == Joined(2, an_alert().starts_at)
        assert tx.last_joined("never heard of") is None


def a_round(number=1, **changes):
    return Round(1, number, "high_latency", RoundReason.START, NOW, **changes)


def test_a_round_comes_back_as_it_was_saved(store):
    save(store, an_incident())
    full = a_round(
        started_at=NOW,
        ended_at=NOW + MINUTE,
        as_of=NOW - MINUTE,
        asked_by="U1",
        signal=SignalReading("TTFT P99", "seconds", 1.0, "above", 3.1, 2.5, 5.0, 12.0),
        observations=(
            Observation("queue", "vllm_queue", "Is it long?", {"waiting": 138, "growth": None}, None, 0.3),
            Observation("gpu", "gpu", "Busy?", None, "no agent", 8.0, (Query("up", "1", "http://p"),), "OOM\x00"),
        ),
        findings=(
            Finding(
                "under_provisioned",
                Verdict.CONFIRMED,
                Severity.CRITICAL,
                "Under-provisioned",
                "138 wait",
                suggest=(Suggestion(action="scale_workload", with_={"add": 1}, why="more"),),
            ),
        ),
        for_execution="inc-1-p2",
    )
    with store.write() as tx:
        tx.save_round(full)
    with store.read() as tx:
        assert tx.rounds_of(1) == (full,)


def test_a_round_is_due_until_it_has_ended_and_not_before_its_time(store):
    save(store, an_incident())
    with store.write() as tx:
        tx.save_round(a_round(1, ended_at=NOW))
        tx.save_round(replace(a_round(2), due_at=NOW + MINUTE))
        tx.save_round(a_round(3, started_at=NOW))
    with store.read() as tx:
        assert [r.number for r in tx.due_rounds(NOW)] == [3]
        assert [r.number for r in tx.due_rounds(NOW + MINUTE)] == [3, 2]
        assert tx.next_round_number(1) == 4
        assert tx.last_round(1) == a_round(1, ended_at=NOW)


def test_an_incident_without_rounds_has_no_last_one(store):
    with store.read() as tx:
        assert tx.last_round(1) is None
        assert tx.next_round_number(1) == 1
        assert tx.open_diagnosed_at() == {}


def test_when_open_incidents_were_last_diagnosed_is_one_question(store):
    save(store, an_incident(1), an_incident(2), replace(an_incident(3), state=IncidentState.RESOLVED))
    with store.write() as tx:
        tx.save_round(a_round(1, ended_at=NOW))
        tx.save_round(a_round(2, ended_at=NOW + MINUTE))
        tx.save_round(a_round(3))
        tx.save_round(replace(a_round(1), incident=2))
        tx.save_round(replace(a_round(1, ended_at=NOW), incident=3))
    with store.read() as tx:
        assert tx.open_diagnosed_at() == {1: NOW + MINUTE}
