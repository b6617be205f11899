"""Everything a round asked and what came back, then what follows from it: the parts of its message. Pure."""

import re
from collections.abc import Iterator, Sequence

from bot.announce.card import signal_words
from bot.announce.changes import who
from bot.announce.readings import in_words, missing, short
from bot.announce.verdict import of_round
from bot.announce.view import View
from bot.incidents.incident import Round
from bot.incidents.judge import Finding, Observation, Query, Verdict
from bot.remediation.proposal import Manual
from bot.report import Code, Note, Part, Text, duration, link, moment, plain
from bot.vllm.redaction import redact

LOG_LINES = 30
# Slack counts a link's address as text, and a message holds some 12,000 characters.
LINK_CHARACTERS = 400

_DOING = {"deriv": "growth of ", "increase": "increase of ", "rate": "rate of "}
_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{")


def evidence(round: Round, view: View) -> tuple[Part, ...]:
    told: set[str] = set()
    parts: list[Part] = [Text(_headline(round, view))]
    if round.as_of:
        parts.append(Note("Only Prometheus can answer for the past; Kubernetes, logs and GPUs were not asked."))
    if judged := list(_judged(round.findings)):
        parts.append(Text("\n".join(judged)))
    for observation in round.observations:
        parts += _observed(observation, told)
    return tuple(parts)


def by_hand(manuals: Sequence[Manual]) -> Iterator[Part]:
    """Those that the card has no room for are complete here."""
    for manual in manuals:
        yield Text(f":wrench: By hand: {plain(manual.text)}\nNo button: {plain(manual.reason)}")
        if manual.command:
            yield Code(redact(manual.command))


def _headline(round: Round, view: View) -> str:
    reason = plain(round.reason.value) + (f" by {who(round.asked_by)}" if round.asked_by else "")
    past = f", as of {moment(round.as_of, 'date')}" if round.as_of else ""
    took = f" · {duration(round.ended_at - round.started_at)}" if round.started_at and round.ended_at else ""
    number = f"*Round {round.number}* " if round.number else ""
    verdict = of_round(round)
    lines = [f"{number}({reason}{past}) · {plain(round.runbook)}{took}", f"*{verdict.title}*: {verdict.text}"]
    if round.signal is not None:
        told = signal_words(view, round.signal)
        lines.append(f"{told}: {plain(round.signal.error)}" if round.signal.error else told)
    return "\n".join(lines)


def _observed(observation: Observation, told: set[str]) -> Iterator[Part]:
    asked = f"*{plain(observation.ask or observation.step)}*"
    if observation.error is not None:
        yield Text(f":warning: {asked}\nNot answered: {plain(observation.error)}")
    else:
        reading = observation.reading or {}
        lines = [asked, " · ".join(in_words(reading))]
        if (lack := missing(reading)) is not None:
            lines.append(f":see_no_evil: {plain(lack)}")
        yield Text("\n".join(lines))
    # Steps share questions; each query is shown where it was first asked.
    fresh = [q for q in observation.queries if q.promql not in told]
    told |= {q.promql for q in fresh}
    if fresh:
        yield Note(" · ".join(_query(q) for q in fresh))
    if observation.log_excerpt:
        yield from _log(observation.log_excerpt)


def _query(query: Query) -> str:
    words = short(_measured(query.promql))
    shown = link(query.link, words) if 0 < len(query.link) <= LINK_CHARACTERS else plain(words)
    return f"{shown} → {plain(query.value)}"


def _measured(promql: str) -> str:
    """What a query is about, in two words; the link has the whole of it. Where a metric has an older name beside it,
    the first is enough."""
    names = _METRIC.findall(promql)
    if not names:
        return promql
    name = names[0].removeprefix("vllm:")
    if name.endswith("_sum") and any(n.endswith("_count") for n in names):
        return f"mean {name.removesuffix('_sum')}"
    if name.endswith("_bucket"):
        return f"{name.removesuffix('_bucket')} histogram"
    doing = next((word for function, word in _DOING.items() if f"{function}(" in promql), "")
    return f"{doing}{name}"


def _log(excerpt: str) -> Iterator[Part]:
    lines = excerpt.strip("\n").split("\n")
    yield Code(redact("\n".join(lines[-LOG_LINES:])))
    if len(lines) > LOG_LINES:
        yield Note(f"The last {LOG_LINES} of {len(lines)} lines.")


def _judged(findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        title = f"*{plain(finding.title)}*"
        if finding.verdict is Verdict.CONFIRMED:
            explained = f", explained by {plain(finding.suppressed_by)}" if finding.suppressed_by else ""
            note = f"\n:bulb: {plain(finding.note)}" if finding.note and not finding.suppressed_by else ""
            yield f":small_red_triangle: {title}: confirmed{explained}. {plain(finding.text)}{note}"
        elif finding.verdict is Verdict.INCONCLUSIVE:
            # Why it is lacking stands at the question itself, below.
            lacks = ", ".join(dict.fromkeys(u.partition(":")[0].partition(".")[0].strip() for u in finding.unknown))
            yield f":grey_question: {title}: inconclusive{f', for lack of {plain(lacks)}' if lacks else ''}"
    ruled_out = [plain(f.title) for f in findings if f.verdict is Verdict.RULED_OUT]
    if ruled_out:
        yield f":heavy_minus_sign: Ruled out: {', '.join(ruled_out)}"
