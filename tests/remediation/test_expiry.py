from dataclasses import replace
from datetime import timedelta

from bot.incidents.incident import IncidentState
from bot.remediation.expiry import expire, is_due
from bot.remediation.proposal import ProposalState


def expired_at(stage, now) -> int:
    with stage.store.write() as tx:
        return expire(tx, now)


def test_a_proposal_lives_until_its_expiry(stage):
    proposal = stage.scale_up()
    assert expired_at(stage, proposal.expires_at - timedelta(seconds=1)) == 0
    assert expired_at(stage, proposal.expires_at) == 1
    assert stage.proposal(proposal.id).state is ProposalState.EXPIRED
    assert expired_at(stage, proposal.expires_at) == 0
    assert "proposal.expired" in stage.audited()


def test_an_open_review_does_not_keep_it(stage):
    proposal = stage.scale_up()
    stage.review(proposal.id)
    assert expired_at(stage, proposal.expires_at) == 1


def test_with_its_incident_over_a_proposal_is_moot_but_the_way_back_stays(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_proposal(replace(proposal, number=2, undoes="inc-1-p0"))
        tx.save_incident(replace(stage.incident(), state=IncidentState.RESOLVED, resolved_at=stage.now))
    assert expired_at(stage, stage.now) == 1
    assert stage.proposal(proposal.id).state is ProposalState.SUPERSEDED
    assert stage.proposal("inc-1-p2").state is ProposalState.PENDING


def test_only_what_is_due_asks_for_a_transaction(stage):
    proposal = stage.scale_up()
    with stage.store.read() as tx:
        assert not is_due(tx, proposal, stage.now)
        assert is_due(tx, proposal, proposal.expires_at)
