"""Which GPUs a question is about, and what is known of them: the agents on the nodes first, and for nodes without one
dcgm-exporter in Prometheus.

A replica's GPUs are told by UUID where the agent knows which pod holds them, else by the exporter's pod labels, else
they are all GPUs of its node; every reading says which (`matched_by`), as of a node's GPUs others may be the cause.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from bot.gpu_readings import Gpu, GpuNode
from bot.ports import Pod, Sample, SourceError, Sources
from bot.probes.asking import Later, whole
from bot.probes.served import pods_of, selector_of, service_of
from bot.vllm import dcgm, series
from bot.vllm.series import any_of

Match = Literal["uuid", "pod", "node"]
_WEAKEST: Sequence[Match] = ("node", "pod", "uuid")
AGENT, EXPORTER = "agent", "dcgm-exporter"


class Params(BaseModel):
    """A node; or a service, of which `pod` picks one replica; or one pod."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = None
    service: str | None = None
    namespace: str | None = None
    pod: str | None = None

    @model_validator(mode="after")
    def _enough(self) -> "Params":
        if self.node or self.service or (self.namespace and self.pod):
            return self
        raise ValueError("needs a node, a service, or a namespace and a pod")


@dataclass(frozen=True, slots=True)
class Told:
    node: str | None
    gpu: Gpu
    source: str

    @property
    def where(self) -> str:
        return f"{self.gpu.label} on {self.node}" if self.node else self.gpu.label


@dataclass(frozen=True, slots=True)
class Scope:
    """What the question is about, as far as the cluster could tell."""

    nodes: tuple[str, ...]
    pods: tuple[Pod, ...] | None  # None: the question is about whole nodes
    selector: str | None = None  # of the pods' series, where the pods themselves could not be asked for
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Looked:
    told: tuple[Told, ...] = ()
    matched_by: Match | None = None
    agents: Mapping[str, GpuNode] = field(default_factory=dict)
    without_agent: tuple[str, ...] = ()  # nodes
    scope: Scope = Scope((), None)
    notes: tuple[str, ...] = ()  # why something is not known

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(one.gpu for one in self.told)

    @property
    def source(self) -> str | None:
        found = sorted({one.source for one in self.told})
        return " and ".join(found) or None


# ---------------------------------------------------------------------------------------------- looking


def look(params: Params, sources: Sources, readings: Sequence[str]) -> Looked:
    """`readings`: which fields the exporter is asked for where there is no agent."""
    scope = scope_of(params, sources)
    asked = {node: Later(partial(_snapshot, sources, node)) for node in scope.nodes}
    agents: dict[str, GpuNode] = {}
    notes = list(scope.notes)
    for node, later in asked.items():
        try:
            agents[node] = later.get()
        except SourceError as error:
            notes.append(str(error))
    told, matches = _by_agents(scope, agents)
    notes += [f"{node}: {found.problem}" for node, found in agents.items() if found.problem]
    without = tuple(node for node in scope.nodes if node not in agents)
    if without or scope.selector:
        found, match = by_exporter(sources, scope, without, readings)
        told += found
        matches += [match] if match else []
        if not found:
            notes.append(f"dcgm-exporter tells nothing of {', '.join(without) or 'its pods'} in Prometheus")
    matched = min(matches, key=_WEAKEST.index, default=None)
    return Looked(tuple(told), matched, agents, without, scope, tuple(dict.fromkeys(notes)))


def scope_of(params: Params, sources: Sources) -> Scope:
    if params.node is not None and params.service is None and params.pod is None:
        return Scope((params.node,), None)
    if params.service is None:
        pod = sources.cluster.pod(params.namespace or "", params.pod or "")
        if pod is None:
            raise SourceError("Kubernetes", f"there is no pod {params.namespace}/{params.pod} any more")
        return _of_pods((pod,), params)
    service = service_of(sources, params.service)
    try:
        pods = pods_of(sources, service)
    except SourceError as error:
        return Scope((), None, selector_of(sources, service), (str(error),))
    return _of_pods(pods, params)


def _of_pods(pods: Sequence[Pod], params: Params) -> Scope:
    chosen = tuple(p for p in pods if p.gpus and p.node and params.pod in (None, p.name))
    chosen = tuple(p for p in chosen if params.node in (None, p.node))
    notes = () if chosen else ("none of its pods holds a GPU on a node",)
    return Scope(tuple(sorted({p.node for p in chosen if p.node})), chosen, None, notes)


def _snapshot(sources: Sources, node: str) -> GpuNode:
    if sources.gpus is None:
        raise SourceError("GPU agent", "is not configured")
    if not sources.live:
        raise SourceError("GPU agent", "can only answer for now")
    return sources.gpus.snapshot(node)


def _by_agents(scope: Scope, agents: Mapping[str, GpuNode]) -> tuple[list[Told], list[Match]]:
    told: list[Told] = []
    matches: list[Match] = []
    for name, node in agents.items():
        here = [pod for pod in scope.pods or () if pod.node == name]
        held = _held(node, here)
        matches.append("uuid" if held else "node")
        told += [Told(name, gpu, AGENT) for gpu in (held or node.gpus)]
    return told, matches


def _held(node: GpuNode, pods: Sequence[Pod]) -> list[Gpu]:
    """The GPUs of these pods; empty if the agent cannot tell, or not of all."""
    mine = [gpu for gpu in node.gpus if any(_holds(gpu, pod) for pod in pods)]
    # The kubelet knows of all. A process that has crashed no longer shows whose its GPU is.
    if any(holder.by == "kubelet" for gpu in mine for holder in gpu.holders):
        return mine
    return mine if mine and len(mine) >= sum(pod.gpus for pod in pods) else []


def _holds(gpu: Gpu, pod: Pod) -> bool:
    return any(
        (holder.namespace, holder.pod) == (pod.namespace, pod.name) or (holder.pod_uid and holder.pod_uid == pod.uid)
        for holder in gpu.holders
    )


# ---------------------------------------------------------------------------------------------- the exporter


def by_exporter(
    sources: Sources, scope: Scope, nodes: Sequence[str], readings: Sequence[str]
) -> tuple[list[Told], Match | None]:
    found, match = exported(sources, scope, nodes, dcgm.names(readings))
    only = nodes[0] if len(nodes) == 1 else None
    return [Told(node or only, gpu, EXPORTER) for node, gpu in dcgm.gpus_of(found, readings)], match


def exported(
    sources: Sources, scope: Scope, nodes: Sequence[str], names: Sequence[str], around: str = "{}"
) -> tuple[tuple[Sample, ...], Match | None]:
    """The exporter's series of these names, of the pods' GPUs if their labels say so, else of the nodes'.

    around: a PromQL expression with {} where the selector stands.
    """
    ways: list[tuple[Match, list[str]]] = [("pod", _of_exported_pods(scope, nodes)), ("node", _on_nodes(nodes))]
    asked = [(match, Later(partial(_series, sources, names, ms, around))) for match, ms in ways if ms]
    for match, later in asked:
        if samples := later.get():
            return samples, match
    return (), None


def _series(sources: Sources, names: Sequence[str], matchers: Sequence[str], around: str) -> tuple[Sample, ...]:
    if around == "{}":
        parts = [f"{{__name__=~{any_of(names)},{matcher}}}" for matcher in matchers]
    else:
        # Functions drop the name, and two names' series would then be one.
        parts = [around.replace("{}", f"{name}{{{matcher}}}") for name in names for matcher in matchers]
    return whole(sources.metrics, " or ".join(parts)).samples


def _of_exported_pods(scope: Scope, nodes: Sequence[str]) -> list[str]:
    if scope.selector is not None:
        return [scope.selector, _claimed(scope.selector)]
    patterns: dict[str, list[str]] = {}
    for pod in scope.pods or ():
        if pod.node in nodes:
            patterns.setdefault(pod.namespace, []).append(pod.name.replace(".", r"\."))
    if not patterns:
        return []
    return [series.pods_matcher(patterns), series.pods_matcher(patterns, prefix="exported_")]


def _claimed(selector: str) -> str:
    # Without honorLabels Prometheus keeps `pod` for the exporter's own pod, and renames the claim.
    return selector.replace("namespace=", "exported_namespace=").replace("pod=", "exported_pod=")


def _on_nodes(nodes: Sequence[str]) -> list[str]:
    quoted = any_of(node.replace(".", r"\.") for node in nodes)
    return [f"{label}=~{quoted}" for label in dcgm.NODE_LABELS] if nodes else []


# ---------------------------------------------------------------------------------------------- many GPUs, one word


def total(values: Iterable[int | None]) -> int | None:
    """A sum. Zero only if all are known to be: what one GPU does not tell may be the error."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and (sum(known) or len(known) == len(found)) else None


def any_true(values: Iterable[bool | None]) -> bool | None:
    """False only if all are known to be."""
    found = list(values)
    if any(value is True for value in found):
        return True
    return False if found and all(value is False for value in found) else None


def missing(looked: Looked, readings: Iterable[str]) -> str | None:
    """Why these readings lack, of any GPU; each reason once."""
    reasons: dict[str, None] = dict.fromkeys(looked.notes if not looked.told or looked.without_agent else ())
    wanted = tuple(readings)
    for one in looked.told:
        if one.gpu.problem:
            reasons[f"{one.where}: {one.gpu.problem}"] = None
            continue
        for reading, why in one.gpu.missing.items():
            if reading in wanted:
                reasons[why if one.source == EXPORTER else f"{reading} of {one.where}: {why}"] = None
    return "; ".join(reasons) or None
