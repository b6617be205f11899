from dataclasses import replace

import pytest

from bot.announce.view import load
from bot.incidents.incident import Target
from bot.outbound.store import SqlStore
from tests import stories as s


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()


def test_everything_of_one_incident_is_read(store: SqlStore):
    with store.write() as tx:
        tx.save_incident(s.incident())
        tx.join_alert(142, s.alert())
        tx.save_round(s.round_of())
        tx.save_proposal(s.proposal())
        tx.save_approval(s.APPROVED)
        tx.save_manuals(142, (s.MANUAL,))
        tx.show(142)
    with store.read() as tx:
        view = load(tx, 142, s.FLEET, s.RUNBOOKS)
    assert view is not None and view.name == "chat-70b"
    assert [r.number for r in view.rounds] == [1]
    assert [p.id for p in view.proposals] == ["inc-142-p2"]
    assert view.approvals == {"inc-142-p2": (s.APPROVED,)}
    assert view.manuals == (s.MANUAL,)
    assert [(a.status, a.received_at) for a in view.alerts] == [(s.alert().status, s.alert().received_at)]
    assert view.runbook == s.RUNBOOK and view.oncall == s.ALICE
    assert view.card is not None and view.card.ts is None


def test_no_incident_no_view(store: SqlStore):
    with store.read() as tx:
        assert load(tx, 1, s.FLEET, s.RUNBOOKS) is None


def test_looks_at_another_time_or_with_another_runbook_do_not_speak_for_the_incident(store: SqlStore):
    with store.write() as tx:
        tx.save_incident(s.incident())
        tx.save_round(s.round_of(1))
        tx.save_round(s.round_of(2, as_of=s.at(-60), asked_by=s.BOB))
        tx.save_round(s.round_of(3, runbook="oom_crashes", asked_by=s.BOB))
        tx.save_round(s.round_of(4, ended_at=None))
    with store.read() as tx:
        view = load(tx, 142, s.FLEET, s.RUNBOOKS)
    assert view is not None
    assert [r.number for r in view.rounds] == [1]
    assert [r.number for r in view.asides] == [2, 3]


def test_what_people_call_it_is_the_service_else_the_node_else_the_alert():
    assert s.view().name == "chat-70b"
    assert replace(s.view(), incident=s.incident(target=Target(node="gpu-07"))).name == "gpu-07"
    assert s.without_runbook().name == "KubeletTooManyPods"
