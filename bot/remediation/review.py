"""The contract: everything an approver must know before anything changes, as a dialog whose submit is the approval.

It opens at once (`opening`, within Slack's 3 s) and is filled in (`contract`). Any replica may read for it: it changes
nothing but rows. An open contract pins its proposal, so that no newer round swaps the numbers under the reader; for a
while, as Slack does not tell for certain that a dialog was closed.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bot.actions.finder import find
from bot.ports import Input, Modal, SourceError
from bot.remediation import guard, policy
from bot.remediation.approve import REASON_INPUT
from bot.remediation.checks import incident_is_over, rows_for
from bot.remediation.diff import rendered
from bot.remediation.draft import Look, look_again
from bot.remediation.policy import Standing
from bot.remediation.proposal import Approval, Proposal, ProposalState
from bot.remediation.propose import Propose
from bot.remediation.world import World
from bot.report import Code, Fields, Note, Part, Report, Text, mention, moment, plain
from bot.vllm.redaction import redact

TITLES = {"review": "Review change", "undo": "Review undo", "abort": "Review abort"}
_CALLBACK = "review"
_SUBMIT_LIMIT = 24  # of Slack
PIN = timedelta(minutes=10)  # long enough to read, and to ask somebody
_DIFF_LIMIT = 2500  # characters; a longer one is cut, and says so


def opening(click: str, subject: str) -> Modal:
    """What stands there while the cluster is read. `click`: "review", "undo" or "abort"."""
    report = Report("Checking the cluster…", (Text("Checking the cluster…"),))
    return Modal(TITLES.get(click, "Review change"), report, subject, _CALLBACK)


class Review:
    def __init__(self, world: World, propose: Propose) -> None:
        self._world = world
        self._propose = propose

    def contract(self, click: str, subject: str, user: str, now: datetime) -> Modal:
        """`subject`: the proposal to review, or the one to undo or abort (which makes the proposal that does it)."""
        title = TITLES.get(click, "Review change")
        try:
            proposal = self._proposal(click, subject, user, now)
            if proposal is None:
                return _nothing(title, subject, f"There is no proposal {plain(subject)}.")
            return self._filled(title, proposal, user, now)
        except SourceError as error:
            return _nothing(title, subject, f":warning: {plain(str(error))}")
        except ValueError as error:
            return _nothing(title, subject, f"{plain(str(error))}.")

    def _proposal(self, click: str, subject: str, user: str, now: datetime) -> Proposal | None:
        if click == "undo":
            return self._propose.undo(subject, user, now)
        if click == "abort":
            return self._propose.abort(subject, user, now)
        with self._world.store.read() as tx:
            return tx.proposal(subject)

    def _filled(self, title: str, proposal: Proposal, user: str, now: datetime) -> Modal:
        pinned = self._pinned(proposal, now)
        if pinned.state is not ProposalState.PENDING:
            return _nothing(title, proposal.id, _state_words(pinned))
        seen = look_again(pinned, self._world, now)
        standing = policy.standing_of(user, self._world.fleet, pinned.service, pinned.risk, self._world.members)
        with self._world.store.read() as tx:
            approvals = tx.approvals_of(pinned.id)
            frozen = tx.frozen() if pinned.undoes is None and pinned.aborts is None else None
            held = guard.reasons(pinned, seen.facts, rows_for(tx, now), self._world.limits, now) if seen.facts else ()
            over = incident_is_over(tx, pinned)
        against = [*(plain(r) for r in seen.blocked if pinned.aborts is None), *held, *filter(None, [over])]
        if pinned.expires_at <= now:
            against.append("it has expired; the next round proposes anew")
        # A freeze is policy: whoever may break glass can still submit.
        submit = _submit(pinned) if not against and (frozen is None or standing.break_glass) else None
        reasons = [*against, *filter(None, [frozen and plain(frozen)])]
        parts = self._parts(pinned, seen, standing, approvals, reasons)
        inputs = (_BREAK_GLASS,) if submit and standing.break_glass else ()
        return Modal(title, Report(plain(pinned.description), parts), pinned.id, _CALLBACK, submit, inputs)

    def _pinned(self, proposal: Proposal, now: datetime) -> Proposal:
        with self._world.store.write() as tx:
            latest = tx.proposal(proposal.id) or proposal
            if latest.state is ProposalState.PENDING:
                latest = replace(latest, pinned_until=now + PIN)
                tx.save_proposal(latest)
            return latest

    def _parts(
        self,
        proposal: Proposal,
        seen: Look,
        standing: Standing,
        approvals: Sequence[Approval],
        reasons: Sequence[str],
    ) -> tuple[Part, ...]:
        what, _, undo = proposal.description.partition(" Undo: ")
        action = find(proposal.action)
        command = redact(action.by_hand(action.Params.model_validate(dict(proposal.params))))
        parts: list[Part] = [Text(f"*{plain(what)}*"), Text(f"Why: {plain(proposal.why)}")]
        if reasons:
            parts.append(Text("\n".join([":no_entry: *It cannot be done now:*", *(f"• {r}" for r in reasons)])))
        changed = rendered(seen.diff or proposal.diff)
        parts += [Text("*What changes*"), Code(_cut(changed))] if changed else []
        if seen.blast_radius:
            parts.append(Text(f"*Capacity:* {plain(seen.blast_radius)}"))
        parts.append(Fields(self._facts(proposal, standing, approvals)))
        parts.append(Text(f"*Undo:* {plain(undo or 'as a proposal of its own, from the card')}"))
        if self._world.rules.dry_run:
            parts.append(Text(":test_tube: *Dry run is on*: approving shows what would be done, and changes nothing."))
        if standing.holds is None:
            parts.append(Note(standing.unreadable))
        elif not standing.holds:
            parts.append(Note(f"You do not hold the role {plain(standing.role)}; your approval would be refused."))
        return (*parts, Note("The same by hand:"), Code(command))

    def _facts(self, proposal: Proposal, standing: Standing, approvals: Sequence[Approval]) -> tuple[str, ...]:
        needed = policy.people_needed(self._world.fleet, proposal.risk)
        people = "one person" if needed == 1 else f"{needed} people"
        if approvals:
            people += f", {len(approvals)} so far: {', '.join(mention(a.user) for a in approvals)}"
        return (
            f"*Risk:* {proposal.risk.value}",
            f"*May approve:* {plain(standing.role)} ({standing.holders})",
            f"*Takes:* {people}",
            f"*Expires:* {moment(proposal.expires_at)}",
        )


_BREAK_GLASS = Input(
    REASON_INPUT, "Break glass: reason (overrides policy; audited and announced)", optional=True, multiline=True
)


def _submit(proposal: Proposal) -> str:
    """The verb, on the button: "Scale 3 → 4"."""
    label = proposal.button[:1].upper() + proposal.button[1:]
    return label if len(label) <= _SUBMIT_LIMIT else "Approve"


def _cut(text: str) -> str:
    if len(text) <= _DIFF_LIMIT:
        return text
    kept = text[:_DIFF_LIMIT].rsplit("\n", 1)[0]
    return f"{kept}\n… and {len(text) - len(kept)} more characters"


def _state_words(proposal: Proposal) -> str:
    by = f" by {mention(proposal.decided_by)}" if proposal.decided_by else ""
    why = f": {proposal.refusal or proposal.outcome}" if proposal.refusal or proposal.outcome else ""
    return f"{proposal.id} ({plain(proposal.button)}) is {proposal.state.value}{by}{why}"


def _nothing(title: str, subject: str, text: str) -> Modal:
    return Modal(title, Report(text, (Text(text),)), subject, _CALLBACK)
