"""What replicas in trouble have in common: a revision that never came up, or one node of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.fleet import Service
from bot.ports import Container, Pod, Revision, SourceError, Sources
from bot.probes.asking import number
from bot.probes.naming import names
from bot.vllm import series
from bot.vllm.crashes import Crash, Ending

_POINTS = 120  # at which it is looked whether a revision's replicas answered
_LOOKS_BACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Troubled:
    """A pod that crashed, or that does not even start: then it has no ending."""

    pod: Pod
    container: Container | None = None
    ending: Ending | None = None


def newest_revisions(sources: Sources, service: Service) -> dict[str, Revision]:
    """Of each Deployment, by its ReplicaSet; empty for other kinds, whose pods do not tell."""
    found = {}
    for ref in service.workloads:
        revisions = sources.cluster.revisions(ref) if ref.kind == "Deployment" else ()
        if len(revisions) > 1:
            newest = max(revisions, key=lambda r: r.number)
            found[newest.replica_set] = newest
    return found


def of_newest_revision(
    revisions: Mapping[str, Revision],
    troubled: Sequence[Troubled],
    pods: Sequence[Pod],
    service: Service,
    sources: Sources,
) -> tuple[bool | None, str | None]:
    """And why it is not known, where that is worth a word."""
    if not revisions or not troubled:
        return None, None
    if any(one.pod.owner not in revisions for one in troubled):
        return False, None
    in_trouble = {one.pod.name for one in troubled}
    well = names(pod.name for pod in pods if pod.owner in revisions and pod.ready and pod.name not in in_trouble)
    if well:
        return None, f"{well} of the same revision is ready, so that it may be something else"
    served = _served(revisions, troubled, service, sources)
    if served is None:
        return None, "whether the newest revision ever served for long is not known, so that it may be something else"
    if served:
        return None, "the newest revision had served for longer than a start takes, so that it may be something else"
    return True, None


def on_one_node(crashed: Sequence[Pod], pods: Sequence[Pod]) -> bool | None:
    """All of them, though the same runs well elsewhere. Replicas of another revision run something else, and say
    nothing about the node: a rollout puts its first pods where GPUs are free."""
    nodes = {pod.node for pod in crashed}
    if not nodes:
        return None
    if len(nodes) > 1 or len({pod.node for pod in pods if pod.node is not None}) <= 1:
        return False
    bad = {pod.name for pod in crashed}
    well = {pod.owner for pod in pods if pod.ready and pod.node not in nodes and pod.name not in bad}
    return True if all(pod.owner in well for pod in crashed) else None


# ---------------------------------------------------------------------------------------------- has it ever served?


def _served(
    revisions: Mapping[str, Revision], troubled: Sequence[Troubled], service: Service, sources: Sources
) -> bool | None:
    """Has one of the revisions' replicas served for longer than its start takes? Only the last life of a container is
    told by its pod; of those before, and of pods that are gone, Prometheus knows."""
    limit = service.cold_start_seconds
    if any(_lived_long(one, limit, sources.now) for one in troubled):
        return True
    begun = min(revision.created_at for revision in revisions.values())
    if (sources.now - begun).total_seconds() <= limit:
        return False
    answered = _answered_seconds(revisions, service, begun, sources)
    if answered is not None:
        return answered > limit
    short = all(_only_short_lives(one, revisions[one.pod.owner or ""], limit, sources.now) for one in troubled)
    return False if short else None


def _lived_long(one: Troubled, limit: float, now: datetime) -> bool:
    if one.pod.ready and one.pod.ready_at is not None and (now - one.pod.ready_at).total_seconds() > limit:
        return True
    # What a startup probe ended had not come up, however long that took.
    if one.ending is None or one.ending.crash is Crash.STARTUP_PROBE:
        return False
    return one.ending.lived_seconds is not None and one.ending.lived_seconds > limit


def _only_short_lives(one: Troubled, revision: Revision, limit: float, now: datetime) -> bool:
    """All its lives are known, and it is of the first pods of its revision: no other served in its place before."""
    if (one.pod.created_at - revision.created_at).total_seconds() > limit:
        return False
    if one.container is None or one.ending is None:
        return all(c.restart_count == 0 and c.last_state is None for c in one.pod.containers)
    known = one.ending.lived_seconds is not None and not _lived_long(one, limit, now)
    return one.container.restart_count <= 1 and known


def _answered_seconds(
    revisions: Mapping[str, Revision], service: Service, begun: datetime, sources: Sources
) -> float | None:
    """The most that one of the revisions' pods has answered Prometheus: vLLM does so only when its model is loaded.
    None: Prometheus does not scrape them, or cannot be asked."""
    patterns = [series.pods_of_replica_set(name) for name in revisions]
    selector = series.pods_matcher({ref.namespace: patterns for ref in service.workloads})
    span = min(sources.now - begun, _LOOKS_BACK).total_seconds()
    step = max(1, round(span / _POINTS))
    up = f"max by (namespace, pod) (up{{{selector}}})"
    try:
        points = number(sources.metrics, f"max(sum_over_time({up}[{round(span)}s:{step}s]))")
    except SourceError:
        return None
    return None if points is None else points * step
