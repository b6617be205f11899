"""Which Xids has the driver reported on these GPUs lately, and what do they ask for together?

The agent tells each with its time. dcgm-exporter tells only the last one, for ever: it counts as recent if it changed
within the time asked about.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from pydantic import Field

from bot.gpu_readings import EventPage, Gpu, GpuEvent, pci_key
from bot.ports import Sample, SourceError, Sources
from bot.probes import gpus
from bot.probes.asking import Later
from bot.probes.gpus import AGENT, EXPORTER, Looked, Match, exported, look
from bot.vllm import dcgm
from bot.vllm.xids import Resolution, Seen, resolve, xid

READINGS = ("recovery_action",)
NONE = "none"
_CLOCKS = timedelta(seconds=5)  # a clock that is set while the node starts moves the time of its start


class Params(gpus.Params):
    within_minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 60


@dataclass(frozen=True, slots=True)
class Reading:
    seen: bool | None = None  # any Xid; false only if every GPU's driver was heard all the time
    xid: int | None = None  # the one that decides
    name: str | None = None
    # What all of them ask for together: "application", "reset", "reboot", "rma", "watch", "companions", "unknown";
    # "none" if there were none.
    xid_class: str | None = None
    do: str | None = None
    because: str | None = None
    disagreement: str | None = None  # where authorities differ about it
    xids: tuple[int, ...] | None = None  # all of them, oldest first
    count: int | None = None
    last_minutes: float | None = None  # since the one that decides came last; not known of an exporter's
    where: str | None = None  # the GPU of the one that decides
    process: str | None = None  # "python3 (440)", as the kernel's log has it
    pods: tuple[str, ...] | None = None  # who held the GPU then
    covered_minutes: float | None = None  # how far back nothing can have been missed
    source: str | None = None
    matched_by: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """One Xid on one GPU."""

    gpu: str  # what tells GPUs apart: UUID or address
    where: str
    event: GpuEvent
    source: str
    rebooted_since: bool = False  # its node; a reset of the GPU alone leaves no trace


def observe(params: Params, sources: Sources) -> Reading:
    looked = look(params, sources, READINGS)
    since = sources.now - timedelta(minutes=params.within_minutes)
    found, notes = _of_agents(looked, sources, since)
    heard = not notes and all(_covered(looked, node, since) for node in looked.agents)
    matched = looked.matched_by
    told_by = {AGENT} if looked.agents else set()
    if looked.without_agent or looked.scope.selector:
        more, lacking, match = _of_exporter(looked, sources, params.within_minutes)
        found += more
        notes += lacking
        heard = heard and match is not None and not lacking
        told_by |= {EXPORTER} if match else set()
        matched = min((m for m in (matched, match) if m), key=("node", "pod", "uuid").index, default=None)
    reading = Reading(
        source=" and ".join(sorted(told_by)) or None,
        matched_by=matched,
        covered_minutes=_covered_minutes(looked, sources.now),
        missing="; ".join(dict.fromkeys((*_notes(looked), *notes))) or None,
    )
    if found:
        return _with(reading, found, looked, sources.now)
    if heard and told_by:
        return replace(reading, seen=False, xid_class=NONE, xids=(), count=0)
    return reading


def _with(reading: Reading, found: Sequence[_Found], looked: Looked, now: datetime) -> Reading:
    ordered = sorted(found, key=lambda one: one.event.last_at)
    by_gpu: dict[str, list[_Found]] = {}
    for one in ordered:
        by_gpu.setdefault(one.gpu, []).append(one)
    resolved = [(_resolution(ones, looked), ones) for ones in by_gpu.values()]
    worst, ones = max(resolved, key=lambda pair: (pair[0].class_.rank, pair[1][-1].event.last_at))
    deciding = next((one for one in reversed(ones) if one.event.xid == worst.number), ones[-1])
    event, known = deciding.event, xid(worst.number)
    return replace(
        reading,
        seen=True,
        xid=worst.number,
        name=known.name,
        xid_class=worst.class_.value,
        do=worst.do,
        because=worst.because,
        disagreement=known.disagreement,
        xids=tuple(dict.fromkeys(one.event.xid for one in ordered if one.event.xid is not None)),
        count=sum(one.event.count for one in found),
        last_minutes=_minutes_since(event, now) if deciding.source == AGENT else None,
        where=deciding.where,
        process=None if event.pid is None else f"{event.process or 'process'} ({event.pid})",
        pods=tuple(f"{h.namespace}/{h.pod}" for h in event.holders if h.pod) or None,
    )


def _minutes_since(event: GpuEvent, now: datetime) -> float:
    """No less than a second: clocks of two machines do not agree any better."""
    return max(1.0, (now - event.last_at).total_seconds()) / 60


def _resolution(ones: Sequence[_Found], looked: Looked) -> Resolution:
    gpu = next((one.gpu for one in looked.told if ones[0].gpu in _keys(one.gpu)), None)
    recovery = gpu.recovery_action if gpu is not None else None
    seen = [Seen(one.event.xid or 0, one.event.message, one.rebooted_since) for one in ones]
    found = resolve(seen, recovery=recovery)
    assert found is not None  # there is at least one
    return found


# ---------------------------------------------------------------------------------------------- the agents


def _of_agents(looked: Looked, sources: Sources, since: datetime) -> tuple[list[_Found], list[str]]:
    asked = {node: Later(partial(_events, sources, node)) for node in looked.agents}
    found: list[_Found] = []
    notes: list[str] = []
    for node, later in asked.items():
        try:
            page = later.get()
        except SourceError as error:
            notes.append(str(error))
            continue
        labels = {key: one.where for one in looked.told if one.node == node for key in _keys(one.gpu)}
        whole_node = _whole_node(looked, node)
        for event in page.events:
            if event.kind != "xid" or event.xid is None or event.last_at < since:
                continue
            key = next((k for k in (event.gpu_uuid, event.pci) if k in labels), None)
            if key is None and not whole_node:
                continue  # of a GPU that is somebody else's
            gpu = key or event.gpu_uuid or event.pci or "?"
            booted_at = looked.agents[node].booted_at
            rebooted = booted_at is not None and event.last_at < booted_at - _CLOCKS
            found.append(_Found(gpu, labels.get(gpu, f"{gpu} on {node}"), event, AGENT, rebooted))
    return found, notes


def _events(sources: Sources, node: str) -> EventPage:
    assert sources.gpus is not None  # else no agent would have told its GPUs
    return sources.gpus.events(node)


def _whole_node(looked: Looked, node: str) -> bool:
    """Are all GPUs of the node meant? Then one that is lost since, and was never named, is as well."""
    return {one.gpu.index for one in looked.told if one.node == node} == {g.index for g in looked.agents[node].gpus}


def _keys(gpu: Gpu) -> tuple[str, ...]:
    return tuple(key for key in (gpu.uuid, pci_key(gpu.pci) if gpu.pci else None) if key)


def _covered(looked: Looked, node: str, since: datetime) -> bool:
    watching = looked.agents[node].watching
    return watching is not None and watching.since <= since and (watching.nvml or watching.kernel_log is not None)


def _covered_minutes(looked: Looked, now: datetime) -> float | None:
    """Of the agent that came last."""
    known = [node.watching.since for node in looked.agents.values() if node.watching is not None]
    if not known or len(known) < len(looked.agents) or looked.without_agent:
        return None
    return (now - max(known)).total_seconds() / 60


def _notes(looked: Looked) -> Iterable[str]:
    # With an agent on every node the exporter's silence is no matter.
    yield from looked.notes if looked.without_agent or not looked.agents else ()
    for name, node in looked.agents.items():
        watching = node.watching
        if watching is None or not (watching.nvml or watching.kernel_log):
            yield f"the agent on {name} hears of no Xid"
        elif watching.kernel_log is None and watching.kernel_log_problem:
            yield f"the agent on {name} does not read the kernel's log: {watching.kernel_log_problem}"


# ---------------------------------------------------------------------------------------------- the exporter


def _of_exporter(looked: Looked, sources: Sources, minutes: float) -> tuple[list[_Found], list[str], Match | None]:
    scope, nodes, span = looked.scope, looked.without_agent, f"{max(1, round(minutes * 60))}s"

    def ask(around: str) -> Later[tuple[tuple[Sample, ...], Match | None]]:
        return Later(partial(exported, sources, scope, nodes, dcgm.XID, around))

    last, changed, before = ask("{}"), ask(f"changes({{}}[{span}]) > 0"), ask(f"{{}} offset {span}")
    values, match = last.get()
    if match is None:
        return [], [f"{dcgm.XID[0]} is not exported"], None
    lately = _by_gpu(changed.get()[0])
    earlier = _by_gpu(before.get()[0])
    found: list[_Found] = []
    notes: list[str] = []
    for key, (labels, value) in _by_gpu(values).items():
        number, where, gpu = round(value), _where(labels), "/".join(key)
        if not number:
            if key in lately or key not in earlier:
                notes.append(f"dcgm-exporter began anew: what {where} reported before it is not known")
        elif key in lately:
            event = GpuEvent(f"dcgm-{gpu}", 0, sources.now, sources.now, xid=number)
            found.append(_Found(gpu, where, event, EXPORTER))
        elif key in earlier:
            notes.append(f"Xid {number} on {where} is older; dcgm-exporter would not show the same one again")
        else:
            notes.append(f"Xid {number} on {where}: dcgm-exporter does not say since when")
    return found, notes, match


def _by_gpu(samples: Iterable[Sample]) -> Mapping[tuple[str, ...], tuple[Mapping[str, str], float]]:
    return {dcgm.gpu_key(s.labels): (s.labels, s.value) for s in samples}


def _where(labels: Mapping[str, str]) -> str:
    index = labels.get("gpu", "")
    gpu = Gpu(int(index) if index.isdecimal() else 0, uuid=labels.get("UUID"), pci=labels.get("pci_bus_id"))
    node = dcgm.node_of(labels)
    return f"{gpu.label} on {node}" if node else gpu.label
