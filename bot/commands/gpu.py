"""The GPUs of a node, or of all: what the agents read now, else what dcgm-exporter last told, and what neither sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from bot.commands.context import Context
from bot.commands.words import UsageError, parameters, unknown
from bot.gpu_readings import EventPage, Gpu, GpuEvent, GpuNode, pci_key
from bot.ports import SourceError, Sources
from bot.probes import gpu_xid
from bot.probes import gpus as looking
from bot.probes.asking import Later
from bot.probes.gpus import Looked, look
from bot.report import Note, Part, Report, Text, duration, moment, plain
from bot.vllm.xids import Seen, XidClass, recovery_actions, resolve, xid

USAGE = "gpu [node]"
SUMMARY = "The GPUs of a node, or of all nodes: health, Xids of the last day and what to do, whose they are."
READS_ONLY = True

DAY = timedelta(hours=24)
# Of the exporter, where no agent answers. The agents tell more than these.
READINGS = (
    "temperature.gpu_celsius",
    "power.draw_watts",
    "clocks.event_reasons",
    "ecc.volatile.uncorrected",
    "ecc.aggregate.uncorrected",
    "rows.pending",
    "rows.failed",
    "recovery_action",
)
# An idle GPU, or one at the power limit that was set for it, does as it should.
_SLOWED = ("hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown")


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    looked: Looked | None
    page: EventPage | None
    pods: Mapping[str, int]  # "llm/chat-70b-x": how many GPUs it asks for
    problems: tuple[str, ...]  # why something is not seen
    exported: tuple[str, ...] = ()  # Xids, where only the exporter tells them


def run(words: Sequence[str], context: Context) -> Report:
    name = parameters(words, "node").get("node")
    sources = context.sources(context.now)
    names, unlisted = _names(name, sources)
    asked = [Later(partial(_looked, node, sources)) for node in names]
    nodes = [later.get() for later in asked]
    told = [(node, list(_about(node, context.now))) for node in nodes]
    bad = sum(line.startswith(":red_circle:") for _, lines in told for line in lines)
    seen = sum(len(node.looked.told) for node in nodes if node.looked is not None)
    trouble = f"{bad} of {seen} GPUs need somebody" if bad else "none that is seen needs anybody"
    blind = [node.name for node in nodes if node.looked is None or not node.looked.told]
    hosts = len(nodes) - len(blind)
    counted = f"{seen} GPU{'' if seen == 1 else 's'} on {hosts} node{'' if hosts == 1 else 's'}"
    text = f"{counted}: {trouble}" if seen else "No GPU is seen"
    text += f"; nothing is known of {', '.join(map(plain, blind))}" if blind else ""
    parts: list[Part] = [Text(f"*{text}*")]
    for node, lines in told:
        parts.append(Text("\n".join((_head(node), *lines))))
        if node.problems:
            parts.append(Note("\n".join(f":see_no_evil: {plain(why)}" for why in node.problems)))
    if unlisted is not None:
        parts.append(Note(f":see_no_evil: {plain(unlisted)}"))
    return Report(text, tuple(parts))


def _names(name: str | None, sources: Sources) -> tuple[tuple[str, ...], str | None]:
    """Which nodes, and why they may not be all."""
    try:
        nodes = sources.cluster.nodes()
    except SourceError as error:
        if name is None:
            raise
        return (name,), str(error)
    with_gpus = tuple(sorted(node.name for node in nodes if node.gpus or node.gpu_product))
    if name is None:
        return with_gpus, None if with_gpus else "no node of the cluster says that it has GPUs (nvidia.com/gpu)"
    if name not in [node.name for node in nodes]:
        raise UsageError(unknown("node", name, with_gpus or [node.name for node in nodes]))
    return (name,), None if name in with_gpus else f"Kubernetes knows of no GPU on {name} (nvidia.com/gpu)"


def _looked(name: str, sources: Sources) -> _Node:
    problems: list[str] = []
    looked, page, pods = None, None, dict[str, int]()
    asked = Later(lambda: sources.cluster.pods_on_node(name))
    try:
        looked = look(looking.Params(node=name), sources, READINGS)
        problems += looked.notes
        if looked.agents and sources.gpus is not None:
            page = sources.gpus.events(name)
            problems += _deaf(looked.agents[name])
    except SourceError as error:
        problems.append(str(error))
    try:
        pods = {f"{p.namespace}/{p.name}": p.gpus for p in asked.get() if p.gpus and p.phase in ("Pending", "Running")}
    except SourceError as error:
        problems.append(f"whose GPUs they are: {error}")
    exported: tuple[str, ...] = ()
    if looked is not None and not looked.agents:
        exported, unseen = _exporters_xids(name, sources)
        problems += unseen
    return _Node(name, looked, page, pods, tuple(dict.fromkeys(problems)), exported)


def _exporters_xids(name: str, sources: Sources) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What it tells, and what it does not."""
    try:
        found = gpu_xid.observe(gpu_xid.Params(node=name, within_minutes=DAY / timedelta(minutes=1)), sources)
    except SourceError as error:
        return (), (f"Xids: {error}",)
    if found.seen and found.xid is not None:
        told = f"Xid {found.xid} {found.name} [{found.xid_class}] on {found.where}, within the last day"
        return (f":red_circle: {plain(told)}", f"    → *{plain(found.do)}* ({plain(found.because)})"), ()
    return (), () if found.seen is False else (f"Xids: {found.missing or 'not known'}",)


def _deaf(node: GpuNode) -> Iterator[str]:
    watching = node.watching
    if watching is None or not (watching.nvml or watching.kernel_log):
        yield "the agent hears of no Xid, so that none are listed says nothing"
    elif watching.kernel_log is None and watching.kernel_log_problem:
        yield f"the kernel's log is not read ({watching.kernel_log_problem}): some Xids come only there"
    if node.holders_problem:
        yield f"whose GPUs they are: {node.holders_problem}"


# ---------------------------------------------------------------------------------------------- what is told


def _head(node: _Node) -> str:
    source = node.looked.source if node.looked is not None else None
    driver = next((f", driver {a.driver}" for a in node.looked.agents.values() if a.driver), "") if node.looked else ""
    return f"*{plain(node.name)}* · {plain(f'told by {source}{driver}' if source else 'nobody tells of its GPUs')}"


def _about(node: _Node, now: datetime) -> Iterator[str]:
    events = [e for e in (node.page.events if node.page else ()) if e.kind == "xid" and e.last_at >= now - DAY]
    told = node.looked.told if node.looked is not None else ()
    matched: set[str] = set()
    for one in told:
        mine = [e for e in events if _is_of(e, one.gpu)]
        matched |= {e.id for e in mine}
        yield from _gpu(one.gpu, mine, now)
    yield from node.exported
    # Of a GPU that is gone since, or of none in particular.
    if rest := [e for e in events if e.id not in matched]:
        yield from _xids(rest, None, now)
    heard = node.page is not None and next(iter(node.looked.agents.values())).watching if node.looked else None
    if node.page is not None and not events and heard:
        since = max(heard.since, now - DAY)
        yield f"No Xid within {duration(now - since)}"
    if node.pods and not any(one.gpu.holders for one in told):
        yield "Pods with GPUs here: " + ", ".join(f"{plain(pod)} ({count})" for pod, count in node.pods.items())


def _gpu(gpu: Gpu, events: Sequence[GpuEvent], now: datetime) -> Iterator[str]:
    troubles = [*_troubles(gpu), *_warnings(gpu)]
    decided = resolve([Seen(e.xid or 0, e.message) for e in events], recovery=gpu.recovery_action) if events else None
    bad = bool(list(_troubles(gpu))) or (decided is not None and decided.class_.hardware)
    icon = ":red_circle:" if bad else ":large_yellow_circle:" if troubles or events else ":white_circle:"
    holders = ", ".join(plain(f"{h.namespace}/{h.pod}") for h in gpu.holders if h.pod)
    name = plain(f"{gpu.label} {gpu.name or ''}".strip())
    yield f"{icon} *{name}* · {', '.join(_readings(gpu))}" + (f" · {holders}" if holders else "")
    yield from (f"    {plain(trouble)}" for trouble in troubles)
    if events:
        yield from _xids(events, gpu.recovery_action, now)
    if gpu.missing:
        reasons = dict.fromkeys(f"{what}: {why}" for what, why in gpu.missing.items())
        yield f"    :see_no_evil: {plain('; '.join(reasons))}"


def _readings(gpu: Gpu) -> Iterator[str]:
    """The few numbers that say how it is; what is not known stands below, with its reason."""
    if gpu.temperature.gpu_celsius is not None:
        yield f"{gpu.temperature.gpu_celsius} °C"
    if gpu.power.draw_watts is not None:
        yield f"{gpu.power.draw_watts:.0f} W"
    if gpu.busy_ratio is not None:
        yield f"{gpu.busy_ratio:.0%} busy"
    if gpu.memory.used_bytes is not None and gpu.memory.total_bytes:
        yield f"{gpu.memory.used_bytes / 2**30:.0f} of {gpu.memory.total_bytes / 2**30:.0f} GiB"
    if gpu.ecc.enabled is False:
        yield "ECC off"
    elif gpu.ecc.volatile.uncorrected is not None:
        yield f"ECC uncorrected {gpu.ecc.volatile.uncorrected} (life: {_known(gpu.ecc.aggregate.uncorrected)})"


def _known(value: int | None) -> str:
    return "not known" if value is None else str(value)


def _troubles(gpu: Gpu) -> Iterator[str]:
    """What somebody has to do something about."""
    if gpu.state != "ok":
        yield f"{gpu.state.replace('_', ' ')}: {gpu.problem or 'no reason is told'}"
    action = recovery_actions().get(gpu.recovery_action or "none")
    if gpu.recovery_action not in (None, "none"):
        asks = (gpu.recovery_action or "").replace("_", " ")
        yield f"the driver asks for: {asks}. {action.do if action is not None else 'Read the kernel log.'}"
    if gpu.rows.failed:
        yield "a row could not be remapped: NVIDIA's criterion for a replacement"
    if gpu.ecc.sram_threshold_exceeded or gpu.ecc.unrepairable_memory:
        yield "its memory is beyond repair: NVIDIA's criterion for a replacement"
    if gpu.ecc.volatile.uncorrected:
        yield f"{gpu.ecc.volatile.uncorrected} uncorrectable memory errors since the driver was loaded"


def _warnings(gpu: Gpu) -> Iterator[str]:
    if gpu.rows.pending:
        yield "a row is remapped at the next reset; it may be used until then"
    slowed = [reason for reason in gpu.clocks.event_reasons or () if reason in _SLOWED]
    if slowed:
        yield f"its clocks are held down: {', '.join(slowed).replace('_', ' ')}"


def _xids(events: Sequence[GpuEvent], recovery: str | None, now: datetime) -> Iterator[str]:
    ordered = sorted(events, key=lambda e: e.last_at)
    for event in reversed(ordered[-5:]):
        known = xid(event.xid or 0)
        times = f" ×{event.count}" if event.count > 1 else ""
        where = "" if event.gpu_uuid or event.pci else " (of no GPU in particular)"
        who = f" · {plain(event.process)} ({event.pid})" if event.process and event.pid else ""
        text = f"Xid {event.xid} {known.name}{times}{where} [{known.class_.value}]"
        yield f"    {moment(event.last_at, 'date')} {plain(text)}{who}"
    if len(ordered) > 5:
        yield f"    and {len(ordered) - 5} more of the last day"
    decided = resolve([Seen(e.xid or 0, e.message) for e in ordered], recovery=recovery)
    if decided is not None and decided.class_ is not XidClass.WATCH:
        yield f"    → *{plain(decided.do)}* ({plain(decided.because)})"


def _is_of(event: GpuEvent, gpu: Gpu) -> bool:
    if event.gpu_uuid and gpu.uuid:
        return event.gpu_uuid == gpu.uuid
    return bool(event.pci and gpu.pci) and pci_key(event.pci or "") == pci_key(gpu.pci or "")
