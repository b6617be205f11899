import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.incidents.incident import SignalReading
from bot.ports import SourceError
from bot.remediation.outside import UNREADABLE, Outside, signal_json, signal_of

SLOW = SourceError("Kubernetes", "did not answer", retryable=True)
FORBIDDEN = SourceError("Kubernetes", "may not patch")


@pytest.fixture
def proposal(stage):
    return stage.scale_up()


@pytest.fixture
def outside(stage, proposal) -> Outside:
    return Outside(stage.world)


def test_every_answer_is_json_and_carries_its_time(stage, proposal, outside):
    for answer in (outside.look(proposal.id), outside.effect(proposal.id), outside.signal(proposal.id)):
        assert json.loads(json.dumps(answer)) == answer
        assert answer["now"] == stage.now.timestamp()


def test_a_look_has_the_signal_as_it_is_before(proposal, outside):
    seen = outside.look(proposal.id)
    assert signal_of(seen["signal"]).low == 2.5
    assert (seen["blocked"], seen["retryable"], seen["window"]) == ([], False, 60)


def test_where_the_signal_cannot_be_read_the_last_rounds_is_taken(stage, proposal, outside):
    with stage.store.write() as tx:
        tx.save_round(stage.round(signal=stage.signal()))
    stage.latency = lambda: None
    assert signal_of(outside.look(proposal.id)["signal"]).low == 2.5


def test_what_the_last_round_could_not_read_an_earlier_one_may_have(stage, proposal, outside):
    unread = replace(stage.signal(), value=None, low=None, high=None, error="Prometheus did not answer")
    strange = replace(stage.signal(), name="GPU errors")
    with stage.store.write() as tx:
        tx.save_round(stage.round(signal=stage.signal()))
        tx.save_round(stage.round(number=2, signal=unread))
        tx.save_round(replace(stage.round(number=3, signal=strange), runbook="gpu_hardware_failure"))
    stage.latency = lambda: None
    assert signal_of(outside.look(proposal.id)["signal"]).low == 2.5
    stage.now += timedelta(seconds=301)
    assert signal_of(outside.look(proposal.id)["signal"]).value is None


def test_a_trouble_that_has_passed_is_not_compared_with(stage, proposal, outside):
    """Else the change would be said to have ended what had ended before it."""
    with stage.store.write() as tx:
        tx.save_round(stage.round(signal=stage.signal()))
    stage.latency = lambda: (0.25, 0.5)
    assert signal_of(outside.look(proposal.id)["signal"]).high == 0.5


def test_the_signal_of_another_service_says_nothing_of_this_ones_change(stage, proposal, outside):
    with stage.store.write() as tx:
        tx.save_round(stage.round(signal=stage.signal()))
        incident = tx.incident(proposal.incident)
        tx.save_incident(replace(incident, target=replace(incident.target, service="code-8b", also=("chat-70b",))))
    assert outside.look(proposal.id)["signal"] is None
    assert outside.signal(proposal.id)["signal"] is None
    assert outside.round_signal(proposal.id, 1)["signal"] is None


def test_acting_twice_changes_once(stage, proposal, outside):
    assert [outside.act(proposal.id)["result"] for _ in range(2)] == ["done", "done"]
    assert stage.cluster.changes == [("scale", stage.ref)]


@pytest.mark.parametrize(("error", "result"), [(SLOW, "unclear"), (FORBIDDEN, "failed")])
def test_a_request_without_an_answer_is_unclear_a_refused_one_has_failed(stage, proposal, outside, error, result):
    stage.cluster.down = error
    assert outside.act(proposal.id) == {"now": stage.now.timestamp(), "result": result, "why": str(error)}


def test_what_somebody_else_changed_has_failed(stage, proposal, outside):
    stage.change(desired=5)
    assert outside.act(proposal.id)["result"] == "failed"


def test_an_effect_that_cannot_be_read_is_neither_yes_nor_no(stage, proposal, outside):
    stage.cluster.down = SLOW
    assert outside.effect(proposal.id)["progress"] == UNREADABLE


def test_the_way_back_is_prepared_and_gone_once(stage, proposal, outside):
    outside.act(proposal.id)
    ready = outside.prepare_roll_back(proposal.id)
    assert (ready["result"], ready["params"]["before"], ready["params"]["after"]) == ("ready", 4, 3)
    for _ in range(2):
        assert outside.roll_back(proposal.id, ready["action"], ready["params"], ready["before"])["result"] == "done"
    assert stage.cluster.changes == [("scale", stage.ref)] * 2


def test_with_nothing_changed_there_is_nothing_to_take_back(proposal, outside):
    assert outside.prepare_roll_back(proposal.id)["result"] == "nothing"


def test_a_round_tells_when_it_has_ended_and_what_it_read(stage, proposal, outside):
    with stage.store.write() as tx:
        tx.save_round(replace(stage.round(), ended_at=None))
    assert outside.round_signal(proposal.id, 1)["ended"] is False
    with stage.store.write() as tx:
        tx.save_round(stage.round(signal=stage.signal()))
    told = outside.round_signal(proposal.id, 1)
    assert told["ended"] and signal_of(told["signal"]) == stage.signal()


def test_no_number_is_no_data_in_a_checkpoint():
    idle = SignalReading("TTFT P99", "seconds", 1.0, "above", math.nan, traffic=0.0)
    assert signal_of(signal_json(idle)) == replace(idle, value=None)
    assert signal_json(None) is None and signal_of(None) is None


def test_a_proposal_that_is_not_there_is_a_mistake_of_ours(outside):
    with pytest.raises(LookupError, match="inc-9-p9"):
        outside.effect("inc-9-p9")
