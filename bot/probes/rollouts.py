"""The last rollout of a service's workloads: when it began, and what came before it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bot.fleet import Service, WorkloadRef
from bot.ports import Pod, Revision, Sources
from bot.probes.asking import Later


@dataclass(frozen=True, slots=True)
class Rollout:
    workload: WorkloadRef
    began_at: datetime
    to: Revision | None  # None for kinds without ReplicaSets
    previous: Revision | None
    back: bool  # to a template that had been there before


def last_rollout(sources: Sources, service: Service) -> Rollout | None:
    """The latest of all workloads; None if none can be told from another. Raises SourceError."""
    asked = [Later(_of(sources, ref)) for ref in service.workloads]
    found = [rollout for later in asked if (rollout := later.get()) is not None]
    return max(found, key=lambda rollout: rollout.began_at, default=None)


def _of(sources: Sources, ref: WorkloadRef) -> Callable[[], Rollout | None]:
    def ask() -> Rollout | None:
        pods = Later(lambda: sources.cluster.pods_of(ref))
        revisions = sources.cluster.revisions(ref) if ref.kind == "Deployment" else ()
        if ref.kind == "StatefulSet":
            return _of_pods(ref, pods.get())
        if not revisions:
            return None
        return _of_revisions(ref, revisions, pods.get())

    return ask


def _of_revisions(ref: WorkloadRef, revisions: tuple[Revision, ...], pods: tuple[Pod, ...]) -> Rollout:
    newest, *older = sorted(revisions, key=lambda revision: revision.number, reverse=True)
    # A rollback takes the old ReplicaSet, which keeps the time of its first creation: then its oldest pod tells.
    back = any(revision.created_at > newest.created_at for revision in older)
    own = [pod.created_at for pod in pods if pod.owner == newest.replica_set]
    began = min(own, default=max(r.created_at for r in revisions)) if back else newest.created_at
    return Rollout(ref, began, newest, older[0] if older else None, back)


def _of_pods(ref: WorkloadRef, pods: tuple[Pod, ...]) -> Rollout | None:
    """A StatefulSet's pods carry the hash of their template: the oldest pod of the youngest's hash began it."""
    if not pods:
        return None
    youngest = max(pods, key=lambda pod: pod.created_at)
    hash_ = youngest.labels.get("controller-revision-hash")
    own = [pod.created_at for pod in pods if pod.labels.get("controller-revision-hash") == hash_]
    return Rollout(ref, min(own), None, None, False) if hash_ is not None else None
