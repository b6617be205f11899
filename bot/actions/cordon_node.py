"""Mark a node unschedulable, so that no new pod lands on it. Running pods stay."""

from collections.abc import Mapping
from typing import Any

from bot.actions import nodes
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.owners import node_holder
from bot.fleet import WorkloadRef
from bot.ports import Controls, Risk, Sources

RISK = Risk.LOW
UNDO = "uncordon_node"
Params = nodes.OutOfService
Words = nodes.Words


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> nodes.OutOfService:
    node = nodes.meant(nodes.worded(Words, with_), aim, sources)
    if not node.schedulable:
        raise ValueError(f"{node.name} is cordoned already")
    return Params(node=node.name)


def describe(params: nodes.OutOfService) -> str:
    return f"Cordon {params.node}: new pods go elsewhere, running pods stay. Undo: uncordon it."


def button(params: nodes.OutOfService) -> str:
    return f"cordon {params.node}"


def preview(params: nodes.OutOfService, sources: Sources, controls: Controls) -> Preview:
    change = controls.cluster.set_schedulable(params.node, before=True, after=False, dry_run=True)
    return Preview(change, {"schedulable": True})


def objections(params: nodes.OutOfService, sources: Sources) -> tuple[str, ...]:
    node = sources.cluster.node(params.node)
    if node is None:
        return (nodes.gone(params.node),)
    found = [node_holder(node), None if node.schedulable else f"{node.name} is cordoned already"]
    return tuple(reason for reason in found if reason is not None)


def execute(params: nodes.OutOfService, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    if nodes.there(params.node, sources).schedulable:
        controls.cluster.set_schedulable(params.node, before=True, after=False)


def took_effect(params: nodes.OutOfService, sources: Sources) -> Effect:
    node = sources.cluster.node(params.node)
    if node is None:
        return Effect(Progress.NO, nodes.gone(params.node))
    if node.schedulable:
        return Effect(Progress.NO, f"{node.name} takes pods: somebody uncordoned it")
    return Effect(Progress.YES, f"{node.name} takes no new pods; those that run there stay")


def undo(params: nodes.OutOfService, before: Mapping[str, Any]) -> nodes.BackInService:
    return nodes.BackInService(node=params.node)


def capacity_change(params: nodes.OutOfService, sources: Sources) -> Mapping[WorkloadRef, CapacityChange]:
    return {}  # nothing that serves is touched


def by_hand(params: nodes.OutOfService) -> str:
    return f"kubectl cordon {params.node}"
