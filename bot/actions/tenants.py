"""Who runs on a node, as a drain sees them: pods that it moves, whose they are, and pods that stay."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bot.fleet import Service, WorkloadRef
from bot.ports import Pod, SourceError, Sources
from bot.vllm.stuck import living


@dataclass(frozen=True, slots=True)
class Tenant:
    pod: Pod
    ref: WorkloadRef | None  # None: of no Deployment and no StatefulSet
    service: Service | None

    @property
    def goes(self) -> bool:
        """It was asked to end, and has not ended yet."""
        return self.pod.deleted_at is not None


@dataclass(frozen=True, slots=True)
class Tenants:
    movable: tuple[Tenant, ...]
    daemons: tuple[Pod, ...]  # their DaemonSet would put them back at once
    static: tuple[Pod, ...]  # only the kubelet ends them

    def by_service(self) -> list[tuple[Service | None, list[Tenant]]]:
        """Those of a service together, whatever their workload; those of none come last."""
        groups: dict[str, tuple[Service | None, list[Tenant]]] = {}
        for tenant in sorted(self.movable, key=lambda t: (t.service is None, t.service.name if t.service else "")):
            name = tenant.service.name if tenant.service else ""
            groups.setdefault(name, (tenant.service, []))[1].append(tenant)
        return list(groups.values())

    def by_workload(self) -> dict[WorkloadRef, list[Tenant]]:
        groups: dict[WorkloadRef, list[Tenant]] = {}
        for tenant in self.movable:
            if tenant.ref is not None:
                groups.setdefault(tenant.ref, []).append(tenant)
        return groups

    @property
    def staying(self) -> str:
        """`4 pods of DaemonSets (dcgm-exporter, node-exporter), 1 static pod`; "" for none."""
        found = []
        if self.daemons:
            names = ", ".join(sorted(Counter(pod.owner or pod.name for pod in self.daemons)))
            found.append(f"{count(len(self.daemons), 'pod')} of DaemonSets ({names})")
        if self.static:
            found.append(count(len(self.static), "static pod"))
        return ", ".join(found)


def tenants_of(node: str, sources: Sources) -> Tenants:
    """Pods that have ended are left out: they hold nothing, and their logs may be what one wants to read."""
    present = [pod for pod in sources.cluster.pods_on_node(node) if pod.phase not in ("Succeeded", "Failed")]
    daemons = tuple(pod for pod in present if pod.owner_kind == "DaemonSet")
    static = tuple(pod for pod in present if pod.is_static)
    rest = [pod for pod in present if pod not in daemons and pod not in static]
    refs = {owner: workload_of(pod, sources) for owner, pod in one_of_each_owner(rest).items()}
    movable = [_tenant(pod, refs[_owner(pod)], sources) for pod in sorted(rest, key=full_name)]
    return Tenants(tuple(movable), daemons, static)


def _tenant(pod: Pod, ref: WorkloadRef | None, sources: Sources) -> Tenant:
    return Tenant(pod, ref, sources.fleet.service_of(ref) if ref else None)


_Owner = tuple[str, str | None, str | None]


def _owner(pod: Pod) -> _Owner:
    return (pod.namespace, pod.owner_kind, pod.owner)


def one_of_each_owner(pods: Iterable[Pod]) -> dict[_Owner, Pod]:
    """Pods of one ReplicaSet have the same workload: it is asked for once."""
    return {_owner(pod): pod for pod in sorted(pods, key=full_name, reverse=True)}


def workload_of(pod: Pod, sources: Sources) -> WorkloadRef | None:
    """None for a pod of a Job, of a controller that the bot does not know, or of nobody."""
    if pod.owner_kind not in ("ReplicaSet", "StatefulSet"):
        return None
    try:
        return sources.cluster.workload_of(pod)
    except SourceError as error:
        if error.retryable:
            raise
        return None


def replicas_of(service: Service, sources: Sources) -> tuple[Pod, ...]:
    """Of all its workloads, without those that go."""
    return tuple(pod for ref in service.workloads for pod in living(sources.cluster.pods_of(ref)))


def spare(service: Service, sources: Sources) -> int:
    """How many ready replicas it has beyond its minimum. Counted by pods: a workload's own count lags behind."""
    ready = sum(1 for pod in replicas_of(service, sources) if pod.ready)
    return ready - service.minimum_ready_replicas


def full_name(pod: Pod) -> str:
    return f"{pod.namespace}/{pod.name}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
