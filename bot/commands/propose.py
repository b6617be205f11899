"""A change by hand, under the same rules as a suggested one: it is reviewed and approved before anything changes."""

from collections.abc import Sequence
from dataclasses import dataclass

from bot.actions import finder
from bot.actions.contract import Aim
from bot.commands.context import Context
from bot.commands.request import RequestTx
from bot.commands.words import UsageError, incident_number, sorted_out, unknown
from bot.fleet import Service
from bot.incidents.incident import Incident, IncidentState
from bot.report import Button, Buttons, Report, Style, Text, plain

USAGE = "propose <action> <service|node|incident> [key=value ...]"
SUMMARY = (
    "Propose a change by hand while an incident about it is open, to be reviewed like a suggested one: "
    "propose cordon_node gpu-07, propose scale_workload chat-70b add=1"
)
READS_ONLY = False


@dataclass(frozen=True, slots=True)
class _Meant:
    """The incident whose thread tells what came of the change, and what is to change if not what that is about."""

    incident: Incident
    aim: Aim | None = None


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
    about = given.ordered[1] if len(given.ordered) == 2 else None
    with context.store.read() as tx:
        meant = _meant(tx, about, context, of_nodes=_is_of_nodes(action))
    try:
        proposal = context.propose(meant.incident, action, given.named, context.user, context.now, meant.aim)
    except ValueError as error:
        raise UsageError(str(error)) from error
    text = f"Proposed {proposal.id}: {plain(proposal.description)}"
    review = Button(f"Review: {proposal.button}…", "review", proposal.id, Style.PRIMARY)
    return Report(text, (Text(text), Buttons((review,))))


def _is_of_nodes(action: str) -> bool:
    return "node" in finder.find(action).Words.model_fields


def _meant(tx: RequestTx, word: str | None, context: Context, *, of_nodes: bool) -> _Meant:
    there = tx.open_incidents()
    services = [s.name for s in context.fleet.services]
    if word is None:
        if len(there) == 1:
            return _Meant(there[0])
        raise UsageError(f"for which service? There are: {', '.join(services)}")
    if (service := context.fleet.service(word)) is not None:
        return _of_service(service, there, of_nodes=of_nodes)
    if word.lower().startswith("inc-") or word.isdigit():
        incident = tx.incident(incident_number(word))
        if incident is None or incident.state is not IncidentState.OPEN:
            raise UsageError(f"{word} is no open incident; open are: {', '.join(i.id for i in there) or 'none'}")
        return _Meant(incident)
    if not of_nodes:
        raise UsageError(unknown("service", word, services))
    return _of_node(word, there)


def _of_service(service: Service, there: Sequence[Incident], *, of_nodes: bool) -> _Meant:
    name = service.name
    own = [i for i in there if i.target.service == name]
    if own:
        return _Meant(own[-1])
    shared = [i for i in there if name in i.target.also]
    if not shared:
        raise UsageError(_needs_one(name))
    # A storm, or a node's incident: it is about more than what was named. Its node is nevertheless the one in question.
    aim = None if of_nodes else Aim(service=name, workload=service.workloads[0], pod=None, node=None)
    return _Meant(shared[-1], aim)


def _of_node(name: str, there: Sequence[Incident]) -> _Meant:
    own = [i for i in there if i.target.node == name]
    if own:
        return _Meant(own[-1])
    if len(there) == 1:
        about = there[0].target
        return _Meant(there[0], Aim(service=about.service, workload=about.workload, pod=None, node=name))
    example = f". Or name the incident: {there[-1].id} node={name}" if there else ""
    raise UsageError(f"{_needs_one(name)}{example}")


def _needs_one(about: str) -> str:
    return f"no incident about {about} is open, and a change needs one: its thread keeps what came of it"
