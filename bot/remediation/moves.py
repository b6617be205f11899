"""The moves of an execution through its states: each is one transaction with its audit entry and what Slack shows.

`at` is when the step before looked: no clock is read in a transaction that may be run again.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot.actions.contract import Progress
from bot.incidents.incident import ThreadMessage
from bot.ports import Json
from bot.remediation import guard
from bot.remediation.capacity import age
from bot.remediation.checks import ask_round, audit, incident_is_over, rows_for
from bot.remediation.outside import time_of
from bot.remediation.proposal import Applied, Helped, Proposal, ProposalState, RemediationTx
from bot.remediation.world import World
from bot.report import Note, Part, Report, Text, mention, plain


class Moves:
    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, tx: RemediationTx, proposal_id: str, look: Mapping[str, Any]) -> Json:
        """approved → running, or refused. The guard's arithmetic is done here, where nobody can come between."""
        proposal, now = _found(tx, proposal_id), time_of(look["now"])
        if proposal.state is not ProposalState.APPROVED:
            return {"go": False}
        if reasons := self._against(tx, proposal, look, now):
            self._refuse(tx, proposal, "; ".join(reasons), now)
            return {"go": False}
        tx.save_proposal(replace(proposal, state=ProposalState.RUNNING, started_at=now))
        audit(tx, now, "bot", "execution.started", proposal, params=dict(proposal.params))
        _withdraw_others(tx, proposal, now)
        tx.show(proposal.incident)
        return {"go": True}

    def _against(
        self, tx: RemediationTx, proposal: Proposal, look: Mapping[str, Any], now: datetime
    ) -> tuple[str, ...]:
        if over := incident_is_over(tx, proposal):
            return (over,)
        glass = any(a.break_glass_reason for a in tx.approvals_of(proposal.id))
        frozen = tx.frozen()
        if frozen is not None and proposal.undoes is None and not glass:
            return (plain(frozen),)
        if look["blocked"]:
            return tuple(plain(reason) for reason in look["blocked"])
        if look["facts"] is None:
            return ("what it does to the serving capacity is not known",)
        facts = guard.facts_of(look["facts"])
        return guard.reasons(proposal, facts, rows_for(tx, now), self._world.limits, now)

    def _refuse(self, tx: RemediationTx, proposal: Proposal, reason: str, now: datetime) -> None:
        reason = reason.rstrip(".")
        tx.save_proposal(replace(proposal, state=ProposalState.REFUSED, refusal=reason, ended_at=now))
        audit(tx, now, "bot", "execution.refused", proposal, reason=reason)
        if incident_is_over(tx, proposal) is None:
            ask_round(tx, proposal, now)  # what may be done now?
        tx.show(proposal.incident)

    def progress(self, tx: RemediationTx, proposal_id: str, effect: Mapping[str, Any]) -> Json:
        proposal = _found(tx, proposal_id)
        if proposal.state is not ProposalState.RUNNING:
            return None
        tx.save_proposal(replace(proposal, progress=plain(effect["detail"])))
        if effect["progress"] == Progress.PARTLY.value:
            text = f":warning: *It stands still*: {plain(proposal.button)}: {plain(effect['detail'])}"
            note = Note("It goes on by itself if that passes. *Abort* on the card stops it and rolls it back.")
            _say(tx, proposal, "stuck", text, note)
        tx.show(proposal.incident)
        return None

    def applied(self, tx: RemediationTx, proposal_id: str, applied: str, detail: str, at: float) -> Json:
        proposal, now = _found(tx, proposal_id), time_of(at)
        if proposal.state is not ProposalState.RUNNING:
            return None
        tx.save_proposal(replace(proposal, applied=Applied(applied), progress=plain(detail)))
        audit(tx, now, "bot", "execution.applied", proposal, applied=applied, detail=detail)
        took = f" after {age(proposal.started_at, now)}" if proposal.started_at else ""
        word = "Applied" if applied == Applied.YES.value else "Applied partly"
        ask = "" if proposal.undoes else " Now: does it help?"
        _say(tx, proposal, "applied", f":hammer_and_wrench: *{word}*{took}: {plain(detail)}.{ask}")
        tx.show(proposal.incident)
        return None

    def ask_round(self, tx: RemediationTx, proposal_id: str, at: float) -> Json:
        return ask_round(tx, _found(tx, proposal_id), time_of(at))

    def close(
        self, tx: RemediationTx, proposal_id: str, applied: str, helped: str | None, outcome: str, at: float
    ) -> Json:
        """→ ended."""
        proposal, now = _found(tx, proposal_id), time_of(at)
        if proposal.state is not ProposalState.RUNNING:
            return None
        ended = replace(
            proposal,
            state=ProposalState.ENDED,
            ended_at=now,
            applied=Applied(applied),
            helped=Helped(helped) if helped else None,
            outcome=outcome,
        )
        tx.save_proposal(ended)
        audit(tx, now, "bot", "execution.ended", proposal, applied=applied, helped=helped, outcome=outcome)
        if ended.helped is not Helped.YES and not self._world.rules.dry_run:
            ask_round(tx, proposal, now)  # what else may be done, now that nothing runs?
        tx.show(proposal.incident)
        return None

    def fail(self, tx: RemediationTx, proposal_id: str, why: str, at: float, applied: str | None = None) -> Json:
        """→ failed; refused if it had not begun. `applied`: "no" where it is certain that nothing was changed."""
        proposal, now = _found(tx, proposal_id), time_of(at)
        why = plain(why).rstrip(".")
        if proposal.state is ProposalState.APPROVED:
            self._refuse(tx, proposal, why, now)
        elif proposal.state is ProposalState.RUNNING:
            known = Applied(applied) if applied else proposal.applied
            self._end(tx, replace(proposal, state=ProposalState.FAILED, applied=known, outcome=why), "failed", now)
        return None

    def interrupt(self, tx: RemediationTx, proposal_id: str, why: str, at: float) -> Json:
        """→ interrupted: it is not known how far it came. Refused if it had not begun."""
        proposal, now = _found(tx, proposal_id), time_of(at)
        why = plain(why).rstrip(".")
        if proposal.state is ProposalState.APPROVED:
            self._refuse(tx, proposal, why, now)
        elif proposal.state is ProposalState.RUNNING:
            self._end(tx, replace(proposal, state=ProposalState.INTERRUPTED, outcome=why), "interrupted", now)
        return None

    def _end(self, tx: RemediationTx, ended: Proposal, word: str, now: datetime) -> None:
        tx.save_proposal(replace(ended, ended_at=now))
        audit(tx, now, "bot", f"execution.{word}", ended, why=ended.outcome)
        for abort in tx.proposals_in(ProposalState.RUNNING):
            if abort.aborts == ended.id:
                why = f"{ended.id} broke off before it was rolled back"
                tx.save_proposal(replace(abort, state=ProposalState.INTERRUPTED, outcome=why, ended_at=now))
                audit(tx, now, "bot", "execution.interrupted", abort, why=why)
        ask_round(tx, ended, now)
        tx.show(ended.incident)

    # ------------------------------------------------------------------------------------------------ abort

    def aborting(self, tx: RemediationTx, proposal_id: str, message: Mapping[str, Any], at: float) -> Json:
        """The message has been read. The abort's own proposal is running from now on."""
        proposal, now = _found(tx, proposal_id), time_of(at)
        by = message.get("by")
        if proposal.state is ProposalState.RUNNING:
            tx.save_proposal(replace(proposal, progress=f"aborted by {_who(by)}, rolling back"))
            audit(tx, now, by or "bot", "execution.aborted", proposal, by_proposal=message.get("proposal"))
        abort = tx.proposal(str(message.get("proposal")))
        if abort is not None and abort.state is ProposalState.APPROVED:
            tx.save_proposal(replace(abort, state=ProposalState.RUNNING, started_at=now))
            audit(tx, now, "bot", "execution.started", abort, params=dict(abort.params))
        tx.show(proposal.incident)
        return None

    def aborted(
        self, tx: RemediationTx, proposal_id: str, message: Mapping[str, Any], rolled_back: str, detail: str, at: float
    ) -> Json:
        """Both rows end. `rolled_back`: as Applied, of the way back."""
        proposal, now = _found(tx, proposal_id), time_of(at)
        by, said = _who(message.get("by")), plain(detail).rstrip(".")
        done = Applied(rolled_back)
        if proposal.state is ProposalState.RUNNING:
            left = {Applied.YES: Applied.NO, Applied.PARTLY: Applied.PARTLY, Applied.NO: proposal.applied}[done]
            word = {Applied.YES: "and rolled back", Applied.PARTLY: "and rolled back partly"}.get(
                done, "but not rolled back"
            )
            outcome = f"aborted by {by} {word}: {said}"
            tx.save_proposal(
                replace(
                    proposal, state=ProposalState.ENDED, ended_at=now, applied=left or Applied.PARTLY, outcome=outcome
                )
            )
            audit(tx, now, "bot", "execution.ended", proposal, applied=(left or Applied.PARTLY).value, outcome=outcome)
            ask_round(tx, proposal, now)
        abort = tx.proposal(str(message.get("proposal")))
        if abort is not None and abort.state is ProposalState.RUNNING:
            tx.save_proposal(replace(abort, state=ProposalState.ENDED, ended_at=now, applied=done, outcome=said))
            audit(tx, now, "bot", "execution.ended", abort, applied=done.value, outcome=said)
        tx.show(proposal.incident)
        return None


def _found(tx: RemediationTx, proposal_id: str) -> Proposal:
    proposal = tx.proposal(proposal_id)
    if proposal is None:
        raise LookupError(f"{proposal_id} is not in the store")
    return proposal


def _withdraw_others(tx: RemediationTx, begun: Proposal, now: datetime) -> None:
    """What else was offered for the service was looked at before this change: the next round proposes anew."""
    for other in tx.proposals_in(ProposalState.PENDING):
        if other.id == begun.id or other.service is None or other.service != begun.service or other.aborts:
            continue
        reason = f"{begun.id} ({plain(begun.button)}) began"
        tx.save_proposal(replace(other, state=ProposalState.SUPERSEDED, refusal=reason))
        audit(tx, now, "bot", "proposal.superseded", other, by_proposal=begun.id)
        tx.show(other.incident)


def _say(tx: RemediationTx, proposal: Proposal, event: str, text: str, *parts: Part) -> None:
    report = Report(text, (Text(text), *parts, Note(proposal.id)))
    tx.say(ThreadMessage(proposal.incident, f"execution:{proposal.id}:{event}", report))


def _who(user: object) -> str:
    return mention(str(user)) if user else "somebody"
