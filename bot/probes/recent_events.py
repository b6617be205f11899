"""What has Kubernetes reported of the service lately: its pods, its ReplicaSets, its workloads?

The API server keeps events for an hour, and those of a pod that is gone are not found by its name any more.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.fleet import WorkloadRef
from bot.ports import Event, Pod, SourceError, Sources
from bot.probes.asking import Later
from bot.probes.served import pods_of, service_of
from bot.vllm.redaction import redact
from bot.vllm.stuck import stuck_because

_MISDIRECTED = re.compile(r"Readiness probe failed.*statuscode: 4\d\d")
_MOUNTS = ("FailedMount", "FailedAttachVolume")
_SHOWN = 12
_PODS = 12


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    within_seconds: Annotated[float, Field(gt=0, le=3600)] = 3600


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts are of events, repetitions among them."""

    warnings: int | None = None
    scheduling_failures: int | None = None
    probe_failures: int | None = None  # Unhealthy
    # Readiness probes that get a 4xx: vLLM's /health never says so, neither while it loads nor when it fails.
    readiness_misdirected: int | None = None
    readiness_misdirected_why: str | None = None
    probe_kills: int | None = None  # Killing, for a failed probe
    backoffs: int | None = None  # of a crash loop
    image_pull_failures: int | None = None
    mount_failures: int | None = None
    mounts_failing: int | None = None  # pods on a node that wait for a volume now
    mounts_failing_why: str | None = None
    evictions: int | None = None
    eviction_why: str | None = None  # of the latest
    quota_refusals: int | None = None  # the ReplicaSet could not make its pods
    latest: str | None = None  # the latest warning, in Kubernetes' words
    log_excerpt: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    # Evicted pods stay, as Failed ones, and have the event.
    pods_asked = Later(lambda: pods_of(sources, service, ended=True))
    owners = [Later(_asking(sources, *about)) for ref in service.workloads for about in _owners(sources, ref)]
    pods = sorted(pods_asked.get(), key=lambda pod: pod.created_at, reverse=True)
    asked = [*owners, *(Later(_asking(sources, pod.namespace, "Pod", pod.name)) for pod in pods[:_PODS])]
    found = [event for later in asked for event in later.get() if _lately(event, params, sources)]
    more = f"events of {len(pods) - _PODS} more pods were not asked for" if len(pods) > _PODS else None
    return _told(sorted(found, key=lambda e: e.at.timestamp() if e.at else 0, reverse=True), pods, more)


def _owners(sources: Sources, ref: WorkloadRef) -> Iterable[tuple[str, str, str]]:
    yield ref.namespace, ref.kind, ref.name
    if ref.kind == "Deployment":
        try:
            revisions = sources.cluster.revisions(ref)
        except SourceError:
            return  # asked again for the pods, where it is an error
        for revision in revisions[:2]:
            yield ref.namespace, "ReplicaSet", revision.replica_set


def _asking(sources: Sources, namespace: str, kind: str, name: str) -> Callable[[], tuple[Event, ...]]:
    return lambda: sources.cluster.events(namespace, kind, name)


def _lately(event: Event, params: Params, sources: Sources) -> bool:
    return event.at is None or (sources.now - event.at).total_seconds() <= params.within_seconds


def _waits_for_volume(pod: Pod) -> bool:
    """On a node, and none of its containers has ever been made."""
    states = [c.state for c in (*pod.init_containers, *pod.containers)]
    made = any(state is not None and state.phase != "waiting" for state in states)
    unmade = all(c.last_state is None for c in (*pod.init_containers, *pod.containers))
    return pod.node is not None and pod.phase == "Pending" and not made and unmade and not stuck_because(pod)


def _told(events: list[Event], pods: Sequence[Pod], missing: str | None) -> Reading:
    waiting = {pod.name for pod in pods if _waits_for_volume(pod)}
    mounts = [e for e in events if e.reason in _MOUNTS and e.type == "Warning" and e.name in waiting]
    evicted = [e for e in events if _evicts(e)]
    misdirected = [e for e in events if e.reason == "Unhealthy" and _MISDIRECTED.search(e.message)]

    def count(*reasons: str, words: str = "") -> int:
        return sum(e.count for e in events if e.reason in reasons and words in e.message)

    warnings = [event for event in events if event.type == "Warning"]
    return Reading(
        warnings=sum(e.count for e in warnings),
        scheduling_failures=count("FailedScheduling"),
        probe_failures=count("Unhealthy"),
        readiness_misdirected=sum(e.count for e in misdirected),
        readiness_misdirected_why=_line(misdirected[0]) if misdirected else None,
        probe_kills=count("Killing", words=" probe, will be restarted"),
        backoffs=count("BackOff", words="restarting failed container"),
        image_pull_failures=count("Failed", "ErrImagePull", "InspectFailed", words="image")
        + count("BackOff", words="pulling image"),
        mount_failures=count(*_MOUNTS),
        mounts_failing=len({e.name for e in mounts}),
        mounts_failing_why=_line(mounts[0]) if mounts else None,
        evictions=sum(e.count for e in evicted),
        eviction_why=_line(evicted[0]) if evicted else None,
        quota_refusals=count("FailedCreate"),
        latest=_line(warnings[0]) if warnings else None,
        log_excerpt="\n".join(_line(event) for event in reversed(warnings[:_SHOWN])) or None,
        missing=missing,
    )


def _evicts(event: Event) -> bool:
    if event.reason == "TaintManagerEviction":
        return "Cancelling" not in event.message  # it tells of both under one reason
    return event.reason in ("Evicted", "Preempted")


def _line(event: Event) -> str:
    at = f"{event.at:%H:%M:%S} " if event.at is not None else ""
    times = f" (×{event.count})" if event.count > 1 else ""
    return f"{at}{event.kind} {event.name}: {event.reason}: {redact(' '.join(event.message.split()))[:240]}{times}"
