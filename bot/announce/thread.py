"""The thread: the evidence of each round, and what happened to the incident, in order. Pure: the same store says the
same messages, and a key that was said is never said again.

A thread wakes those who follow it, so an unchanged round of an incident that goes on burning is not told again: the
card has its numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.announce import changes
from bot.announce.amounts import amount, duration
from bot.announce.card import signal_words
from bot.announce.verdict import confirmed_of, of_round
from bot.announce.view import View
from bot.incidents.incident import IncidentState, Round, RoundReason, ThreadMessage
from bot.incidents.judge import Finding, Observation, Verdict
from bot.remediation.proposal import Manual
from bot.report import Code, Note, Part, Report, Text, link, mention, moment, plain

# A message holds some 12,000 characters; with room for marks and escapes.
PAGE_CHARACTERS = 9_000
PAGE_PARTS = 40
LOG_LINES = 30
READINGS = 8
WORD_CHARACTERS = 80
LINK_CHARACTERS = 1_000

_ICONS = {
    Verdict.CONFIRMED: ":small_red_triangle:",
    Verdict.INCONCLUSIVE: ":grey_question:",
    Verdict.RULED_OUT: ":heavy_minus_sign:",
}
_DRAWN = (RoundReason.START, RoundReason.REQUESTED, RoundReason.AFTER_CHANGE, RoundReason.RESOLVING)


@dataclass(frozen=True, slots=True)
class _Dated:
    at: datetime
    message: ThreadMessage


def messages(view: View) -> list[ThreadMessage]:
    """All that the thread should hold by now, oldest first."""
    number = view.incident.number
    found = [_Dated(_end(r), m) for r, before in _with_the_one_before(view.rounds) for m in _of_round(view, r, before)]
    found += [_Dated(_end(r), m) for r in view.asides for m in _of_round(view, r, None)]
    for proposal in view.proposals:
        for told in changes.messages(proposal, view.approvals.get(proposal.id, ())):
            found.append(_Dated(told.at, ThreadMessage(number, told.key, told.report)))
    found += _turns(view)
    return [dated.message for dated in sorted(found, key=lambda d: d.at)]


def evidence(round: Round, view: View) -> tuple[Part, ...]:
    """Everything a round asked and what came back, then what follows from it."""
    reason = plain(round.reason.value) + (f" by {changes.who(round.asked_by)}" if round.asked_by else "")
    past = f", as of {moment(round.as_of, 'date')}" if round.as_of else ""
    took = f" · {duration(_end(round) - round.started_at)}" if round.started_at else ""
    top = f"*Round {round.number}* ({reason}{past}) · {plain(round.runbook)}{took}"
    verdict = of_round(round)
    parts: list[Part] = [Text(f"{top}\n*{verdict.title}*: {verdict.text}")]
    if round.as_of:
        parts.append(Note("Only Prometheus can answer for the past; Kubernetes, logs and GPUs were not asked."))
    if round.signal is not None:
        told = signal_words(view, round.signal)
        parts.append(Text(f"{told}: {plain(round.signal.error)}" if round.signal.error else told))
    for observation in round.observations:
        parts += _observed(observation)
    parts += [Text(text) for text in _judged(round.findings)]
    return tuple(parts)


def pages(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """As many messages as it takes: what is long is split, not cut."""
    page: list[Part] = []
    filled = 0
    for part in parts:
        size = len(repr(part))
        if page and (filled + size > PAGE_CHARACTERS or len(page) >= PAGE_PARTS):
            yield tuple(page)
            page, filled = [], 0
        page.append(part)
        filled += size
    if page:
        yield tuple(page)


# ---------------------------------------------------------------------------------------------- rounds


def _of_round(view: View, round: Round, before: Round | None) -> Iterator[ThreadMessage]:
    if round.reason is RoundReason.BURNING and before is not None and _same_verdict(round, before):
        return
    verdict = of_round(round)
    text = f"Round {round.number}: {verdict.title}: {verdict.text}"
    picture = f"signal:{round.number}" if round.signal is not None and round.reason in _DRAWN else None
    everything = (*evidence(round, view), *_by_hand(view, round))
    made = list(pages(everything))
    for page, parts in enumerate(made, start=1):
        key = f"round:{round.number}" + (f":{page}" if page > 1 else "")
        # The graph comes after the last page, below what it shows.
        last = picture if page == len(made) else None
        yield ThreadMessage(view.incident.number, key, Report(text, parts), picture=last)


def _by_hand(view: View, round: Round) -> Iterator[Part]:
    """Those that the card had no room for are complete here; written with the round that led to them."""
    rules = {f.rule for f in confirmed_of(round)}
    manuals = [m for m in view.manuals if m.rule in rules] if view.rounds and round is view.rounds[-1] else []
    for manual in manuals:
        yield from _manual(manual)


def _manual(manual: Manual) -> Iterator[Part]:
    yield Text(f":wrench: By hand: {plain(manual.text)}\nNo button: {plain(manual.reason)}")
    if manual.command:
        yield Code(manual.command)


def _same_verdict(round: Round, before: Round) -> bool:
    def verdict(one: Round) -> tuple[object, ...]:
        return (of_round(one).outcome, tuple(f.rule for f in confirmed_of(one)))

    return verdict(round) == verdict(before)


def _observed(observation: Observation) -> Iterator[Part]:
    asked = f"*{plain(observation.ask or observation.step)}*"
    if observation.error is not None:
        yield Text(f":warning: {asked}\nNot answered: {plain(observation.error)}")
    else:
        yield Text("\n".join((asked, *_answer(observation.reading or {}))))
    if observation.queries:
        lines = [f"{_linked(q.promql, q.link)} → {plain(q.value)}" for q in observation.queries]
        yield Note("\n".join(lines))
    if observation.log_excerpt:
        yield from _log(observation.log_excerpt)


def _linked(query: str, url: str) -> str:
    if len(url) > LINK_CHARACTERS:  # Slack would cut through it
        return f"`{plain(_short(query))}`"
    return link(url, _short(query))


def _answer(reading: Mapping[str, Any]) -> Iterator[str]:
    flat = [f"{_words(name)} {_value(name, value)}" for name, value in reading.items() if not _is_nested(value)]
    nested = [f"{_words(name)}: {_items(value)}" for name, value in reading.items() if _is_nested(value)]
    shown = [*flat[:READINGS], *nested]
    if len(flat) > READINGS:
        shown.append(f"and {', '.join(flat[READINGS:])}")
    yield " · ".join(shown) if shown else "no reading"


def _log(excerpt: str) -> Iterator[Part]:
    lines = excerpt.strip("\n").split("\n")
    yield Code("\n".join(lines[-LOG_LINES:]))
    if len(lines) > LOG_LINES:
        yield Note(f"The last {LOG_LINES} of {len(lines)} lines.")


def _judged(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        line = f"{_ICONS[finding.verdict]} *{plain(finding.title)}*: {finding.verdict.value}"
        if finding.suppressed_by is not None:
            line += f", explained by {plain(finding.suppressed_by)}"
        if finding.verdict is Verdict.CONFIRMED:
            line += f". {plain(finding.text)}"
        if finding.verdict is Verdict.INCONCLUSIVE and finding.unknown:
            line += f": {plain('; '.join(finding.unknown))}"
        yield line + (f"\n:bulb: {plain(finding.note)}" if finding.note and finding.suppressed_by is None else "")


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


# ---------------------------------------------------------------------------------------------- words


def _with_the_one_before(rounds: Sequence[Round]) -> Iterator[tuple[Round, Round | None]]:
    yield from zip(rounds, (None, *rounds), strict=False)


def _end(round: Round) -> datetime:
    return round.ended_at or round.due_at


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _items(value: Any) -> str:
    if isinstance(value, Mapping):
        words = [f"{plain(k)} {_value(str(k), v)}" for k, v in value.items()]
    else:
        words = [_value("", v) for v in value]
    shown = ", ".join(words[:READINGS])
    return f"{shown} and {len(words) - READINGS} more" if len(words) > READINGS else shown or "none"


_UNITS = {"_ratio": "ratio", "_seconds": "seconds", "_celsius": "celsius", "_per_minute": "per_minute"}
_UNITS |= {"_per_second": "/s", "_tokens": "tokens", "_percent": "%"}


def _words(name: str) -> str:
    """A field's name as words, without the unit that its value bears."""
    suffix = next((s for s in (*_UNITS, "_bytes") if name.endswith(s)), "")
    return plain(name.removesuffix(suffix).replace("_", " "))


def _value(name: str, value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return f"({_items(value)})"
    if isinstance(value, int | float):
        if name.endswith("_bytes"):
            return f"{value / 2**30:.3g} GiB"
        return amount(float(value), next((u for s, u in _UNITS.items() if name.endswith(s)), "count"))
    return plain(_short(str(value)))


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= WORD_CHARACTERS else one_line[: WORD_CHARACTERS - 1] + "…"
