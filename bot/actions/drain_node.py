"""Empty a node: cordon it, then evict its pods, in short rounds until they are gone.

Never a delete: disruption budgets are honoured, and what they refuse is asked again. Of a service one replica goes a
round, and none while the service would fall below its minimum of ready ones. A round looks first, so one that is
repeated after a crash evicts nobody twice. Whoever uncordons the node meanwhile calls the drain off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from bot.actions import drainable, nodes
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.actions.owners import node_holder
from bot.actions.tenants import Tenant, Tenants, count, full_name, replicas_of, spare, tenants_of
from bot.fleet import Service, WorkloadRef
from bot.ports import Change, Controls, Node, Pod, Risk, SourceError, Sources
from bot.vllm import placement
from bot.vllm.stuck import first_stuck, living

RISK = Risk.HIGH
UNDO = "uncordon_node"
_OVERDUE_SECONDS = 30  # after the end of its grace period


class Params(nodes.OutOfService):
    """The two words mean what they mean to `kubectl drain`."""

    force: bool = False  # evict pods that nobody controls, too: they are gone for good
    delete_emptydir_data: bool = False  # evict pods that keep data on the node's disk, too


class Words(nodes.Words):
    force: bool = False
    delete_emptydir_data: bool = False


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Params:
    words = nodes.worded(Words, with_)
    node = nodes.meant(words, aim, sources)
    if _is_drained(node, tenants_of(node.name, sources)):
        raise ValueError(f"{node.name} is cordoned and empty already")
    return Params(node=node.name, force=words.force, delete_emptydir_data=words.delete_emptydir_data)


def _is_drained(node: Node, found: Tenants) -> bool:
    return not node.schedulable and not found.movable


def describe(params: Params) -> str:
    even = ["those that nobody controls"] if params.force else []
    even += ["those that keep data on its disk"] if params.delete_emptydir_data else []
    also = f", even {' and '.join(even)}" if even else ""
    return (
        f"Drain {params.node}: cordon it, then evict its pods as their disruption budgets allow{also}. "
        f"Undo: uncordon it, if it took pods before; pods that left stay where they went."
    )


def button(params: Params) -> str:
    return f"drain {params.node}"


def preview(params: Params, sources: Sources, controls: Controls) -> Preview:
    node, found = nodes.there(params.node, sources), tenants_of(params.node, sources)
    change = controls.cluster.set_schedulable(node.name, before=node.schedulable, after=False, dry_run=True)
    # What a budget refuses now is waited for; that the bot may not evict at all is said before anybody approves.
    for one in {tenant.pod.namespace: tenant.pod for tenant in found.movable}.values():
        controls.cluster.evict(one.namespace, one.name, uid=one.uid, dry_run=True)
    now = {full_name(t.pod): _what(t) for t in found.movable}
    then: dict[str, Any] = {
        "pods": dict.fromkeys(now, "evicted"),
        **({"left in place": found.staying} if found.staying else {}),
    }
    before = {
        "schedulable": node.schedulable,
        "pods": {t.pod.uid: full_name(t.pod) for t in found.movable},
        "services": sorted({t.service.name for t in found.movable if t.service}),
    }
    return Preview(Change({**change.before, "pods": now}, {**change.after, **then}), before)


def _what(tenant: Tenant) -> str:
    pod = tenant.pod
    whose = tenant.ref.name if tenant.ref else f"{pod.owner_kind} {pod.owner}" if pod.owner else "nobody"
    gpus = [count(pod.gpus, "GPU")] if pod.gpus else []
    return ", ".join(["ready" if pod.ready else "not ready", *gpus, f"of {whose}"])


def objections(params: Params, sources: Sources) -> tuple[str, ...]:
    """That each service keeps its minimum of ready replicas, and that one GPU node is out at a time, is the guard's."""
    node = sources.cluster.node(params.node)
    if node is None:
        return (nodes.gone(params.node),)
    found = tenants_of(node.name, sources)
    if _is_drained(node, found):
        return (f"{node.name} is cordoned and empty already",)
    holder = node_holder(node)
    return (
        *([holder] if holder else []),
        *drainable.kubelet_silent(node, found),
        *drainable.left_alone(found, force=params.force, delete_emptydir_data=params.delete_emptydir_data),
        *drainable.budgets_that_never_let_go(found, sources),
        *drainable.no_room(node, found, sources),
    )


# ---------------------------------------------------------------------------------------------- doing it


def execute(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    if nodes.there(params.node, sources).schedulable:
        controls.cluster.set_schedulable(params.node, before=True, after=False)


def advance(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> Effect:
    """One round of evictions."""
    effect, found = _look(params, before, sources)
    if effect.progress is not Progress.NOT_YET:
        return effect
    rounds = [_round(service, group, params, sources, controls) for service, group in found.by_service()]
    if any(one.evicted for one in rounds):
        effect, _ = _look(params, before, sources)
    waiting = [words for one in rounds for words in one.waiting]
    if not waiting or effect.progress is not Progress.NOT_YET:
        return effect
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    progress = Progress.PARTLY if any(one.stuck for one in rounds) else Progress.NOT_YET
    return Effect(progress, f"{effect.detail}; {waiting[0]}{more}")


@dataclass(frozen=True, slots=True)
class _Round:
    """Of one service, or of all pods that belong to none."""

    evicted: bool
    waiting: tuple[str, ...]  # who, and why
    stuck: bool  # what is waited for cannot come by itself


def _round(
    service: Service | None, group: Sequence[Tenant], params: Params, sources: Sources, controls: Controls
) -> _Round:
    evicted, waiting, stuck = False, [], False
    for tenant in sorted((t for t in group if not t.goes), key=lambda t: (t.pod.ready, t.pod.name)):
        if evicted and service is not None:
            break  # the next one in the next round, if there are enough others then
        pod = tenant.pod
        told = drainable.obstacle(pod, force=params.force, delete_emptydir_data=params.delete_emptydir_data)
        reason = told or _too_few(service, pod, sources) or _refusal(pod, controls)
        if reason is None:
            evicted = True
            continue
        why = None if told else _missing(tenant, sources)
        waiting.append(f"{pod.name} waits: {reason}" + (f"; {why}" if why else ""))
        stuck = stuck or why is not None
    return _Round(evicted, tuple(waiting), stuck)


def _too_few(service: Service | None, pod: Pod, sources: Sources) -> str | None:
    if service is None or not pod.ready or (over := spare(service, sources)) > 0:
        return None
    keeps = service.minimum_ready_replicas
    starting = sorted(p.name for p in replicas_of(service, sources) if not p.ready)
    words = f"{service.name} has {over + keeps} ready and keeps {keeps} (minimum_ready_replicas)"
    return words + (f"; starting: {', '.join(starting)}" if starting else "")


def _refusal(pod: Pod, controls: Controls) -> str | None:
    try:
        return controls.cluster.evict(pod.namespace, pod.name, uid=pod.uid)
    except SourceError as error:
        if error.retryable:
            raise
        return str(error)  # about this pod alone: the others go on


def _missing(tenant: Tenant, sources: Sources) -> str | None:
    """Why a replica that would let this one go does not come up."""
    if tenant.service is not None:
        return first_stuck(replicas_of(tenant.service, sources))
    return first_stuck(living(sources.cluster.pods_of(tenant.ref))) if tenant.ref is not None else None


# ---------------------------------------------------------------------------------------------- how far it is


def took_effect(params: Params, sources: Sources) -> Effect:
    effect, _ = _look(params, {}, sources)
    return effect


def _look(params: Params, before: Mapping[str, Any], sources: Sources) -> tuple[Effect, Tenants]:
    node, found = sources.cluster.node(params.node), tenants_of(params.node, sources)
    if node is None:
        return Effect(Progress.NO, nodes.gone(params.node)), found
    here = {tenant.pod.uid for tenant in found.movable}
    total = len(here | set(before.get("pods", {})))
    far = f"{total - len(here)} of {count(total, 'pod')} gone"
    if node.schedulable:
        called_off = f"{node.name} takes pods: somebody uncordoned it, which calls the drain off"
        return Effect(Progress.NO, f"{called_off}; {far}"), found
    if here:
        return Effect(Progress.NOT_YET, f"{far}{_going(found, sources)}"), found
    parts = [f"{node.name} is empty" + (f": {far}" if total else "")]
    parts += [f"left in place: {found.staying}"] if found.staying else []
    parts += [words for name in before.get("services", ()) if (words := _replaced(name, sources))]
    return Effect(Progress.YES, "; ".join(parts)), found


def _going(found: Tenants, sources: Sources) -> str:
    going = [tenant.pod for tenant in found.movable if tenant.goes]
    late = [p.name for p in going if p.deleted_at and (sources.now - p.deleted_at).total_seconds() > _OVERDUE_SECONDS]
    words = f"; {count(len(going), 'pod')} on the way out" if going else ""
    return words + (f"; {', '.join(late)} should have ended by now: does the kubelet answer?" if late else "")


def _replaced(name: str, sources: Sources) -> str:
    """What a service still lacks; "" if nothing."""
    service = sources.fleet.service(name)
    replicas = replicas_of(service, sources) if service else ()
    ready = sum(1 for pod in replicas if pod.ready)
    if ready == len(replicas):
        return ""
    stuck = first_stuck(replicas)
    return f"{ready} of {count(len(replicas), 'replica')} of {name} ready" + (f"; {stuck}" if stuck else "")


def undo(params: Params, before: Mapping[str, Any]) -> nodes.BackInService | None:
    return nodes.BackInService(node=params.node) if before.get("schedulable") else None


# ---------------------------------------------------------------------------------------------- what it costs


def capacity_change(params: Params, sources: Sources) -> Mapping[WorkloadRef, CapacityChange]:
    """Of what serves models: workloads of the fleet, and others with GPUs."""
    changes: dict[WorkloadRef, CapacityChange] = {}
    spared: dict[str, int] = {}  # by service: ready replicas that may still be missing at the same time
    for ref, tenants in tenants_of(params.node, sources).by_workload().items():
        leaving = [tenant for tenant in tenants if not tenant.goes]
        workload, service = sources.cluster.workload(ref), tenants[0].service
        if workload is None or not leaving or not (service or leaving[0].pod.gpus):
            continue
        ready = sum(1 for tenant in leaving if tenant.pod.ready)
        at_once = ready
        if service is not None:
            # With none to spare the first one would already be too many: that is the guard's to say.
            at_once = spared.setdefault(service.name, max(1, spare(service, sources)))
            spared[service.name] = max(0, at_once - ready)
        changes[ref] = CapacityChange(
            replicas=workload.desired,
            ready=workload.ready,
            lost=min(ready, at_once),
            replaced=len(leaving),
            waves=max(1, ceil(ready / max(1, at_once))),
            gpus_needed=len(leaving) * placement.gpus_of(workload.template),
        )
    return changes


def by_hand(params: Params) -> str:
    flags = " --force" if params.force else ""
    flags += " --delete-emptydir-data" if params.delete_emptydir_data else ""
    return f"kubectl drain {params.node} --ignore-daemonsets{flags} --timeout=15m"
