"""The thread: the evidence of each round, and what happened to the incident, in order. Pure: the same store says the
same messages, and a key that was said is never said again.

A thread wakes those who follow it, so an unchanged round of an incident that goes on burning is not told again: the
card has its numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.announce import changes
from bot.announce.evidence import by_hand, evidence
from bot.announce.verdict import confirmed_of, of_round
from bot.announce.view import View
from bot.incidents.incident import IncidentState, Round, RoundReason, ThreadMessage
from bot.remediation.proposal import ProposalState
from bot.report import Note, Part, Report, Text, duration, mention

# A message holds some 12,000 characters; with room for marks and escapes.
PAGE_CHARACTERS = 9_000
PAGE_PARTS = 40

_DRAWN = (RoundReason.START, RoundReason.REQUESTED, RoundReason.AFTER_CHANGE, RoundReason.RESOLVING)


@dataclass(frozen=True, slots=True)
class _Dated:
    at: datetime
    message: ThreadMessage


def messages(view: View) -> list[ThreadMessage]:
    """All that the thread should hold by now, oldest first."""
    number = view.incident.number
    found = [
        _Dated(told.at, ThreadMessage(number, told.key, told.report))
        for proposal in view.proposals
        for told in changes.messages(proposal, view.approvals.get(proposal.id, ()))
    ]
    for round, before in _with_the_one_before(view.rounds):
        if (at := _told_at(view, round)) is not None:
            found += [_Dated(at, m) for m in _of_round(view, round, before)]
    found += [_Dated(_end(r), m) for r in view.asides for m in _of_round(view, r, None)]
    found += _turns(view)
    return [dated.message for dated in sorted(found, key=lambda d: d.at)]


def pages(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """As many messages as it takes: what is long is split, not cut."""
    page: list[Part] = []
    filled = 0
    for part in parts:
        size = len(repr(part))
        full = filled + size > PAGE_CHARACTERS or len(page) >= PAGE_PARTS
        if page and full and not isinstance(part, Note):  # small print belongs to what is above it
            yield tuple(page)
            page, filled = [], 0
        page.append(part)
        filled += size
    if page:
        yield tuple(page)


# ---------------------------------------------------------------------------------------------- rounds


def _told_at(view: View, round: Round) -> datetime | None:
    """When it ended; for the round that looks whether a change helped, after the outcome that it is the evidence for,
    and None before there is one. The outcome is what somebody waits for, and Slack takes a message a second."""
    change = next((p for p in view.proposals if p.id == round.for_execution), None)
    if change is None:
        return _end(round)
    if change.state is ProposalState.RUNNING:
        return None
    return max(_end(round), change.ended_at or _end(round))


def _of_round(view: View, round: Round, before: Round | None) -> Iterator[ThreadMessage]:
    if round.reason is RoundReason.BURNING and before is not None and _same_verdict(round, before):
        return
    verdict = of_round(round)
    text = f"Round {round.number}: {verdict.title}: {verdict.text}"
    picture = f"signal:{round.number}" if round.signal is not None and round.reason in _DRAWN else None
    # What is to be done by hand is written with the round that led to it.
    rules = {f.rule for f in confirmed_of(round)} if view.rounds and round is view.rounds[-1] else set()
    everything = (*evidence(round, view), *by_hand([m for m in view.manuals if m.rule in rules]))
    made = list(pages(everything))
    for page, parts in enumerate(made, start=1):
        key = f"round:{round.number}" + (f":{page}" if page > 1 else "")
        # The graph comes after the last page, below what it shows.
        last = picture if page == len(made) else None
        yield ThreadMessage(view.incident.number, key, Report(text, parts), picture=last)


def _same_verdict(round: Round, before: Round) -> bool:
    def verdict(one: Round) -> tuple[object, ...]:
        return (of_round(one).outcome, tuple(f.rule for f in confirmed_of(one)))

    return verdict(round) == verdict(before)


# ---------------------------------------------------------------------------------------------- the incident's turns


def _turns(view: View) -> Iterator[_Dated]:
    incident = view.incident
    if incident.acked_by is not None and incident.acked_at is not None:
        key = f"acked:{incident.acked_by}:{int(incident.acked_at.timestamp())}"
        yield _turn(view, incident.acked_at, key, f":eyes: Acknowledged by {mention(incident.acked_by)}")
    if incident.flaps and incident.state is IncidentState.OPEN:
        at = max((a.received_at for a in view.alerts), default=incident.opened_at)
        text = f":repeat: Firing again; {incident.flaps + 1} times so far"
        yield _turn(view, at, f"reopened:{incident.flaps}", text)
    if incident.state is IncidentState.RESOLVED and incident.resolved_at is not None:
        took = duration(max(incident.resolved_at - incident.began_at, timedelta()))
        text = f":large_green_circle: Resolved after {took}: {incident.resolution or 'all alerts resolved'}"
        yield _turn(view, incident.resolved_at, f"resolved:{int(incident.resolved_at.timestamp())}", text)


def _turn(view: View, at: datetime, key: str, text: str) -> _Dated:
    return _Dated(at, ThreadMessage(view.incident.number, key, Report(text, (Text(text),))))


def _with_the_one_before(rounds: Sequence[Round]) -> Iterator[tuple[Round, Round | None]]:
    yield from zip(rounds, (None, *rounds), strict=False)


def _end(round: Round) -> datetime:
    return round.ended_at or round.due_at
