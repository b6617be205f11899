"""Which verdict stands now. Pure: from the rounds that ended, never "fine" for lack of data."""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bot.announce.amounts import is_bad
from bot.announce.readings import missing
from bot.announce.view import View
from bot.incidents.incident import STORM_TITLE, IncidentState, Round, RoundReason
from bot.incidents.judge import Finding, Verdict
from bot.remediation.proposal import Helped, Proposal, ProposalState
from bot.report import plain
from bot.runbook.schema import Severity


class Outcome(enum.Enum):
    WAITING = "diagnosing"
    CONFIRMED = "confirmed"
    INCONCLUSIVE = "inconclusive"
    NOTHING_FOUND = "no known cause"
    NOT_RUN = "not diagnosed"
    NO_RUNBOOK = "no runbook"


@dataclass(frozen=True, slots=True)
class Standing:
    """`title` is the verdict in two words, `text` the sentence; both may be shown as they are."""

    outcome: Outcome
    title: str
    text: str
    top: Finding | None = None
    others: tuple[Finding, ...] = ()  # confirmed too, and not explained by the top one
    round: Round | None = None

    @property
    def is_there(self) -> bool:
        return self.outcome is not Outcome.WAITING


def standing(view: View) -> Standing:
    """What holds now; of a resolved incident what it was; while a change runs, what led to it."""
    round = view.rounds[-1] if view.rounds else None
    cause = _round_of_the_cause(view)
    if round is not None and cause is not None and view.incident.state is IncidentState.RESOLVED:
        return of_round(cause)
    if round is not None and cause is not None and any(p.state is ProposalState.RUNNING for p in view.proposals):
        now = confirmed_of(round)
        if confirmed_of(cause)[0].rule not in [f.rule for f in now]:
            return replace(of_round(cause), others=tuple(now))
    if round is not None:
        return of_round(round)
    incident = view.incident
    if incident.runbook is None:
        return _without_runbook(view)
    return Standing(Outcome.WAITING, "Diagnosing", f"`{plain(incident.runbook)}` is being run.")


def _round_of_the_cause(view: View) -> Round | None:
    """The last one with a cause before the change that counts began: a change brings causes of its own (a replica that
    is not ready yet), and after it nothing is left to find."""
    began = _begin_of_the_change(view)
    confirmed = [r for r in view.rounds if confirmed_of(r)]
    before = [r for r in confirmed if began is None or (r.ended_at is not None and r.ended_at <= began)]
    return before[-1] if before else confirmed[0] if confirmed else None


def _begin_of_the_change(view: View) -> datetime | None:
    """Of the one that runs, else of the last that helped, else of the first. What was done before the trouble came back
    did not end it, and what it was then may be another story."""
    begun = [(p, p.started_at) for p in view.proposals if p.started_at is not None and not came_back_after(p, view)]
    running = [at for p, at in begun if p.state is ProposalState.RUNNING]
    helped = [at for p, at in begun if p.helped is Helped.YES]
    if helped and not running:
        return max(helped)
    return min(running or [at for _, at in begun], default=None)


def came_back_after(proposal: Proposal, view: View) -> bool:
    """The trouble, when the change was over. One that is under way while an alert flaps may still end it."""
    again = view.incident.reopened_at
    return again is not None and proposal.ended_at is not None and proposal.ended_at <= again


def of_round(round: Round) -> Standing:
    if round.error is not None:
        return Standing(Outcome.NOT_RUN, "Not diagnosed", plain(round.error), round=round)
    confirmed = confirmed_of(round)
    if confirmed:
        top = confirmed[0]
        return Standing(Outcome.CONFIRMED, plain(top.title), plain(top.text), top, tuple(confirmed[1:]), round)
    unclear = [f for f in round.findings if f.verdict is Verdict.INCONCLUSIVE]
    if unclear:
        return Standing(Outcome.INCONCLUSIVE, "Inconclusive", _cannot_tell(unclear), unclear[0], round=round)
    asked = len(round.findings)
    text = f"all {asked} causes that `{plain(round.runbook)}` knows were looked for and ruled out."
    if round.reason in (RoundReason.RESOLVING, RoundReason.AFTER_CHANGE):
        return Standing(Outcome.NOTHING_FOUND, "No cause is left", text, round=round)
    return Standing(Outcome.NOTHING_FOUND, "No known cause", text, round=round)


def confirmed_of(round: Round) -> list[Finding]:
    return [f for f in round.findings if f.verdict is Verdict.CONFIRMED and f.suppressed_by is None]


def ruled_out_of(round: Round) -> list[Finding]:
    return [f for f in round.findings if f.verdict is Verdict.RULED_OUT]


_ADDRESS = re.compile(r"\s*\(https?://[^\s)]*\)")


def blind_spots_by_reason(round: Round) -> list[tuple[list[str], str]]:
    """For where there is little room: one source that is down is told once, and without its address."""
    grouped: dict[str, list[str]] = {}
    for what, why in blind_spots(round):
        grouped.setdefault(_ADDRESS.sub("", why).split("\n")[0].rstrip(". "), []).append(what)
    return [(whats, why) for why, whats in grouped.items()]


def blind_spots(round: Round) -> list[tuple[str, str]]:
    """What was asked and not answered, each with the reason; what a rule missed in an answer that came; and what a
    probe says it could not measure. By the steps' names, which are short."""
    spots = [(_step(o.step), o.error) for o in round.observations if o.error is not None]
    if round.signal is not None and round.signal.error is not None:
        spots.insert(0, (round.signal.name, round.signal.error))
    for finding in round.findings:
        for one in finding.unknown if finding.verdict is Verdict.INCONCLUSIVE else ():
            what, _, why = one.partition(":")
            spots.append((_step(what.split(".")[0]), why.strip()))
    spots += [(_step(o.step), lack) for o in round.observations if (lack := missing(o.reading)) is not None]
    first: dict[str, str] = {}
    for what, why in spots:
        first.setdefault(what, why)
    return list(first.items())


def _step(name: str) -> str:
    return name.strip().replace("_", " ")


class Ending(enum.Enum):
    """What may be claimed of a resolved incident."""

    UNCHECKED = "nothing was asked after the alerts resolved"
    CHECKING = "a round is under way"
    AGREED = "the probes agree"
    STILL_BAD = "the probes do not agree"
    CANNOT_TELL = "the probes could not say"


def ending(view: View) -> Ending:
    incident = view.incident
    if incident.state is not IncidentState.RESOLVED or incident.resolved_at is None or incident.runbook is None:
        return Ending.UNCHECKED
    after = [r for r in view.rounds if r.reason is RoundReason.RESOLVING and r.due_at >= incident.resolved_at]
    if not after:
        by_hand = incident.resolution is not None and not incident.resolution.startswith("all alerts")
        return Ending.UNCHECKED if by_hand else Ending.CHECKING
    last = after[-1]
    bad = is_bad(last.signal) if last.signal is not None else None
    if bad or (bad is None and confirmed_of(last)):
        return Ending.STILL_BAD
    if last.error is not None or bad is None:
        return Ending.CANNOT_TELL
    return Ending.AGREED


def worst_confirmed(rounds: Sequence[Round]) -> Severity | None:
    severities = [f.severity for r in rounds for f in confirmed_of(r)]
    return max(severities, key=lambda s: s.rank, default=None)


def _cannot_tell(unclear: Sequence[Finding]) -> str:
    names = [plain(f.title) for f in unclear[:3]]
    more = f" and {len(unclear) - 3} more" if len(unclear) > 3 else ""
    return f"cannot tell whether it is {' or '.join(names)}{more}."


def _without_runbook(view: View) -> Standing:
    names = ", ".join(plain(n) for n in view.incident.alert_names) or plain(view.incident.title)
    if view.incident.title == STORM_TITLE:
        text = "too many services at once for one diagnosis each; look for what they share (node, network, rollout)."
        return Standing(Outcome.NO_RUNBOOK, "Many services at once", text)
    text = f"nothing was diagnosed, since no runbook's `match` names {names}. `/vllm runbooks` lists them."
    return Standing(Outcome.NO_RUNBOOK, "No runbook", text)
