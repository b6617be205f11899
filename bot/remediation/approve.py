"""The submitted review: everything is checked again, then approved or refused, in one transaction.

What needs the outside (the cluster, Slack's user groups) is looked at first, by `check`; `decide` writes down what
follows. A refusal names the reason and the person. What refuses for a passing reason leaves the proposal pending.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zlib import crc32

from bot.audit import AuditEntry
from bot.incidents.incident import ThreadMessage
from bot.remediation import guard, policy
from bot.remediation.checks import ask_round, audit, incident_is_over, rows_for
from bot.remediation.draft import Look, look_again
from bot.remediation.policy import Standing
from bot.remediation.proposal import Approval, Proposal, ProposalState, RemediationTx
from bot.remediation.world import World
from bot.report import Report, Text, mention, plain

REASON_INPUT = "break_glass_reason"


@dataclass(frozen=True, slots=True)
class Checked:
    """What the outside said about one submission."""

    proposal_id: str
    user: str
    break_glass_reason: str | None
    standing: Standing | None  # None: there is no such proposal
    look: Look


@dataclass(frozen=True, slots=True)
class Decision:
    """`text` answers the person who pressed; marked up."""

    accepted: bool
    text: str
    starts: bool = False  # it is approved: the leader's loop begins it


class Approve:
    def __init__(self, world: World) -> None:
        self._world = world

    def submitted(self, proposal_id: str, user: str, inputs: Mapping[str, Any], now: datetime) -> Decision:
        checked = self.check(proposal_id, user, inputs, now)
        with self._world.store.write() as tx:
            return self.decide(tx, checked, now)

    def check(self, proposal_id: str, user: str, inputs: Mapping[str, Any], now: datetime) -> Checked:
        """Asks the cluster and Slack. No transaction may be open."""
        with self._world.store.read() as tx:
            proposal = tx.proposal(proposal_id)
        reason = str(inputs.get(REASON_INPUT) or "").strip() or None
        if proposal is None or proposal.state is not ProposalState.PENDING:
            return Checked(proposal_id, user, reason, None, Look())
        standing = self._standing(proposal, user)
        # An abort must get through when the cluster does not answer: it is a message to the running change.
        seen = Look() if proposal.aborts else look_again(proposal, self._world, now)
        return Checked(proposal_id, user, reason, standing, seen)

    def _standing(self, proposal: Proposal, user: str) -> Standing:
        world = self._world
        return policy.standing_of(user, world.fleet, proposal.service, proposal.risk, world.members)

    def decide(self, tx: RemediationTx, checked: Checked, now: datetime) -> Decision:
        proposal = tx.proposal(checked.proposal_id)
        if proposal is None:
            return Decision(False, f"There is no proposal {plain(checked.proposal_id)}.")
        if proposal.state is not ProposalState.PENDING or checked.standing is None:
            return Decision(False, _already(proposal))
        if proposal.expires_at <= now:
            return self._closed(tx, proposal, ProposalState.EXPIRED, "it expired before it was approved", checked, now)
        if over := incident_is_over(tx, proposal):
            return self._closed(tx, proposal, ProposalState.SUPERSEDED, over, checked, now)
        if not checked.break_glass_reason and any(a.user == checked.user for a in tx.approvals_of(proposal.id)):
            return Decision(True, f"You approved {proposal.id} already; it waits for somebody else.")
        verdict = self._verdict(tx, proposal, checked, checked.standing)
        if not verdict.allowed:
            return self._refused(tx, proposal, verdict.reason, checked, now)
        if checked.look.drift is not None:
            drift = plain(checked.look.drift)
            return self._closed(tx, proposal, ProposalState.SUPERSEDED, drift, checked, now)
        if against := self._against(tx, proposal, checked, now):
            return self._refused(tx, proposal, "; ".join(against), checked, now)
        return self._approved(tx, proposal, verdict, checked, now)

    def declined(self, proposal_id: str, user: str, now: datetime) -> Decision:
        """The way to make a button go away: for those who could have pressed it."""
        with self._world.store.read() as tx:
            proposal = tx.proposal(proposal_id)
        if proposal is None:
            return Decision(False, f"There is no proposal {plain(proposal_id)}.")
        standing = self._standing(proposal, user)
        if not standing.holds:
            who = f"that takes the role {plain(standing.role)} ({standing.holders})"
            return Decision(False, f"{mention(user)} may not decline {proposal.id}: {who}.")
        with self._world.store.write() as tx:
            latest = tx.proposal(proposal_id) or proposal
            if latest.state is not ProposalState.PENDING:
                return Decision(False, _already(latest))
            tx.save_proposal(replace(latest, state=ProposalState.DECLINED, decided_by=user, decided_at=now))
            audit(tx, now, user, "proposal.declined", latest)
            tx.show(latest.incident)
        return Decision(True, f"{proposal.id} ({plain(proposal.button)}) is declined.")

    # ------------------------------------------------------------------------------------------------ the parts

    def _verdict(self, tx: RemediationTx, proposal: Proposal, checked: Checked, standing: Standing) -> policy.Verdict:
        return policy.judge(
            proposal,
            standing,
            tx.approvals_of(proposal.id),
            needed=policy.people_needed(self._world.fleet, proposal.risk),
            frozen=tx.frozen(),
            break_glass_reason=checked.break_glass_reason,
        )

    def _against(self, tx: RemediationTx, proposal: Proposal, checked: Checked, now: datetime) -> tuple[str, ...]:
        if proposal.aborts is not None:
            running = tx.proposal(proposal.aborts)
            if running is not None and running.state is ProposalState.RUNNING:
                return ()
            return (f"{proposal.aborts} runs no longer: undo it instead",)
        if checked.look.blocked:
            return tuple(plain(reason) for reason in checked.look.blocked)
        if checked.look.facts is None:
            return ("what it does to the serving capacity is not known",)
        return guard.reasons(proposal, checked.look.facts, rows_for(tx, now), self._world.limits, now)

    def _approved(
        self, tx: RemediationTx, proposal: Proposal, verdict: policy.Verdict, checked: Checked, now: datetime
    ) -> Decision:
        user = checked.user
        reason = checked.break_glass_reason if verdict.override else None
        _acknowledge(tx, proposal, user, now)
        tx.save_approval(Approval(proposal.id, user, now, reason))
        audit(
            tx,
            now,
            user,
            "proposal.approved",
            proposal,
            given=verdict.given,
            needed=verdict.needed,
            break_glass_reason=reason,
            diff=[[line.path, line.before, line.after] for line in proposal.diff],
        )
        tx.show(proposal.incident)
        if not verdict.complete:
            tx.save_proposal(replace(proposal, objections=checked.look.blocked))
            return Decision(True, f"Approved, {verdict.given} of {verdict.needed}: it waits for somebody else.")
        tx.save_proposal(
            replace(
                proposal,
                state=ProposalState.APPROVED,
                objections=(),
                # What the approver saw and what was just looked at are the same, or there would be a drift.
                before=checked.look.before if checked.look.before is not None else proposal.before,
                decided_by=user,
                decided_at=now,
            )
        )
        return Decision(True, f"Approved: {plain(proposal.button)} begins now.", starts=True)

    def _refused(self, tx: RemediationTx, proposal: Proposal, reason: str, checked: Checked, now: datetime) -> Decision:
        """It stays pending: somebody else may approve, or the reason may pass."""
        if checked.look.blocked != proposal.objections and checked.look.facts is not None:
            tx.save_proposal(replace(proposal, objections=checked.look.blocked))
        then = "It stays offered: approve it again once that works" if checked.look.unreadable is not None else None
        return self._said(tx, proposal, reason, checked, now, then)

    def _closed(
        self,
        tx: RemediationTx,
        proposal: Proposal,
        state: ProposalState,
        reason: str,
        checked: Checked,
        now: datetime,
    ) -> Decision:
        tx.save_proposal(replace(proposal, state=state, refusal=reason))
        if state is ProposalState.SUPERSEDED and incident_is_over(tx, proposal) is None:
            ask_round(tx, proposal, now)  # what may be done now?
        return self._said(tx, proposal, reason, checked, now)

    def _said(
        self,
        tx: RemediationTx,
        proposal: Proposal,
        reason: str,
        checked: Checked,
        now: datetime,
        then: str | None = None,
    ) -> Decision:
        reason = reason.rstrip(".")
        end = "Nothing was changed." if then is None else f"Nothing was changed. {then}."
        audit(tx, now, checked.user, "proposal.refused", proposal, reason=reason)
        text = f":no_entry: *Refused*: {plain(proposal.button)}, pressed by {mention(checked.user)}: {reason}. {end}"
        # The same refusal is said once, however often the button is pressed.
        key = f"refused:{proposal.id}:{checked.user}:{crc32(reason.encode())}"
        tx.say(ThreadMessage(proposal.incident, key, Report(text, (Text(text),))))
        tx.show(proposal.incident)
        return Decision(False, f"Not approved: {reason}. {end}")


def _acknowledge(tx: RemediationTx, proposal: Proposal, user: str, now: datetime) -> None:
    """Whoever approves a change is at it: nobody needs to be called any more."""
    incident = tx.incident(proposal.incident)
    if incident is not None and incident.acked_by is None:
        tx.save_incident(replace(incident, acked_by=user, acked_at=now))
        tx.audit(AuditEntry(now, user, "incident.acknowledged", incident.id, {"by": f"approving {proposal.id}"}))


def _already(proposal: Proposal) -> str:
    """A second press does nothing, and names the first one."""
    what = f"{proposal.id} ({plain(proposal.button)})"
    by = f" by {mention(proposal.decided_by)}" if proposal.decided_by else ""
    why = f": {proposal.refusal}" if proposal.refusal else ""
    match proposal.state:
        case ProposalState.APPROVED | ProposalState.RUNNING:
            return f"{what} was approved{by} already; it is {proposal.state.value}."
        case ProposalState.ENDED:
            return f"{what} was approved{by} and has ended: {proposal.outcome or 'see the thread'}."
        case _:
            return f"{what} is {proposal.state.value}{by}{why}."
