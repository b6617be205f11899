import json
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.remediation.guard import Facts, Limits, Rows, Share, facts_json, facts_of, reasons
from bot.remediation.proposal import ProposalState
from tests.fixtures_store import NOW, a_proposal

MINUTE = timedelta(minutes=1)
FACTS = Facts(ready=3, minimum_ready=2)
QUIET = Rows((), (), 1)
LIMITS = Limits(changes_per_hour=2, storm_services=3, cool_down_seconds=300)


def judged(proposal=None, facts=FACTS, rows=QUIET):
    return reasons(proposal or a_proposal(1), facts, rows, LIMITS, NOW)


def begun(number: int, minutes_ago: int, **changes):
    changes = {"service": "other", "state": ProposalState.ENDED, **changes}
    return a_proposal(number, started_at=NOW - minutes_ago * MINUTE, **changes)


def test_one_change_in_a_quiet_hour_may_begin():
    assert judged() == ()


# ---------------------------------------------------------------------------------------------- one at a time


@pytest.mark.parametrize(
    ("state", "word"), [(ProposalState.RUNNING, "is running"), (ProposalState.APPROVED, "is approved")]
)
def test_a_second_change_of_a_service_waits_for_the_first(state, word):
    (reason,) = judged(rows=Rows((a_proposal(7, state=state),), (), 1))
    assert reason == f"one change at a time: inc-1-p7 (scale 3 -> 4) {word} on chat-70b"


def test_another_services_change_is_no_hindrance():
    assert judged(rows=Rows((a_proposal(7, service="whisper", state=ProposalState.RUNNING),), (), 1)) == ()


def test_it_does_not_wait_for_itself():
    assert judged(a_proposal(7), rows=Rows((a_proposal(7, state=ProposalState.APPROVED),), (), 1)) == ()


def test_an_abort_does_not_wait_for_what_it_aborts():
    running = a_proposal(7, state=ProposalState.RUNNING)
    assert judged(a_proposal(8, aborts="inc-1-p7"), rows=Rows((running,), (), 1)) == ()


# ---------------------------------------------------------------------------------------------- capacity


def test_never_below_the_minimum_of_ready_replicas():
    assert judged(facts=Facts(ready=3, minimum_ready=2, lost=1)) == ()
    (reason,) = judged(facts=Facts(ready=2, minimum_ready=2, lost=1))
    assert "would fall to 1 ready of 2" in reason and "at least 2 must stay" in reason


def test_below_the_minimum_what_takes_nothing_away_may_still_begin():
    assert judged(facts=Facts(ready=0, minimum_ready=2, lost=0)) == ()


# ---------------------------------------------------------------------------------------------- nodes


def test_one_gpu_node_is_out_at_a_time():
    facts = Facts(ready=3, minimum_ready=1, node="gpu-07", nodes_out=("gpu-02",), bot_node="cpu-01")
    assert judged(facts=facts) == ("one GPU node out at a time: gpu-02 is out",)
    assert judged(facts=replace(facts, nodes_out=("gpu-07",))) == ()  # it is out itself already


def test_a_node_that_another_change_is_taking_counts_before_it_is_out():
    facts = Facts(ready=3, minimum_ready=1, node="gpu-07", bot_node="cpu-01")
    draining = a_proposal(9, service="other", state=ProposalState.RUNNING, params={"node": "gpu-03"})
    assert judged(facts=facts, rows=Rows((draining,), (), 1)) == (
        "one GPU node out at a time: inc-1-p9 takes out gpu-03",
    )


def test_the_bots_own_node_stays():
    facts = Facts(ready=3, minimum_ready=1, node="gpu-07", bot_node="gpu-07")
    assert "this bot runs on gpu-07" in judged(facts=facts)[0]


def test_without_knowing_its_own_node_it_touches_none():
    assert "not known which node this bot runs on" in judged(facts=Facts(3, 1, node="gpu-07"))[0]


# ---------------------------------------------------------------------------------------------- how often


def test_changes_per_hour_are_limited_and_the_next_moment_is_named():
    lately = (begun(1, 50), begun(2, 10))
    (reason,) = judged(a_proposal(3), rows=Rows((), lately, 1))
    assert reason.startswith("2 changes within the hour, 2 are allowed; next at <t:")
    assert f"<t:{int((NOW + 10 * MINUTE).timestamp())}:" in reason  # when the oldest is an hour old


def test_undoing_does_not_count_and_is_always_allowed():
    lately = (begun(1, 50), begun(2, 10, undoes="inc-1-p1"))
    assert judged(a_proposal(3), rows=Rows((), lately, 1)) == ()
    full = (begun(1, 50), begun(2, 10))
    assert judged(a_proposal(3, undoes="inc-1-p2"), rows=Rows((), full, 1)) == ()


def test_in_a_storm_changes_wait_for_one_another():
    rows = Rows((), (begun(1, 2),), services_in_trouble=3)
    (reason,) = judged(a_proposal(3), rows=rows)
    assert "3 services are in trouble at once" in reason
    assert f"<t:{int((NOW + 3 * MINUTE).timestamp())}:" in reason
    assert judged(a_proposal(3), rows=replace(rows, began_within_the_hour=(begun(1, 6),))) == ()
    assert judged(a_proposal(3), rows=replace(rows, services_in_trouble=2)) == ()


def test_all_reasons_are_told_at_once():
    rows = Rows((a_proposal(7, state=ProposalState.RUNNING),), (begun(1, 2), begun(2, 1)), services_in_trouble=3)
    assert len(judged(a_proposal(3), Facts(ready=1, minimum_ready=1, lost=1), rows)) == 4


# ---------------------------------------------------------------------------------------------- several services


def drain(number: int = 9, node: str = "gpu-01", **changes):
    params = {"node": node, "schedulable": False}
    return a_proposal(number, action="drain_node", params=params, service=None, button=f"drain {node}", **changes)


HIT = Facts(3, 0, node="gpu-01", bot_node="cpu-01", others=(Share("chat-70b", 3, 2, 1), Share("whisper", 2, 1, 1)))


def test_a_change_of_several_services_leaves_each_its_minimum():
    assert judged(drain(), HIT) == ()
    (reason,) = judged(drain(), replace(HIT, others=(Share("chat-70b", 3, 2, 1), Share("whisper", 1, 1, 1))))
    assert reason.startswith("whisper would fall to 0 ready of 1 while it runs; at least 1 must stay")


def test_a_change_of_several_services_waits_for_a_change_of_each():
    running = a_proposal(7, service="whisper", state=ProposalState.RUNNING)
    assert judged(drain(), HIT, Rows((running,), (), 1)) == (
        "one change at a time: inc-1-p7 (scale 3 -> 4) is running on whisper",
    )


def test_a_services_change_waits_for_a_running_one_that_touches_it_too():
    running = drain(state=ProposalState.RUNNING, before={"services": ["chat-70b"]})
    (reason,) = judged(rows=Rows((running,), (), 1))
    assert reason == "one change at a time: inc-1-p9 (drain gpu-01) is running on chat-70b"
    assert judged(a_proposal(1, service="whisper"), rows=Rows((running,), (), 1)) == ()


def test_a_node_that_comes_back_holds_nobody_up():
    back = {"node": "gpu-02", "schedulable": True}
    running = a_proposal(7, action="uncordon_node", params=back, service=None, state=ProposalState.RUNNING)
    assert judged(drain(), HIT, Rows((running,), (), 1)) == ()


def test_facts_pass_through_a_checkpoint():
    for facts in (FACTS, HIT, replace(HIT, nodes_out=("gpu-02",))):
        assert facts_of(json.loads(json.dumps(facts_json(facts)))) == facts
