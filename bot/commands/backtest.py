"""Replay a stretch of Prometheus' history through a runbook: when would it have said what? For whoever writes one.

Each look is a round as of its time, like `diagnose … at=`: Kubernetes, logs, engines and GPU agents keep no past, so
what needs them is told as not answered, never as ruled out.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.announce.amounts import amount, is_bad
from bot.announce.verdict import of_round
from bot.commands.context import Context
from bot.commands.words import UsageError, parameters, span_of, time_of, unknown
from bot.fleet import Service
from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target
from bot.incidents.judge import Verdict
from bot.report import Note, Part, Report, Text, plain
from bot.runbook.backtest import Stretch, moments, of, stretches
from bot.runbook.schema import Runbook, Severity

USAGE = "backtest <runbook> <service> from=02:00 to=03:00 [every=1m]"
SUMMARY = "What a runbook would have said over a stretch of Prometheus' history (UTC)."
READS_ONLY = True

LOOKS = 500
# In Slack rounds of burning incidents wait for the same threads.
SIDE_BY_SIDE = 4
STRETCHES = 12  # of one rule that are listed
_BAD, _GOOD, _NO_TELLING = "bad", "good", "no telling"


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    runbook: Runbook
    service: Service
    start: datetime
    end: datetime
    every: timedelta

    @property
    def words(self) -> str:
        span = f"{self.start.astimezone(UTC):%Y-%m-%d} {_clock(self.start)} to {_clock(self.end)} UTC"
        return f"{plain(self.name)} on {plain(self.service.name)}, {span}"


def run(words: Sequence[str], context: Context) -> Report:
    asked = _asked(words, context)
    times = tuple(moments(asked.start, asked.end, asked.every))
    if len(times) > LOOKS:
        enough = math.ceil((asked.end - asked.start).total_seconds() / (LOOKS - 1))
        raise UsageError(f"that is {len(times)} looks, and {LOOKS} are allowed: every={enough}s has room")
    note = Report(f"Looking {len(times)} times: {asked.words}…")
    return context.later(note, lambda: _told(asked, _looked(asked, times, context)))


def _asked(words: Sequence[str], context: Context) -> _Asked:
    given = parameters(words, "runbook", "service", "from", "to", "every")
    name, service = given.get("runbook", ""), given.get("service", "")
    if name not in context.runbooks:
        raise UsageError(unknown("runbook", name, context.runbooks))
    declared = context.fleet.service(service)
    if declared is None:
        raise UsageError(unknown("service", service, [s.name for s in context.fleet.services]))
    if "from" not in given:
        raise UsageError("from when? from=02:00 (UTC), from=3h (ago), or from=2026-11-24T02:00Z")
    start = time_of(given["from"], context.now)
    end = time_of(given["to"], context.now) if "to" in given else context.now
    if end <= start:
        raise UsageError(
            f"it begins at {start:%Y-%m-%d %H:%M} and ends at {end:%Y-%m-%d %H:%M} UTC: that is no stretch"
        )
    return _Asked(name, context.runbooks[name], declared, start, end, span_of(given.get("every", "1m")))


def _looked(asked: _Asked, times: Sequence[datetime], context: Context) -> tuple[Round, ...]:
    ref = asked.service.workloads[0]
    target = Target(service=asked.service.name, workload=ref, namespace=ref.namespace)

    def look(at: datetime) -> Round:
        title = asked.service.name
        about = Incident(0, IncidentState.OPEN, Severity.INFO, title, target, asked.name, context.channel, at, at)
        return context.diagnose(
            about, Round(0, 1, asked.name, RoundReason.REQUESTED, due_at=at, as_of=at, asked_by=context.user)
        )

    with ThreadPoolExecutor(1 if context.in_slack else SIDE_BY_SIDE, thread_name_prefix="backtest") as pool:
        return tuple(pool.map(look, times))


# ---------------------------------------------------------------------------------------------- what is told


def _told(asked: _Asked, rounds: Sequence[Round]) -> Report:
    confirmed = [s for s in _of_rules(rounds) if of(Verdict.CONFIRMED, s[1])]
    first = min((of(Verdict.CONFIRMED, s)[0].start for _, s in confirmed), default=None)
    outcome = f"{len(confirmed)} of {len(asked.runbook.rules)} rules would have been confirmed"
    outcome += f", first at {_clock(first)}" if first else ""
    cards = "\n".join(f"{_when(s)}  {s.what}" for s in stretches((_at(r), of_round(r).title) for r in rounds))
    parts: list[Part] = [
        Text(f"*Backtest of {asked.words}*: {len(rounds)} looks. {outcome}."),
        Text(f"*Signal*\n{_signal(rounds)}"),
        Text(f"*What the card would have said*\n{cards}"),
    ]
    titles = {rule.id: rule.title for rule in asked.runbook.rules}
    parts += [Text(f"*{plain(titles[rule])}* (`{plain(rule)}`)\n{_rule(found)}") for rule, found in _of_rules(rounds)]
    if lacking := list(_unanswered(rounds)):
        parts.append(Text("\n".join(["*Could not be answered for the past*", *lacking])))
    parts.append(Note("Only Prometheus keeps the past: Kubernetes, logs, engines and GPU agents were not asked."))
    return Report(f"{asked.words}: {outcome}", tuple(parts))


def _of_rules(rounds: Sequence[Round]) -> Sequence[tuple[str, tuple[Stretch[Verdict], ...]]]:
    """In the order in which the last round ranks them."""
    seen: dict[str, list[tuple[datetime, Verdict]]] = {}
    for round in reversed(rounds):
        for finding in round.findings:
            seen.setdefault(finding.rule, []).insert(0, (_at(round), finding.verdict))
    return [(rule, stretches(found)) for rule, found in seen.items()]


def _rule(found: Sequence[Stretch[Verdict]]) -> str:
    lines = []
    for verdict in (Verdict.CONFIRMED, Verdict.INCONCLUSIVE, Verdict.RULED_OUT):
        if mine := of(verdict, found):
            more = f" and {len(mine) - STRETCHES} more stretches" if len(mine) > STRETCHES else ""
            lines.append(f"{verdict.value}: {', '.join(_when(s) for s in mine[:STRETCHES])}{more}")
    return "\n".join(lines)


def _signal(rounds: Sequence[Round]) -> str:
    readings = [r.signal for r in rounds if r.signal is not None]
    if not readings:
        return "This runbook names none."
    one = readings[0]
    name = plain(one.name)
    if one.threshold is None:
        return f"{name}: the service promises nothing that it could be held against."
    words = {True: _BAD, False: _GOOD, None: _NO_TELLING}
    found = stretches((_at(r), words[is_bad(r.signal)]) for r in rounds if r.signal is not None)
    limit = f"{one.direction} {amount(one.threshold, one.unit)}"
    lines = [f"{name} {limit}: {', '.join(_when(s) for s in of(_BAD, found)) or 'never'}"]
    if unclear := of(_NO_TELLING, found):
        why = next((plain(r.error) for r in readings if r.error), "no data, or in the threshold's bucket")
        lines.append(f"no telling: {', '.join(_when(s) for s in unclear)} ({why})")
    return "\n".join(lines)


def _unanswered(rounds: Sequence[Round]) -> Iterator[str]:
    """By question: how often, and the reason that came most often."""
    reasons: dict[str, Counter[str]] = {}
    for round in rounds:
        if round.error is not None:
            reasons.setdefault("the whole round", Counter())[round.error] += 1
        for one in round.observations:
            why = one.error or (one.reading or {}).get("missing")
            if why:
                reasons.setdefault(one.ask or one.step, Counter())[str(why)] += 1
    for ask, found in reasons.items():
        times = sum(found.values())
        often = "never answered in full" if times == len(rounds) else f"not in full at {times} of {len(rounds)} looks"
        yield f":see_no_evil: {plain(ask)}: {often} ({plain(found.most_common(1)[0][0])})"


def _at(round: Round) -> datetime:
    return round.as_of or round.due_at


def _when(stretch: Stretch[str] | Stretch[Verdict]) -> str:
    if stretch.looks == 1:
        return _clock(stretch.start)
    return f"{_clock(stretch.start)}–{_clock(stretch.end)}"


def _clock(at: datetime) -> str:
    """In UTC, as the times were typed."""
    return f"{at.astimezone(UTC):%H:%M:%S}".removesuffix(":00")
