from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import SourceError
from bot.remediation.due import Remediation
from bot.remediation.proposal import ProposalState


@pytest.fixture
def remediation(stage) -> Remediation:
    return Remediation(stage.world)


def put(stage, proposal, *states: ProposalState, **fields):
    with stage.store.write() as tx:
        for state in states:
            proposal = replace(proposal, state=state, **fields)
            tx.save_proposal(proposal)
    return proposal


def test_what_is_approved_is_begun_once(stage, remediation):
    proposal = stage.scale_up()
    assert not remediation.step(stage.now)
    stage.press(proposal)
    assert remediation.step(stage.now)
    assert stage.engine.started == ["inc-1-p1"]
    assert not remediation.step(stage.now)


def test_an_approval_before_a_crash_is_begun_by_the_next_leader(stage):
    stage.press(stage.scale_up())
    Remediation(stage.world).step(stage.now)
    Remediation(stage.world).step(stage.now)  # asks again: the engine knows it
    assert stage.engine.started == ["inc-1-p1"]


def test_a_full_engine_keeps_an_approval_waiting_not_lost(stage, remediation, monkeypatch):
    proposal = stage.scale_up()
    stage.press(proposal)

    def full(kind, row_id):
        raise SourceError("Engine", "all slots are taken", retryable=True)

    with monkeypatch.context() as for_now:
        for_now.setattr(stage.engine, "start", full)
        assert not remediation.step(stage.now)
    assert remediation.step(stage.now)
    assert stage.engine.started == [proposal.id]


def test_what_expires_goes_away(stage, remediation):
    proposal = stage.scale_up()
    assert remediation.step(proposal.expires_at)
    assert stage.proposal(proposal.id).state is ProposalState.EXPIRED


def test_an_abort_is_handed_to_the_running_change_once(stage, remediation):
    running = put(stage, stage.scale_up(), ProposalState.APPROVED, ProposalState.RUNNING, started_at=stage.now)
    stage.engine.start("execution", running.id)
    stage.change(desired=4, updated=4)
    stage.press(stage.review(running.id, click="abort").token)
    for _ in range(2):
        remediation.step(stage.now)
        Remediation(stage.world).step(stage.now)
    assert stage.engine.journals[running.id].messages == [("abort", {"proposal": "inc-1-p2", "by": "UALICE"})]


def test_a_dead_execution_is_interrupted_with_what_to_do(stage, remediation):
    running = put(stage, stage.scale_up(), ProposalState.APPROVED, ProposalState.RUNNING, started_at=stage.now)
    stage.engine.broken = (running.id,)
    assert remediation.step(stage.now)
    dead = stage.proposal(running.id)
    assert dead.state is ProposalState.INTERRUPTED
    assert "look at the cluster before you repeat it" in dead.outcome
    assert "execution.interrupted" in stage.audited()


def test_one_that_died_before_it_began_is_refused(stage, remediation):
    proposal = put(stage, stage.scale_up(), ProposalState.APPROVED)
    stage.engine.broken = (proposal.id,)
    remediation.step(stage.now)
    assert stage.proposal(proposal.id).state is ProposalState.REFUSED


def test_the_dead_are_looked_for_once_a_minute(stage, remediation):
    running = put(stage, stage.scale_up(), ProposalState.APPROVED, ProposalState.RUNNING, started_at=stage.now)
    remediation.step(stage.now)
    stage.engine.broken = (running.id,)
    remediation.step(stage.now + timedelta(seconds=30))
    assert stage.proposal(running.id).state is ProposalState.RUNNING
    remediation.step(stage.now + timedelta(seconds=60))
    assert stage.proposal(running.id).state is ProposalState.INTERRUPTED


def test_the_abort_of_a_dead_execution_ends_with_it(stage, remediation):
    running = put(stage, stage.scale_up(), ProposalState.APPROVED, ProposalState.RUNNING, started_at=stage.now)
    abort = replace(running, number=2, aborts=running.id)
    with stage.store.write() as tx:
        for state in (ProposalState.PENDING, ProposalState.APPROVED, ProposalState.RUNNING):
            tx.save_proposal(replace(abort, state=state))
    stage.engine.broken = (running.id,)
    remediation.step(stage.now)
    assert stage.proposal("inc-1-p2").state is ProposalState.INTERRUPTED
