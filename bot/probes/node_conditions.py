"""Are the nodes ready and schedulable, and what do they complain of?"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, model_validator

from bot.ports import Node, Pod, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.naming import first, names
from bot.probes.served import pods_of, service_of
from bot.vllm.stuck import ENDED

# Standing for trouble when true; `Ready` is judged by itself. Others (of node-problem-detector, of GPU health checks)
# are told as they are: which of them is bad when true, their names do not say.
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
# Who else takes nodes out, by the prefix of what it writes on them.
_HOLDERS = {"nvsentinel": "NVSentinel", "medik8s.io": "medik8s", "weave.works/kured": "kured"}
_LATELY = timedelta(hours=1)
_CORDON = "node.kubernetes.io/unschedulable:NoSchedule"


class Params(BaseModel):
    """One node, or all that a service's pods are on."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = None
    service: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Params":
        if (self.node is None) == (self.service is None):
            raise ValueError("give either node or service")
        return self


@dataclass(frozen=True, slots=True)
class Reading:
    nodes: int | None = None
    ready: bool | None = None  # all of them; None: the node controller lost one
    not_ready: int | None = None  # False or Unknown: their kubelet does not report, or says no
    not_ready_node: str | None = None
    not_ready_nodes: str | None = None
    schedulable: bool | None = None  # all of them
    cordoned_nodes: str | None = None
    pressure: str | None = None  # "gpu-07: DiskPressure"; "none"
    under_pressure: int | None = None
    other_conditions: str | None = None  # that are true, of whoever sets some: "GpuUnhealthy on gpu-07"
    taints: str | None = None
    held_by: str | None = None  # another tool that has taken a node out
    gpus: int | None = None  # allocatable
    without_gpus: int | None = None  # nodes that offer none, though pods with GPUs are there
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    if params.node is not None:
        node = sources.cluster.node(params.node)
        if node is None:
            return Reading(missing=f"there is no node {params.node}")
        return _told([node], None)
    service = service_of(sources, params.service or "")
    nodes_asked = Later(sources.cluster.nodes)
    # A node that is lost has its pods deleted after minutes, and nobody is there to end them.
    # One that evicts leaves ended pods behind.
    pods = pods_of(sources, service, leaving=True, ended=True)
    wanted = {pod.node for pod in pods if pod.node is not None and _of_late(pod, sources.now)}
    if not wanted:
        return Reading(missing="its pods are on no node")
    nodes = [node for node in nodes_asked.get() if node.name in wanted]
    gone = names(wanted - {node.name for node in nodes})
    if not nodes:
        raise SourceError("Kubernetes", f"the nodes of its pods are gone: {gone}")
    return _told(nodes, f"nodes that are gone: {gone}" if gone else None)


def _of_late(pod: Pod, now: datetime) -> bool:
    """It is there, or has ended within the hour."""
    if pod.phase not in ENDED:
        return True
    ends = [s.at for c in pod.containers for s in (c.state, c.last_state) if s is not None and s.at is not None]
    return now - max(ends, default=pod.created_at) <= _LATELY


def _told(nodes: list[Node], missing: str | None) -> Reading:
    nodes = sorted(nodes, key=lambda node: node.name)
    not_ready = [node for node in nodes if node.ready is not True]
    cordoned = [node for node in nodes if not node.schedulable]
    pressed = [(node, name) for node in nodes for name in _PRESSURES if node.conditions.get(name)]
    others = [f"{name} on {node.name}" for node in nodes for name in _others(node)]
    return Reading(
        nodes=len(nodes),
        ready=None if any(node.ready is None for node in nodes) else not not_ready,
        not_ready=len(not_ready),
        not_ready_node=first(node.name for node in not_ready),
        not_ready_nodes=names(node.name for node in not_ready),
        schedulable=not cordoned,
        cordoned_nodes=names(node.name for node in cordoned),
        pressure=", ".join(f"{node.name}: {name}" for node, name in pressed) or "none",
        under_pressure=len({node.name for node, _ in pressed}),
        other_conditions=", ".join(others) or None,
        taints=names(taint for node in nodes for taint in node.taints if taint != _CORDON),
        held_by=first(_holders(nodes)),
        gpus=sum(node.gpus for node in nodes),
        without_gpus=sum(node.gpus == 0 for node in nodes),
        missing=missing,
    )


def _others(node: Node) -> Iterable[str]:
    return sorted(name for name, on in node.conditions.items() if on and name not in ("Ready", *_PRESSURES))


def _holders(nodes: Iterable[Node]) -> Iterable[str]:
    for node in nodes:
        written = [*node.labels, *node.annotations, *(taint.partition("=")[0] for taint in node.taints)]
        for word, tool in _HOLDERS.items():
            if any(word in key.lower() for key in written):
                yield tool
