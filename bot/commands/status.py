"""How the fleet stands, and where the bot itself is blind."""

from collections.abc import Iterator, Sequence
from functools import partial

from bot.announce.verdict import standing
from bot.announce.view import View, load
from bot.commands.context import Context
from bot.commands.words import UsageError, parameters, unknown
from bot.fleet import Service
from bot.ports import SourceError, Sources
from bot.probes import vllm_engine
from bot.probes.asking import Later
from bot.probes.served import reporting, selector_of
from bot.remediation.proposal import ProposalState
from bot.report import Note, Part, Report, Text, moment, plain

USAGE = "status [service]"
SUMMARY = "Replicas, open incidents and changes of each service, and where the bot is blind."
READS_ONLY = True

# Exists in every version of vLLM that we know, with one series per engine.
ENGINES = "count(vllm:num_requests_running)"


def run(words: Sequence[str], context: Context) -> Report:
    name = parameters(words, "service").get("service")
    names = [s.name for s in context.fleet.services]
    if name is not None and name not in names:
        raise UsageError(unknown("service", name, names))
    services = [s for s in context.fleet.services if name in (None, s.name)]
    sources = context.sources(context.now)
    with context.store.read() as tx:
        there = [load(tx, i.number, context.fleet, context.runbooks) for i in tx.open_incidents()]
        frozen = tx.frozen()
    views = [v for v in there if v is not None]
    blind = list(_blind(sources, context))
    troubled = {n for v in views for n in (v.incident.target.service, *v.incident.target.also) if n}
    bad = [s.name for s in services if s.name in troubled]
    text = f"{len(bad)} of {len(services)} services in trouble" if bad else "No open incident"
    parts: list[Part] = [Text(f"*{text}*")]
    kubernetes: SourceError | None = None
    seen = [Later(partial(_engines, service, sources)) for service in services]
    for service, engines in zip(services, seen, strict=True):
        try:
            replicas = _replicas(service, sources) if kubernetes is None else "replicas not known"
        except SourceError as error:
            kubernetes, replicas = error, "replicas not known"
        lines = (_line(service, replicas, service.name in troubled), *engines.get(), *_about(service, views))
        parts.append(Text("\n".join(lines)))
    loose = [v for v in views if not v.incident.target.service and not v.incident.target.also]
    if loose and name is None:
        parts.append(Text("\n".join(["*Without a service*", *(_incident(v) for v in loose)])))
    if frozen is not None:
        parts.append(Text(f":ice_cube: Changes are frozen: {plain(frozen)}"))
    if kubernetes is not None:
        blind.insert(0, str(kubernetes))
    if sees := list(_sees(context, sources)):
        parts.append(Note("\n".join(sees)))
    if blind:
        parts.append(Text("\n".join(["*Blind:*", *(f":see_no_evil: {plain(b)}" for b in blind)])))
    return Report(text + (f"; blind: {plain(blind[0])}" if blind else ""), tuple(parts))


def _line(service: Service, replicas: str, troubled: bool) -> str:
    return f"{':red_circle:' if troubled else ':white_circle:'} *{plain(service.name)}* · {replicas}"


def _replicas(service: Service, sources: Sources) -> str:
    words = []
    for ref in service.workloads:
        workload = sources.cluster.workload(ref)
        prefix = f"{plain(ref.name)} " if len(service.workloads) > 1 else ""
        if workload is None:
            words.append(f"{plain(ref)} does not exist")
        else:
            short = " :warning:" if workload.ready < workload.desired else ""
            words.append(f"{prefix}{workload.ready} of {workload.desired} ready{short}")
    return ", ".join(words)


# A replica in one of these does what is asked of it, or waits to be asked.
_STATES = ("working", "saturated", "idle", "loading", "pending", "hung", "asleep", "dead", "crashed", "unclear")


def _engines(service: Service, sources: Sources) -> list[str]:
    """What the replicas do, by their own progress, and how many of them Prometheus has metrics of."""
    asked = Later(lambda: reporting(sources, selector_of(sources, service)))
    lines = []
    try:
        found = vllm_engine.observe(vllm_engine.Params(service=service.name), sources)
        states = [f"{count} {state}" for state in _STATES if (count := getattr(found, state))]
        lines += [f"Engines: {', '.join(states)}"] if states else []
        lines += [f":see_no_evil: {plain(found.missing)}"] if found.missing else []
    except SourceError as error:
        lines.append(f":see_no_evil: what its engines do is not known: {plain(error)}")
    try:
        count = asked.get()
        lines.append(f"Metrics of {count} replica{'' if count == 1 else 's'} in Prometheus")
    except SourceError:
        pass  # said once, below
    return lines


def _sees(context: Context, sources: Sources) -> Iterator[str]:
    """What the bot works with, apart from the cluster and Prometheus."""
    backlog = context.backlog()
    if backlog is not None:
        waiting = backlog.cards + backlog.edits + backlog.threads + backlog.whispers
        yield f"Slack lacks {waiting} messages" if waiting else "Slack has everything"
    if sources.gpus is None:
        yield "GPU agents are not asked (VLLM_ONCALL_AGENT__TOKEN is not set): GPUs are known from dcgm-exporter alone"
    if context.broken:
        files = sorted({str(mistake.path) for mistake in context.broken})
        yield f":warning: Not used: {plain(', '.join(files))}; `runbooks` says why"


def _about(service: Service, views: Sequence[View]) -> Iterator[str]:
    for view in views:
        target = view.incident.target
        if service.name in (target.service, *target.also):
            yield _incident(view)
            for proposal in view.proposals:
                if proposal.state in (ProposalState.APPROVED, ProposalState.RUNNING):
                    progress = proposal.progress or proposal.state.value
                    yield f":hourglass_flowing_sand: {plain(proposal.button)}: {progress}"


def _incident(view: View) -> str:
    now = standing(view)
    return f"{view.incident.id} since {moment(view.incident.began_at, 'date')}: *{now.title}*: {now.text}"


def _blind(sources: Sources, context: Context) -> Iterator[str]:
    try:
        seen = sources.metrics.instant(ENGINES).number
        if not seen:
            yield f"Prometheus has no vLLM metrics ({ENGINES} is empty); is it scraping the engines?"
    except SourceError as error:
        yield str(error)
    try:
        sources.alerts.active()
    except SourceError as error:
        yield str(error)
    yield from _without_agents(sources)
    backlog = context.backlog()
    if backlog is not None and backlog.trouble is not None:
        waiting = backlog.cards + backlog.threads
        yield f"{backlog.trouble} ({waiting} messages wait)"


_NAME = "\N{NULL}"  # stands where a node's name was


def _without_agents(sources: Sources) -> Iterator[str]:
    if sources.gpus is None:
        return  # nobody set them up, which is told as a note
    try:
        nodes = [node.name for node in sources.cluster.nodes() if node.gpus or node.gpu_product]
    except SourceError:
        return  # said already
    asked = [(node, Later(partial(sources.gpus.snapshot, node))) for node in nodes]
    alike: dict[str, list[str]] = {}  # a reason -> the nodes for which it is the same but for their names
    for node, later in asked:
        try:
            problem = later.get().problem
        except SourceError as error:
            problem = str(error)
        if problem:
            alike.setdefault(problem.replace(node, _NAME), []).append(node)
    for problem, there in alike.items():
        one = len(there) == 1
        words = problem.replace(_NAME, there[0]) if one else problem.replace(f"no node {_NAME}", "none of them")
        yield f"{', '.join(there)}: {words.replace(_NAME, 'it')}"
