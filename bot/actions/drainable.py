"""What speaks against emptying a node: pods that would be lost, budgets that never let go, no GPUs elsewhere."""

from collections.abc import Sequence

from bot.actions.tenants import Tenants, count, full_name
from bot.ports import Budget, Node, Pod, Sources, Workload
from bot.vllm import placement
from bot.vllm.stuck import living


def kubelet_silent(node: Node, found: Tenants) -> list[str]:
    if node.ready or not found.movable:
        return []
    return [
        f"{node.name} is not ready: its kubelet ends no pod, so evicted ones stay Terminating. Where the machine is "
        f"off for sure: kubectl taint node {node.name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
    ]


def left_alone(found: Tenants, *, force: bool, delete_emptydir_data: bool) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for tenant in found.movable:
        if reason := obstacle(tenant.pod, force=force, delete_emptydir_data=delete_emptydir_data):
            reasons.setdefault(reason, []).append(full_name(tenant.pod))
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def obstacle(pod: Pod, *, force: bool, delete_emptydir_data: bool) -> str | None:
    """Why a drain leaves this pod alone unless it is told otherwise."""
    if pod.owner is None and not force:
        return "nobody controls it, so evicted it is gone for good; say force=true if that is meant"
    if pod.emptydirs and not delete_emptydir_data:
        volumes = ", ".join(pod.emptydirs)
        return f"it keeps data on the node's disk (emptyDir {volumes}); say delete_emptydir_data=true to lose it"
    return None


def budgets_that_never_let_go(found: Tenants, sources: Sources) -> list[str]:
    """Whatever is waited for. One that only refuses now is no reason: a drain waits for it."""
    known = {ns: sources.cluster.budgets(ns) for ns in sorted({t.pod.namespace for t in found.movable})}
    reasons = []
    for pod in (tenant.pod for tenant in found.movable):
        mine = [budget for budget in known[pod.namespace] if budget.selects(pod)]
        if len(mine) > 1:
            names = ", ".join(budget.name for budget in mine)
            reasons.append(f"{full_name(pod)} has several disruption budgets ({names}): it cannot be evicted at all")
        elif mine and _never_lets_go(mine[0], pod):
            reasons.append(
                f"disruption budget {mine[0].name} wants {mine[0].needed} of {mine[0].expected} pods healthy, so it "
                f"lets none go: scale up by one first, or relax the budget"
            )
    return list(dict.fromkeys(reasons))


def _never_lets_go(budget: Budget, pod: Pod) -> bool:
    return budget.needed >= budget.expected and not (budget.unready_may_go and not pod.ready)


def no_room(node: Node, found: Tenants, sources: Sources) -> list[str]:
    """Of those that serve: an unready replica that stays Pending is no loss."""
    free = {name: gpus for name, gpus in sources.cluster.free_gpus().items() if name != node.name}
    there = ", ".join(f"{name} {gpus}" for name, gpus in sorted(free.items()) if gpus) or "none"
    others = [machine for machine in sources.cluster.nodes() if machine.name != node.name]
    reasons = []
    for workload, serving in _wanted(found, sources):
        need, placed = placement.gpus_of(workload.template), _placed(workload, serving, others, free, sources)
        if placed < serving:
            reasons.append(
                f"no free GPUs elsewhere for {serving - placed} of the {count(serving, 'replica')} of "
                f"{workload.ref.name} that serve here: each needs {need} on one node that it may run on; free GPUs "
                f"elsewhere: {there}"
            )
    return reasons


def _wanted(found: Tenants, sources: Sources) -> list[tuple[Workload, int]]:
    """Workloads with GPUs and how many of their replicas serve here; those that need most come first."""
    wanted = []
    for ref, tenants in found.by_workload().items():
        serving = sum(1 for tenant in tenants if tenant.pod.ready and not tenant.goes)
        workload = sources.cluster.workload(ref)
        if workload is not None and placement.gpus_of(workload.template):
            wanted.append((workload, serving))
    return sorted(wanted, key=lambda one: -placement.gpus_of(one[0].template))


def _placed(workload: Workload, wanted: int, others: Sequence[Node], free: dict[str, int], sources: Sources) -> int:
    """How many find room; what they take is taken from `free`."""
    hosts = {pod.node for pod in living(sources.cluster.pods_of(workload.ref)) if pod.node}
    for placed in range(wanted):
        fits = placement.room(workload.template, others, free, hosts=hosts)
        if not fits:
            return placed
        tightest = min(fits, key=lambda name: (free[name], name))
        free[tightest] -= placement.gpus_of(workload.template)
        hosts.add(tightest)
    return wanted
