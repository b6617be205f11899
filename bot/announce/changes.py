"""A proposal's life in words: one line for the card, and the messages that the thread keeps of it. Pure.

`refusal`, `progress` and `outcome` are sentences in our markup, written by remediation; the rest is escaped here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from bot.actions import finder
from bot.remediation.proposal import Applied, Approval, Helped, Proposal, ProposalState
from bot.report import Button, Buttons, Code, Note, Part, Report, Text, duration, mention, moment, plain
from bot.vllm.redaction import redact

_ENDINGS = {
    Helped.YES: (":white_check_mark:", "Helped"),
    Helped.NO: (":x:", "Did not help"),
    Helped.CANNOT_TELL: (":grey_question:", "Cannot tell whether it helped"),
}
# What a change that did not go through leaves behind, and what to do next.
_BROKEN = {
    ProposalState.REFUSED: (":no_entry:", "Refused"),
    ProposalState.FAILED: (":x:", "Failed"),
    ProposalState.INTERRUPTED: (":warning:", "Interrupted"),
}


@dataclass(frozen=True, slots=True)
class ChangeMessage:
    key: str
    at: datetime
    report: Report


def line(proposal: Proposal, approvals: Sequence[Approval], *, alone: bool = True) -> str | None:
    """For the card; None while there is nothing but a button to say. `alone`: no other change is told of there."""
    what = what_changes(proposal)
    by = approved_by(approvals, proposal)
    match proposal.state:
        case ProposalState.PENDING if approvals:
            return f":hourglass: *Waiting for a second approval*: {what} ({by})"
        case ProposalState.APPROVED:
            return f":hourglass: *Approved*: {what} ({by}); it starts in a moment"
        case ProposalState.RUNNING if proposal.applied is not None:
            progress = f": {proposal.progress}" if proposal.progress else ""
            return f":hourglass_flowing_sand: *{_applied(proposal)}*, watching whether it helps: {what}{progress}"
        case ProposalState.RUNNING:
            progress = f": {proposal.progress}" if proposal.progress else ""
            return f":hourglass_flowing_sand: *Running*: {what}{progress} ({by})"
        case ProposalState.ENDED:
            icon, word = ended_as(proposal)
            outcome = proposal.outcome if alone or not proposal.outcome else f"{what}: {proposal.outcome}"
            return f"{icon} *{word}*: {outcome or what}"
        case ProposalState.REFUSED | ProposalState.FAILED | ProposalState.INTERRUPTED:
            icon, word = _BROKEN[proposal.state]
            return f"{icon} *{word}*: {what}: {_reason(proposal)}"
        case _:
            return None


def messages(proposal: Proposal, approvals: Sequence[Approval]) -> list[ChangeMessage]:
    """What the thread says of it so far, in order. A key once said is never said again."""
    found: list[ChangeMessage] = []

    def say(key: str, at: datetime | None, text: str, *parts: Part) -> None:
        if at is not None:
            found.append(ChangeMessage(f"{key}", at, Report(text, (Text(text), *parts))))

    what = what_changes(proposal)
    if proposal.proposed_by != "bot" and proposal.undoes is None:
        by = who(proposal.proposed_by)
        say(f"proposal:{proposal.id}", proposal.created_at, f":memo: *Proposed* by {by}: {what}", _why(proposal))
    for approval in approvals:
        glass = (
            f", overriding the policy: “{plain(approval.break_glass_reason)}”" if approval.break_glass_reason else ""
        )
        text = f":heavy_check_mark: *Approved* by {who(approval.user)}{glass}: {what}"
        say(f"approval:{proposal.id}:{approval.user}", approval.at, text, _why(proposal))
    if proposal.state is ProposalState.DECLINED:
        text = f":no_entry_sign: *Declined* by {who(proposal.decided_by)}: {what}"
        say(f"proposal:{proposal.id}:declined", proposal.decided_at, text)
    if proposal.state is ProposalState.EXPIRED and approvals:
        text = f":alarm_clock: *Expired* without a second approval: {what}"
        say(f"proposal:{proposal.id}:expired", proposal.expires_at, text)
    if proposal.started_at is not None:
        text = f":hourglass_flowing_sand: *Running*: {what}"
        say(f"execution:{proposal.id}:running", proposal.started_at, text, Note("The card shows how far it is."))
    found += _ending(proposal)
    return found


def _ending(proposal: Proposal) -> list[ChangeMessage]:
    what, id = what_changes(proposal), proposal.id
    at = proposal.ended_at or proposal.decided_at or proposal.started_at or proposal.created_at
    if proposal.state is ProposalState.ENDED:
        icon, word = ended_as(proposal)
        text = f"{icon} *{word}*: {what}"
        parts: tuple[Part, ...] = (Text(proposal.outcome),) if proposal.outcome else ()
        parts += (Note(f"{_applied(proposal)}{_took(proposal)} · {id}"),)
        if may_be_undone(proposal):
            parts += (Buttons((Button(f"Undo: {short(proposal)}…", "undo", id),)),)
        return [ChangeMessage(f"execution:{id}:ended", at, Report(text, (Text(text), *parts)))]
    if proposal.state not in _BROKEN:
        return []
    icon, word = _BROKEN[proposal.state]
    text = f"{icon} *{word}*: {what}"
    return [ChangeMessage(f"execution:{id}:{word.lower()}", at, Report(text, (Text(text), *_what_now(proposal))))]


def _what_now(proposal: Proposal) -> list[Part]:
    parts: list[Part] = [Text(_reason(proposal))]
    if proposal.state is ProposalState.REFUSED:
        asked = f" (asked by {who(proposal.decided_by)})" if proposal.decided_by else ""
        parts.append(Note(f"Nothing was changed{asked}."))
    elif proposal.state is ProposalState.INTERRUPTED:
        parts.append(Note("It is not known how far it came: look before you repeat it."))
    if (command := by_hand(proposal)) is not None:
        parts += [Text("The same by hand:"), Code(command)]
    return parts


def ended_as(proposal: Proposal) -> tuple[str, str]:
    """Icon and words of a change that ran to its end."""
    if proposal.applied is Applied.NO:
        return ":x:", "Not applied"
    if proposal.applied is Applied.PARTLY:
        return ":warning:", "Applied partly"
    if proposal.aborts is not None:
        return ":leftwards_arrow_with_hook:", "Rolled back"
    if proposal.undoes is not None and proposal.helped is not Helped.YES:  # it was to take back, not to help
        return ":leftwards_arrow_with_hook:", "Undone"
    return _ENDINGS[proposal.helped or Helped.CANNOT_TELL]


def may_be_undone(proposal: Proposal) -> bool:
    return (
        proposal.state in (ProposalState.ENDED, ProposalState.INTERRUPTED, ProposalState.FAILED)
        and proposal.before is not None
        and proposal.applied is not Applied.NO
        and proposal.undoes is None
        and _has_way_back(proposal)
    )


def _has_way_back(proposal: Proposal) -> bool:
    """A drain of a node that was cordoned before has none, nor has a pod's restart."""
    try:
        params = finder.find(proposal.action).Params.model_validate(dict(proposal.params))
        return finder.way_back(proposal.action, params, proposal.before or {}) is not None
    except (finder.UnknownActionError, ValidationError):
        return False


def by_hand(proposal: Proposal) -> str | None:
    """The command that does the same; None if the action is gone or its parameters mean something else today."""
    try:
        action = finder.find(proposal.action)
        return redact(action.by_hand(action.Params.model_validate(dict(proposal.params))))
    except (finder.UnknownActionError, ValidationError):
        return None


def what_changes(proposal: Proposal) -> str:
    """The description's first sentence; the rest of it is the review's."""
    return plain(proposal.description.split(". ")[0].rstrip("."))


def short(proposal: Proposal) -> str:
    return proposal.button.replace("->", "→")


def approved_by(approvals: Sequence[Approval], proposal: Proposal) -> str:
    users = [a.user for a in approvals] or ([proposal.decided_by] if proposal.decided_by else [])
    return f"approved by {' and '.join(who(u) for u in users)}" if users else "approved"


def _why(proposal: Proposal) -> Note:
    return Note(f"Why: {plain(proposal.why)} · {proposal.id}")


def _reason(proposal: Proposal) -> str:
    return proposal.refusal or proposal.outcome or "no reason was written down"


def _applied(proposal: Proposal) -> str:
    return {Applied.YES: "Applied", Applied.PARTLY: "Applied partly", Applied.NO: "Not applied", None: "Applied"}[
        proposal.applied
    ]


def _took(proposal: Proposal) -> str:
    if proposal.started_at is None or proposal.ended_at is None:
        return ""
    return f", {moment(proposal.started_at)} to {moment(proposal.ended_at)}, " + duration(
        proposal.ended_at - proposal.started_at
    )


def who(user: str | None) -> str:
    """A Slack user by mention, anybody else (a terminal's user) by name."""
    return mention(user) if user and user.isalnum() and user.isupper() else plain(user or "nobody known")
