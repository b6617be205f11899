"""A change that somebody might approve, looked at from all sides, before it has a number: the reading half.

Everything that decides about a proposal (making it, reviewing it, approving it, beginning it) looks the same way. A
verdict waits for the look, so its questions are asked side by side, and each of them once.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from bot.actions.contract import Action, CapacityChange, CapacityChanges, Preview
from bot.actions.finder import find
from bot.actions.tenants import one_of_each_owner, workload_of
from bot.fleet import Service, WorkloadRef
from bot.incidents.once import asked_once
from bot.ports import ConflictError, Pod, Risk, SourceError, Sources
from bot.remediation.capacity import ColdStart, blast_radius, cold_start_of, load_per_replica
from bot.remediation.diff import diff
from bot.remediation.guard import Facts, Share, takes_out
from bot.remediation.proposal import DiffLine, Proposal, ProposalState
from bot.remediation.world import World


@dataclass(frozen=True, slots=True)
class Look:
    """What the cluster says about a change now."""

    objections: tuple[str, ...] = ()
    diff: tuple[DiffLine, ...] = ()
    before: Mapping[str, Any] | None = None
    blast_radius: str = ""
    facts: Facts | None = None
    drift: str | None = None  # what it starts from is there no more
    unreadable: str | None = None  # the cluster could not be asked, so nothing may be done
    retryable: bool = False
    cold_start_seconds: float = 0.0
    waves: int = 1

    @property
    def blocked(self) -> tuple[str, ...]:
        """Every reason why it cannot be done now; none, if it can."""
        return tuple(filter(None, (self.unreadable, self.drift))) + self.objections


@dataclass(frozen=True, slots=True)
class Draft:
    action: str
    params: Mapping[str, Any]
    risk: Risk
    description: str
    button: str
    by_hand: str
    why: str
    look: Look
    rule: str | None = None
    undoes: str | None = None
    aborts: str | None = None

    def is_same_as(self, proposal: Proposal) -> bool:
        """The identity of a proposal: action and params."""
        same = (self.action, dict(self.params)) == (proposal.action, dict(proposal.params))
        return same and self.aborts == proposal.aborts


_SIDE_BY_SIDE = 6  # questions to the API server about one workload


def drafted(name: str, params: BaseModel, service: str | None, world: World, sources: Sources, *, why: str) -> Draft:
    action = find(name)
    return Draft(
        action=name,
        params=params.model_dump(mode="json"),
        risk=action.RISK,
        description=action.describe(params),
        button=action.button(params),
        by_hand=action.by_hand(params),
        why=why,
        look=look(action, params, service, world, sources),
    )


def look_again(proposal: Proposal, world: World, now: datetime) -> Look:
    action = find(proposal.action)
    params = action.Params.model_validate(dict(proposal.params))
    return look(action, params, proposal.service, world, world.sources(now))


def look(action: Action, params: BaseModel, service_name: str | None, world: World, sources: Sources) -> Look:
    service = world.fleet.service(service_name) if service_name else None
    once = asked_once(sources)
    try:
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            ask_ahead(_workload(params), once, pool, node=getattr(params, "node", None))
            preview = pool.submit(action.preview, params, once, world.controls)
            seen = _looked(action, params, service, once, world)
    except ConflictError as error:
        return Look(drift=error.why)
    except SourceError as error:
        return Look(unreadable=str(error), retryable=error.retryable)
    return _with_preview(seen, preview)


def ask_ahead(ref: WorkloadRef | None, once: Sources, pool: ThreadPoolExecutor, *, node: str | None = None) -> None:
    """What will be asked about a workload or a node anyway, all at once. `once` remembers answers and errors."""
    cluster = once.cluster

    def quietly(question: Callable[..., object], *args: object) -> None:
        # An answer that comes when nobody waits any more asks nothing further (the pool is closed: RuntimeError).
        with contextlib.suppress(SourceError, RuntimeError):
            question(*args)

    def tenants(name: str) -> None:
        pods = cluster.pods_on_node(name)
        for namespace in {pod.namespace for pod in pods}:
            pool.submit(quietly, cluster.budgets, namespace)
        for pod in one_of_each_owner(pods).values():
            pool.submit(quietly, tenant, pod)

    def tenant(pod: Pod) -> None:
        whose = workload_of(pod, once)
        if whose is not None:
            pool.submit(quietly, cluster.workload, whose)
            pool.submit(quietly, cluster.pods_of, whose)

    if ref is not None:
        for question in (cluster.workload, cluster.pods_of, cluster.autoscaler_of):
            pool.submit(quietly, question, ref)
    if node is not None:
        pool.submit(quietly, tenants, node)
        pool.submit(quietly, cluster.node, node)
    if ref is not None or node is not None:
        for general in (cluster.free_gpus, cluster.nodes):
            pool.submit(quietly, general)


def _looked(action: Action, params: BaseModel, service: Service | None, sources: Sources, world: World) -> Look:
    objections = action.objections(params, sources)
    changes = _by_workload(action.capacity_change(params, sources), _workload(params))
    starts = {ref: cold_start_of(ref, world.fleet.service_of(ref) or service, sources) for ref in changes}
    # The workload that takes longest decides how long it is waited for.
    slowest = max(changes, key=lambda ref: starts[ref].seconds * changes[ref].waves, default=None)
    return Look(
        objections=objections,
        blast_radius=". ".join(_words(ref, changes[ref], starts[ref], params, sources) for ref in changes),
        facts=_facts(params, changes, service, sources, world),
        cold_start_seconds=starts[slowest].seconds if slowest else 0.0,
        waves=changes[slowest].waves if slowest else 1,
    )


def _by_workload(change: CapacityChanges, ref: WorkloadRef | None) -> Mapping[WorkloadRef, CapacityChange]:
    if isinstance(change, CapacityChange):
        return {ref: change} if ref is not None else {}
    return change


def _words(ref: WorkloadRef, change: CapacityChange, start: ColdStart, params: BaseModel, sources: Sources) -> str:
    free: int | None = None
    if change.gpus_needed:
        leaves = takes_out(params.model_dump())  # what is free there is of no use
        free = sum(count for node, count in sources.cluster.free_gpus().items() if node != leaves)
    return blast_radius(ref.name, change, start, free_gpus=free, load=load_per_replica(ref, change, sources))


def _with_preview(seen: Look, asked: Future[Preview]) -> Look:
    try:
        preview = asked.result()
    except ConflictError as error:
        return replace(seen, drift=error.why)
    except SourceError as error:
        # What is objected to (the workload is gone) usually cannot be tried either: the objection says it better.
        return seen if seen.objections else replace(seen, unreadable=str(error), retryable=error.retryable)
    return replace(seen, diff=diff(preview.change), before=preview.before)


def _facts(
    params: BaseModel,
    changes: Mapping[WorkloadRef, CapacityChange],
    service: Service | None,
    sources: Sources,
    world: World,
) -> Facts:
    node = takes_out(params.model_dump())
    out: tuple[str, ...] = ()
    if node is not None:
        machines = sources.cluster.nodes()
        out = tuple(sorted(n.name for n in machines if n.gpus and not (n.schedulable and n.ready)))
    lost: Counter[str | None] = Counter()  # by service
    for ref, change in changes.items():
        owner = world.fleet.service_of(ref) or service
        lost[owner.name if owner else None] += change.lost
    own = service.name if service else None
    return Facts(
        ready=_ready(service.workloads if service else changes, sources),
        minimum_ready=service.minimum_ready_replicas if service else 0,
        lost=lost[own],
        node=node,
        nodes_out=out,
        bot_node=world.bot_node,
        others=tuple(
            Share(other.name, _ready(other.workloads, sources), other.minimum_ready_replicas, lost[other.name])
            for other in world.fleet.services
            if other.name in lost and other.name != own
        ),
    )


def _ready(refs: Iterable[WorkloadRef], sources: Sources) -> int:
    return sum(w.ready for w in (sources.cluster.workload(ref) for ref in refs) if w is not None)


def _workload(params: BaseModel) -> WorkloadRef | None:
    ref = getattr(params, "ref", None)
    return ref if isinstance(ref, WorkloadRef) else None


def as_proposal(
    draft: Draft, incident: int, number: int, service: str | None, now: datetime, expiry_seconds: float
) -> Proposal:
    return Proposal(
        incident=incident,
        number=number,
        action=draft.action,
        params=draft.params,
        risk=draft.risk,
        description=draft.description,
        button=draft.button,
        why=draft.why,
        state=ProposalState.PENDING,
        created_at=now,
        expires_at=now + timedelta(seconds=expiry_seconds),
        service=service,
        rule=draft.rule,
        diff=draft.look.diff,
        before=draft.look.before,
        objections=draft.look.blocked,
        blast_radius=draft.look.blast_radius,
        undoes=draft.undoes,
        aborts=draft.aborts,
    )
