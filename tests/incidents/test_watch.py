from dataclasses import replace

import pytest

from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target, Timing
from bot.incidents.watch import Watch
from bot.runbook.schema import Severity
from tests.incidents.conftest import alert, at, make_fleet, resolved

TIMING = Timing(hold_down_seconds=60, burn_interval_seconds=240, ack_reminder_seconds=300, escalation_seconds=900)
OPEN = Incident(1, IncidentState.OPEN, Severity.CRITICAL, "t", Target("chat-70b"), "high_latency", "#c", at(0), at(0))


@pytest.fixture
def watch(store):
    with store.write() as tx:
        tx.save_incident(OPEN)
        tx.join_alert(1, alert(service="chat-70b"))
        tx.save_round(Round(1, 1, "high_latency", RoundReason.START, due_at=at(0), ended_at=at(2)))
        tx.show(1)
        tx.card_shown(1, "1.0", "digest", 0)
    return Watch(store, make_fleet("chat-70b"), TIMING)


def change(store, **fields):
    with store.write() as tx:
        tx.save_incident(replace(tx.incident(1), **fields))


def reminders(store):
    """All of the thread, in order."""
    said = []
    with store.write() as tx:
        while waiting := tx.waiting_messages(10):
            for one in waiting:
                said.append((one.message.key, one.message.mention))
                tx.message_posted(one.id, f"2.{one.id}")
    return said


def test_a_burning_incident_is_looked_at_again_once(watch, store):
    watch.step(at(241))
    watch.step(at(243))
    watch.step(at(243))
    with store.read() as tx:
        assert [r.reason for r in tx.due_rounds(at(243))] == [RoundReason.BURNING]


def test_an_incident_that_was_just_looked_at_is_left_alone(watch, store):
    watch.step(at(100))
    with store.read() as tx:
        assert not tx.due_rounds(at(100))


def test_a_flapping_incident_ends_when_its_alerts_have_been_quiet_for_the_hold_down(watch, store):
    change(store, flaps=3)
    with store.write() as tx:
        tx.join_alert(1, resolved(alert(service="chat-70b"), 10))
    watch.step(at(69))
    with store.read() as tx:
        assert tx.incident(1).state is IncidentState.OPEN
    watch.step(at(70))
    with store.read() as tx:
        assert tx.incident(1).state is IncidentState.RESOLVED


def test_the_on_call_is_reminded_and_then_somebody_else_is_asked(watch, store):
    watch.step(at(299))
    assert reminders(store) == []
    for seconds in (300, 301, 900, 901, 5000):
        watch.step(at(seconds))
    assert reminders(store) == [("reminder:0:1", "U-ALICE"), ("reminder:0:2", "U-CAROL")]


def test_what_belongs_to_no_service_reminds_the_fleets_on_call(watch, store):
    change(store, target=Target(unresolved="no service of fleet.yaml matches its labels"))
    watch = Watch(store, make_fleet("chat-70b").model_copy(update={"default_oncall": "U-FLEET"}), TIMING)
    for seconds in (300, 900):
        watch.step(at(seconds))
    assert reminders(store) == [("reminder:0:1", "U-FLEET"), ("reminder:0:2", "U-FLEET")]


def test_an_acknowledged_incident_reminds_nobody(watch, store):
    change(store, acked_by="U-ALICE")
    watch.step(at(5000))
    assert reminders(store) == []


def test_a_warning_reminds_nobody(watch, store):
    change(store, severity=Severity.WARNING)
    watch.step(at(5000))
    assert reminders(store) == []
