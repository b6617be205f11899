from dataclasses import replace

import pytest

from bot.actions.contract import Progress
from bot.remediation.moves import Moves
from bot.remediation.outside import Outside
from bot.remediation.proposal import Applied, Helped, ProposalState


@pytest.fixture
def moves(stage) -> Moves:
    return Moves(stage.world)


@pytest.fixture
def running(stage, moves):
    proposal = stage.scale_up()
    stage.press(proposal)
    look = Outside(stage.world).look(proposal.id)
    assert done(stage, moves.begin, proposal.id, look) == {"go": True}
    return stage.proposal(proposal.id)


def done(stage, move, *args):
    with stage.store.write() as tx:
        return move(tx, *args)


def test_beginning_writes_when_and_audits_what(stage, running):
    assert (running.state, running.started_at) == (ProposalState.RUNNING, stage.now)
    with stage.store.read() as tx:
        entry = tx.audited(running.id, 1)[0].entry
    assert (entry.action, entry.detail["params"]["after"]) == ("execution.started", 4)


def test_what_is_not_approved_does_not_begin(stage, moves):
    proposal = stage.scale_up()
    look = Outside(stage.world).look(proposal.id)
    assert done(stage, moves.begin, proposal.id, look) == {"go": False}
    assert stage.proposal(proposal.id).state is ProposalState.PENDING


def test_a_look_that_knows_no_facts_does_not_begin(stage, moves):
    proposal = stage.scale_up()
    stage.press(proposal)
    look = {**Outside(stage.world).look(proposal.id), "facts": None}
    assert done(stage, moves.begin, proposal.id, look) == {"go": False}
    assert "capacity is not known" in stage.proposal(proposal.id).refusal


def test_the_minimum_of_ready_replicas_is_held_at_the_begin(stage, moves):
    proposal = stage.scale_up()
    stage.press(proposal)
    look = Outside(stage.world).look(proposal.id)
    look["facts"] |= {"ready": 2, "lost": 1}
    assert done(stage, moves.begin, proposal.id, look) == {"go": False}
    assert "would fall to 1 ready of 2" in stage.proposal(proposal.id).refusal


def test_what_begins_in_spite_of_a_freeze_was_let_through_by_breaking_glass(stage, moves):
    proposal = stage.scale_up()
    stage.press(proposal, "UEVE", break_glass_reason="prod is down")
    with stage.store.write() as tx:
        tx.freeze("UALICE", "launch", stage.now)
    assert done(stage, moves.begin, proposal.id, Outside(stage.world).look(proposal.id)) == {"go": True}


def test_standing_still_is_said_once(stage, moves, running):
    effect = {"progress": Progress.PARTLY.value, "detail": "3 of 4 ready; x is Pending: <no> room"}
    for _ in range(2):
        done(stage, moves.progress, running.id, effect)
    assert stage.proposal(running.id).progress == "3 of 4 ready; x is Pending: &lt;no&gt; room"
    assert [*stage.said()] == ["execution:inc-1-p1:stuck"]


def test_a_row_that_was_closed_is_not_moved_again(stage, moves, running):
    at = stage.now.timestamp()
    done(stage, moves.close, running.id, "yes", "yes", "it helped", at)
    closed = stage.proposal(running.id)
    assert (closed.state, closed.applied, closed.helped) == (ProposalState.ENDED, Applied.YES, Helped.YES)
    done(stage, moves.progress, running.id, {"progress": "not yet", "detail": "late"})
    done(stage, moves.applied, running.id, "partly", "late", at)
    done(stage, moves.close, running.id, "no", None, "late", at)
    done(stage, moves.fail, running.id, "late", at)
    done(stage, moves.interrupt, running.id, "late", at)
    assert stage.proposal(running.id) == closed


def test_failing_leaves_open_what_is_not_known(stage, moves, running):
    done(stage, moves.fail, running.id, "no answer", stage.now.timestamp(), None)
    failed = stage.proposal(running.id)
    assert (failed.state, failed.applied, failed.outcome) == (ProposalState.FAILED, None, "no answer")
    assert [r.for_execution for r in stage.rounds()] == [running.id]


@pytest.mark.parametrize(
    ("rolled_back", "left", "words"),
    [("yes", Applied.NO, "and rolled back"), ("partly", Applied.PARTLY, "partly"), ("no", Applied.PARTLY, "but not")],
)
def test_an_abort_says_how_far_the_way_back_came(stage, moves, running, rolled_back, left, words):
    message, at = {"proposal": "inc-1-p9", "by": "UBOB"}, stage.now.timestamp()
    done(stage, moves.aborting, running.id, message, at)
    assert stage.proposal(running.id).progress == "aborted by <@UBOB>, rolling back"
    done(stage, moves.aborted, running.id, message, rolled_back, "3 of 3 ready", at)
    ended = stage.proposal(running.id)
    assert (ended.state, ended.applied) == (ProposalState.ENDED, left)
    assert words in ended.outcome and ended.outcome.endswith(": 3 of 3 ready")


def test_a_proposal_that_is_not_there_is_a_mistake_of_ours(stage, moves):
    with pytest.raises(LookupError, match="inc-9-p9"):
        done(stage, moves.ask_round, "inc-9-p9", 0.0)


def test_a_failure_before_the_begin_is_a_refusal(stage, moves):
    proposal = stage.scale_up()
    stage.press(proposal)
    done(stage, moves.fail, proposal.id, "could not.", stage.now.timestamp())
    refused = stage.proposal(proposal.id)
    assert (refused.state, refused.refusal) == (ProposalState.REFUSED, "could not")
    assert replace(refused, refusal=None).id == proposal.id
