"""Let a cordoned node take new pods again. Pods that left it stay where they went."""

from collections.abc import Mapping
from typing import Any

from bot.actions import nodes
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.owners import node_holder
from bot.fleet import WorkloadRef
from bot.ports import Controls, Node, Risk, Sources

RISK = Risk.LOW
UNDO = "cordon_node"
Params = nodes.BackInService
Words = nodes.Words


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> nodes.BackInService:
    node = nodes.meant(nodes.worded(Words, with_), aim, sources)
    if node.schedulable:
        raise ValueError(f"{node.name} is not cordoned")
    return Params(node=node.name)


def describe(params: nodes.BackInService) -> str:
    return f"Uncordon {params.node}: it takes new pods again; those that left it stay away. Undo: cordon it."


def button(params: nodes.BackInService) -> str:
    return f"uncordon {params.node}"


def preview(params: nodes.BackInService, sources: Sources, controls: Controls) -> Preview:
    change = controls.cluster.set_schedulable(params.node, before=False, after=True, dry_run=True)
    return Preview(change, {"schedulable": False})


def objections(params: nodes.BackInService, sources: Sources) -> tuple[str, ...]:
    node = sources.cluster.node(params.node)
    if node is None:
        return (nodes.gone(params.node),)
    found = [node_holder(node), f"{node.name} is not cordoned" if node.schedulable else None]
    return tuple(reason for reason in found if reason is not None)


def execute(params: nodes.BackInService, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    if not nodes.there(params.node, sources).schedulable:
        controls.cluster.set_schedulable(params.node, before=False, after=True)


def took_effect(params: nodes.BackInService, sources: Sources) -> Effect:
    node = sources.cluster.node(params.node)
    if node is None:
        return Effect(Progress.NO, nodes.gone(params.node))
    if not node.schedulable:
        return Effect(Progress.NO, f"{node.name} takes no pods: somebody cordoned it again")
    return Effect(Progress.YES, f"{node.name} takes new pods again{_still(node)}")


def _still(node: Node) -> str:
    """What keeps pods away all the same."""
    # Its own taint goes with the cordon, a moment later.
    taints = [t for t in node.taints if not t.startswith("node.kubernetes.io/unschedulable") and ":Prefer" not in t]
    found = ["it is not ready"] if not node.ready else []
    found += [f"only those go there that tolerate {', '.join(taints)}"] if taints else []
    return "".join(f"; {reason}" for reason in found)


def undo(params: nodes.BackInService, before: Mapping[str, Any]) -> nodes.OutOfService:
    return nodes.OutOfService(node=params.node)


def capacity_change(params: nodes.BackInService, sources: Sources) -> Mapping[WorkloadRef, CapacityChange]:
    return {}  # what may come to the node is the scheduler's to say


def by_hand(params: nodes.BackInService) -> str:
    return f"kubectl uncordon {params.node}"
