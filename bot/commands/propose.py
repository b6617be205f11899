"""A change by hand, under the same rules as a suggested one: it is reviewed and approved before anything changes."""

from collections.abc import Sequence

from bot.actions import finder
from bot.commands.context import Context
from bot.commands.request import RequestTx
from bot.commands.words import UsageError, incident_number, sorted_out, unknown
from bot.incidents.incident import Incident, IncidentState
from bot.report import Button, Buttons, Report, Style, Text, plain

USAGE = "propose <action> <service|incident> [key=value ...]"
SUMMARY = "Propose a change by hand, to be reviewed like a suggested one: propose scale_workload chat-70b add=1"
READS_ONLY = False


def run(words: Sequence[str], context: Context) -> Report:
    if context.propose is None:
        raise UsageError("changes are proposed in Slack, where it is known who asks")
    given = sorted_out(words)
    if not given.ordered:
        raise UsageError(f"which action? There are: {', '.join(finder.names())}")
    action = given.ordered[0]
    if action not in finder.names():
        raise UsageError(unknown("action", action, finder.names()))
    if len(given.ordered) > 2:
        raise UsageError(f"what belongs to the action is written key=value: {' '.join(given.ordered[2:])}")
    with context.store.read() as tx:
        incident = _about(tx, given.ordered[1] if len(given.ordered) == 2 else None, context)
    try:
        proposal = context.propose(incident, action, given.named, context.user, context.now)
    except ValueError as error:
        raise UsageError(str(error)) from error
    text = f"Proposed {proposal.id}: {plain(proposal.description)}"
    review = Button(f"Review: {proposal.button}…", "review", proposal.id, Style.PRIMARY)
    return Report(text, (Text(text), Buttons((review,))))


def _about(tx: RequestTx, word: str | None, context: Context) -> Incident:
    """The open incident that the change belongs to: its thread tells what came of it."""
    there = tx.open_incidents()
    names = [s.name for s in context.fleet.services]
    if word is None:
        if len(there) == 1:
            return there[0]
        raise UsageError(f"for which service? There are: {', '.join(names)}")
    if context.fleet.service(word) is not None:
        found = [i for i in there if word == i.target.service or word in i.target.also]
        if found:
            return found[-1]
        raise UsageError(f"no incident about {word} is open, and a change needs one: its thread keeps what came of it")
    if not word.lower().startswith("inc-") and not word.isdigit():
        raise UsageError(unknown("service", word, names))
    incident = tx.incident(incident_number(word))
    if incident is None or incident.state is not IncidentState.OPEN:
        raise UsageError(f"{word} is no open incident; open are: {', '.join(i.id for i in there) or 'none'}")
    return incident
