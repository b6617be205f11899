"""A rolling update's arithmetic: may an old pod go first, is there room for a new one, what is missing meanwhile."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from bot.actions.contract import CapacityChange
from bot.ports import Sources, Workload
from bot.vllm import placement
from bot.vllm.stuck import living


def busy(workload: Workload) -> str | None:
    """Why its pods should not be replaced, or counted, now."""
    name, namespace = workload.ref.name, workload.ref.namespace
    if workload.paused:
        return f"{name} is paused: somebody works on it. kubectl -n {namespace} rollout resume deployment/{name}"
    if workload.observed_generation < workload.generation or workload.updated < workload.desired:
        return (
            f"a rollout of {name} is in progress ({workload.updated} of {workload.desired} replicas updated); "
            f"wait for it, or roll it back"
        )
    return None


def no_room(
    workload: Workload, template: Mapping[str, Any], sources: Sources, *, there: int = 0, serving: int = 0
) -> str | None:
    """A rolling update that may take no old pod away needs room for a new one first, or it stands still for ever.

    there: how many pods of `template` there are already; serving: how many of them are ready
    """
    need = placement.gpus_of(template)
    if need == 0 or workload.desired <= there or _old_pods_that_may_go_first(workload, there - serving, sources) > 0:
        return None
    free = sources.cluster.free_gpus()
    if placement.room(template, sources.cluster.nodes(), free):
        return None
    by_node = ", ".join(f"{node} {count}" for node, count in sorted(free.items()) if count) or "none"
    return (
        f"{workload.ref.name} is replaced with {workload.max_unavailable} unavailable at most, so a new replica must "
        f"start first, and no node has {need} free GPUs for it; free GPUs by node: {by_node}"
    )


def _old_pods_that_may_go_first(workload: Workload, idle: int, sources: Sources) -> int:
    """How many old pods Kubernetes removes before a new one is ready, even those that are not ready themselves: it
    keeps the number of pods at the desired one less maxUnavailable, and does not count new pods that do not serve."""
    if workload.max_unavailable is None:
        return workload.desired  # all are stopped first
    pods = len(living(sources.cluster.pods_of(workload.ref)))
    return max(0, pods - (workload.desired - workload.max_unavailable) - idle)


def capacity_change(workload: Workload, template: Mapping[str, Any], *, there: int = 0) -> CapacityChange:
    replaced = max(0, workload.desired - there)
    if workload.max_surge is None or workload.max_unavailable is None:
        return CapacityChange(workload.desired, workload.ready, lost=workload.ready, replaced=workload.desired)
    at_once = max(1, workload.max_surge + workload.max_unavailable)
    return CapacityChange(
        replicas=workload.desired,
        ready=workload.ready,
        lost=max(0, workload.ready - (workload.desired - workload.max_unavailable)) if replaced else 0,
        replaced=replaced,
        waves=max(1, ceil(replaced / at_once)),
        gpus_needed=min(replaced, workload.max_surge) * placement.gpus_of(template),
    )
