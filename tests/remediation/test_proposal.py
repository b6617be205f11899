from datetime import UTC, datetime

from bot.ports import Risk
from bot.remediation.proposal import MOVES, Proposal, ProposalState

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ENDS = {ProposalState.DECLINED, ProposalState.EXPIRED, ProposalState.SUPERSEDED, ProposalState.REFUSED}
ENDS |= {ProposalState.ENDED, ProposalState.FAILED, ProposalState.INTERRUPTED}


def test_a_proposal_is_spoken_of_by_its_incident_and_number():
    p = Proposal(142, 2, "scale_workload", {}, Risk.MEDIUM, "", "", "", ProposalState.PENDING, NOW, NOW, None, None)
    assert p.id == "inc-142-p2"


def test_nothing_runs_without_an_approval():
    into_running = {state for state, moves in MOVES.items() if ProposalState.RUNNING in moves}
    assert into_running == {ProposalState.APPROVED}


def test_an_ended_proposal_never_moves_again():
    assert not ENDS & set(MOVES)
