"""Proposals that nobody may approve any more: they are past their expiry, or their incident is over."""

from dataclasses import replace
from datetime import datetime

from bot.remediation.checks import audit, incident_is_over
from bot.remediation.proposal import Proposal, ProposalState, RemediationTx


def is_due(tx: RemediationTx, proposal: Proposal, now: datetime) -> bool:
    return proposal.expires_at <= now or incident_is_over(tx, proposal) is not None


def expire(tx: RemediationTx, now: datetime) -> int:
    """How many buttons went away. An open review does not keep one: its submission is told that it is too late."""
    count = 0
    for proposal in tx.proposals_in(ProposalState.PENDING):
        if proposal.expires_at <= now:
            tx.save_proposal(replace(proposal, state=ProposalState.EXPIRED))
            audit(tx, now, "bot", "proposal.expired", proposal)
        elif over := incident_is_over(tx, proposal):
            tx.save_proposal(replace(proposal, state=ProposalState.SUPERSEDED, refusal=over))
            audit(tx, now, "bot", "proposal.superseded", proposal, reason=over)
        else:
            continue
        tx.show(proposal.incident)
        count += 1
    return count
