"""What every step of a proposal's life asks of the rows, inside its transaction: is the incident open, what else is
under way, how much was done lately. Nothing is asked outside the store here."""

from datetime import datetime, timedelta

from bot.audit import AuditEntry
from bot.incidents.incident import IncidentState, Round, RoundReason
from bot.remediation import guard
from bot.remediation.proposal import Proposal, ProposalState, RemediationTx


def rows_for(tx: RemediationTx, now: datetime) -> guard.Rows:
    services: set[str] = set()
    for incident in tx.open_incidents():
        services |= {s for s in (incident.target.service, *incident.target.also) if s is not None}
    return guard.Rows(
        under_way=tx.proposals_in(ProposalState.APPROVED, ProposalState.RUNNING),
        began_within_the_hour=tx.started_since(now - timedelta(hours=1)),
        services_in_trouble=len(services),
    )


def incident_is_over(tx: RemediationTx, proposal: Proposal) -> str | None:
    """Why the incident forbids the change; None while it is open. The way back is allowed afterwards, too."""
    if proposal.undoes is not None or proposal.aborts is not None:
        return None
    incident = tx.incident(proposal.incident)
    if incident is not None and incident.state is IncidentState.OPEN:
        return None
    return f"inc-{proposal.incident} is resolved, so the change is no longer needed"


def ask_round(tx: RemediationTx, proposal: Proposal, now: datetime) -> int | None:
    """A round that looks at what the change did. Its number; None if the incident has no runbook."""
    incident = tx.incident(proposal.incident)
    if incident is None or incident.runbook is None:
        return None
    number = tx.next_round_number(incident.number)
    tx.save_round(
        Round(
            incident.number, number, incident.runbook, RoundReason.AFTER_CHANGE, due_at=now, for_execution=proposal.id
        )
    )
    return number


def audit(tx: RemediationTx, now: datetime, actor: str, action: str, proposal: Proposal, **detail: object) -> None:
    tx.audit(AuditEntry(now, actor, action, proposal.id, {"what": proposal.button, **detail}))
