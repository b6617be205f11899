"""Run a runbook now, or as of a time past. About an open incident the answer comes into its thread; else to whoever
asked. An answer that was under way when the bot was restarted is lost: ask again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from bot.announce.evidence import evidence
from bot.announce.verdict import of_round
from bot.announce.view import View
from bot.commands.context import Context, incident_meant
from bot.commands.words import UsageError, parameters, time_of, unknown
from bot.fleet import Fleet
from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target
from bot.incidents.target import resolve
from bot.ports import ClusterReader
from bot.report import Report, moment, plain
from bot.runbook.schema import Severity

USAGE = "diagnose <runbook> [service|pod|node|incident] [at=02:13]"
SUMMARY = "Run a runbook now, or as of a time past (UTC)."
READS_ONLY = True


def run(words: Sequence[str], context: Context) -> Report:
    given = parameters(words, "runbook", "about", "at")
    at = time_of(given["at"], context.now) if "at" in given else None
    name, about = given.get("runbook"), given.get("about")
    if name is not None and about is None and name.lower().startswith("inc-"):
        name, about = None, name
    incident = _incident(name, about, at, context)
    runbook = _runbook(name, incident, context)
    if incident is not None and context.in_slack:
        return _asked_for(incident, runbook, at, context)
    target = incident.target if incident is not None else _target(about, context)
    return _at_once(target, runbook, at, context)


def _incident(name: str | None, about: str | None, at: datetime | None, context: Context) -> Incident | None:
    """The open incident that is meant, if one is."""
    with context.store.read() as tx:
        if about is not None and about.lower().startswith("inc-"):
            return incident_meant(tx, about, only_open=at is None)
        there = tx.open_incidents()
    if about is not None:
        there = [i for i in there if about in (i.target.service, i.target.pod, i.target.node)]
    elif name is not None:
        there = [i for i in there if i.runbook == name]
    return there[0] if len(there) == 1 else None


def _runbook(name: str | None, incident: Incident | None, context: Context) -> str:
    if name is None:
        if incident is None or incident.runbook is None:
            raise UsageError(f"with which runbook? There are: {', '.join(sorted(context.runbooks)) or 'none'}")
        name = incident.runbook
    if name not in context.runbooks:
        raise UsageError(unknown("runbook", name, context.runbooks))
    return name


def _asked_for(incident: Incident, runbook: str, at: datetime | None, context: Context) -> Report:
    with context.store.write() as tx:
        under_way = [r for r in tx.due_rounds(context.now) if r.incident == incident.number]
        if at is None and any(r.runbook == runbook and r.as_of is None for r in under_way):
            return Report(f"{incident.id} is being diagnosed with {plain(runbook)} already; see its thread.")
        number = tx.next_round_number(incident.number)
        tx.save_round(
            Round(
                incident.number,
                number,
                runbook,
                RoundReason.REQUESTED,
                due_at=context.now,
                as_of=at,
                asked_by=context.user,
            )
        )
    past = f", as of {moment(at, 'date')}" if at else ""
    return Report(f"Diagnosing {incident.id} with {plain(runbook)}{past}: the answer comes into its thread.")


def _target(about: str | None, context: Context) -> Target:
    services = [s.name for s in context.fleet.services]
    if about is None:
        if len(services) != 1:
            raise UsageError(f"of which service? There are: {', '.join(services) or 'none'}")
        about = services[0]
    cluster = context.sources(context.now).cluster
    target = _found(about, cluster, context.fleet)
    if target is None:
        raise UsageError(unknown("service, pod or node", about, services))
    return target


def _found(word: str, cluster: ClusterReader, fleet: Fleet) -> Target | None:
    """A service by name, a pod as `namespace/pod` or alone in a namespace of ours, a node."""
    if fleet.service(word) is not None:
        return resolve({"service": word}, cluster, fleet)
    namespace, slash, pod = word.partition("/")
    namespaces = [namespace] if slash else list(dict.fromkeys(w.namespace for s in fleet.services for w in s.workloads))
    guesses = [{"namespace": n, "pod": pod if slash else word} for n in namespaces]
    for labels in (*guesses, {"node": word}):
        target = resolve(labels, cluster, fleet)
        if target.pod is not None or target.node is not None:
            return target
    return None


def _at_once(target: Target, runbook: str, at: datetime | None, context: Context) -> Report:
    name = plain(target.service or target.pod or target.node or "the fleet")
    past = f" as of {moment(at, 'date')}" if at else ""
    note = Report(f"Diagnosing {name} with {plain(runbook)}{past}…")
    now = context.now
    about = Incident(0, IncidentState.OPEN, Severity.INFO, name, target, runbook, context.channel, now, at or now)
    asked = Round(0, 1, runbook, RoundReason.REQUESTED, due_at=now, as_of=at, asked_by=context.user)

    def work() -> Report:
        done = context.diagnose(about, asked)
        verdict = of_round(done)
        view = View(about, rounds=(done,), runbook=context.runbooks[runbook])
        text = f"{name}: {verdict.title}: {verdict.text}"
        # Nothing of this is kept, so it has no number.
        return Report(text, evidence(replace(done, number=0), view))

    return context.later(note, work)
