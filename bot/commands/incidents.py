"""Which incidents are open, and which were the last."""

from collections.abc import Iterator, Sequence

from bot.announce.verdict import standing
from bot.announce.view import View, load
from bot.commands.context import Context
from bot.commands.words import parameters
from bot.incidents.incident import Incident, IncidentState
from bot.remediation.proposal import ProposalState
from bot.report import Note, Report, Text, duration, mention, moment, plain
from bot.runbook.schema import Severity

USAGE = "incidents"
SUMMARY = "The open incidents, and the last resolved ones."
READS_ONLY = True

RECENT = 10
_ICONS = {
    Severity.CRITICAL: ":red_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.INFO: ":large_blue_circle:",
}


def run(words: Sequence[str], context: Context) -> Report:
    parameters(words)
    with context.store.read() as tx:
        there = tx.open_incidents()
        views = [v for i in there if (v := load(tx, i.number, context.fleet, context.runbooks)) is not None]
        recent = [i for i in tx.latest_incidents(RECENT) if i.state is IncidentState.RESOLVED]
    text = f"{len(there)} incident{'' if len(there) == 1 else 's'} open" if there else "No incident is open"
    parts: list[Text | Note] = [Text(f"*{text}*")]
    parts += [Text("\n".join(_open(view))) for view in views]
    if recent:
        parts.append(Text("\n".join(["*Last resolved*", *(_resolved(i) for i in recent)])))
    return Report(text, tuple(parts))


def _open(view: View) -> Iterator[str]:
    incident, now = view.incident, standing(view)
    title = f" · {plain(incident.title)}" if incident.title != view.name else ""
    since = moment(incident.began_at, "date")
    yield f"{_ICONS[incident.severity]} *{incident.id}* {plain(view.name)}{title}, since {since}"
    yield f"*{now.title}*: {now.text}"
    at_it = f"acknowledged by {mention(incident.acked_by)}" if incident.acked_by else "not acknowledged"
    running = [p.button for p in view.proposals if p.state is ProposalState.RUNNING]
    pending = sum(p.state is ProposalState.PENDING for p in view.proposals)
    changes = f", running: {plain(running[0])}" if running else f", {pending} to review" if pending else ""
    yield f"{at_it}{changes}"


def _resolved(incident: Incident) -> str:
    name = plain(incident.target.service or incident.title)
    if incident.resolved_at is None:
        return f"{incident.id} {name}"
    took = duration(incident.resolved_at - incident.began_at)
    return f"{incident.id} {name}: {moment(incident.resolved_at, 'date')}, after {took}; {incident.resolution or ''}"
