"""Do replicas crash, and how: by which exit code, for want of memory, by a probe's hand, or before they even start?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bot.fleet import Service
from bot.ports import Container, Event, Pod, SourceError, Sources
from bot.probes.asking import Later, number, whole
from bot.probes.in_common import Troubled, newest_revisions, of_newest_revision, on_one_node
from bot.probes.naming import names
from bot.probes.served import pods_of, selector_of, service_of
from bot.vllm import series
from bot.vllm.arguments import serving_container
from bot.vllm.crashes import Crash, Ending, endings

_PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")
_CONFIGURED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_PROBE_KILLED, _OOM_KILLED = "probe_killed", "oom_killed"
_KINDS = {
    _OOM_KILLED: (Crash.OOM_KILLED,),
    "engine_died": (Crash.ENGINE_DIED,),
    _PROBE_KILLED: (Crash.STARTUP_PROBE, Crash.LIVENESS_PROBE),
}
_AGAIN = 2  # endings, each of a short life, that make a loop
_EVENTS_OF = 16  # pods whose events are asked for


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    within_seconds: Annotated[float, Field(gt=0)] = 3600


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the pods that are there now, each with its last ending; exit code 0 counts as a crash. A pod that is being
    deleted is no crash, nor is a container that Kubernetes was asked to end. All of it is about the container that runs
    vLLM, but for `helper…`, which are the others."""

    crashes: int | None = None  # pods that crashed lately
    crashing_now: int | None = None  # in CrashLoopBackOff, or ended, or it ended again and again and runs just now
    restarts: int | None = None  # of all containers, lately; at least so many
    oom_killed: int | None = None
    engine_died: int | None = None  # exit code 0, and Kubernetes did not end it; whether its engine died, the log tells
    bad_arguments: int | None = None  # exit code 2
    killed: int | None = None  # exit code 137, not for memory
    aborted: int | None = None  # exit code 134
    failed: int | None = None  # exit code 1
    segmentation_faults: int | None = None
    startup_probe_kills: int | None = None
    liveness_probe_kills: int | None = None
    image_pulls_failing: int | None = None
    cannot_start: int | None = None  # a Secret, ConfigMap or command that is not there
    init_failing: int | None = None
    helpers_crashing: int | None = None  # pods of which a container beside vLLM's crashes or has ended
    helper: str | None = None  # "log-shipper of chat-x2k: OOMKilled, exit code 137"
    helper_oom_killed: int | None = None  # pods of which a container beside or before vLLM's ran out of host memory
    # Of each of these kinds by itself; the last crash, below, may be of another kind.
    oom_killed_pods: str | None = None
    oom_killed_minutes_ago: float | None = None  # the last of them
    engine_died_pods: str | None = None
    engine_died_minutes_ago: float | None = None
    probe_killed_pods: str | None = None
    probe_killed_minutes_ago: float | None = None
    probe_killed_lived_seconds: float | None = None
    # Of vLLM's container in the pods that crashed: processes that the kernel killed for want of host memory, as
    # cAdvisor counts them; one that was not the first of its container ends it with another reason.
    kernel_kills: int | None = None
    host_memory_pods: str | None = None  # in which the kernel killed it, or a process of it
    pod: str | None = None  # the one that crashed last
    node: str | None = None  # its node
    exit_code: int | None = None
    ended: str | None = None  # "out of host memory"
    minutes_ago: float | None = None
    lived_seconds: float | None = None
    crashed_pods: str | None = None
    waiting: str | None = None  # what keeps others from starting
    # All that crashed, or cannot start, are of the newest revision. Not known where others of that revision are ready,
    # or where one has served for longer than a start takes: what then ended it may be anything.
    newest_revision_only: bool | None = None
    # All that crashed are on one node, and replicas of the same revision are well on others. Not known without those.
    one_node_only: bool | None = None
    startup_budget_seconds: float | None = None  # until the probes give a start up
    startup_probe: bool | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    pod: Pod
    container: Container
    ending: Ending | None  # within the time asked for
    crashing: bool  # now


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    budget = Later(lambda: _budget(sources, service))
    counted = Later(lambda: _counted(sources, service, params.within_seconds))
    newest = Later(lambda: newest_revisions(sources, service))
    pods = pods_of(sources, service)
    if not pods:
        return Reading(missing="it has no pods")
    events, events_missing = _events(sources, pods)
    each = (_seen(pod, events.get(pod.name, ()), sources, params.within_seconds) for pod in pods)
    seen = [one for one in each if one is not None]
    counts = _counts(seen, params.within_seconds, killers_known=events_missing is None)
    budget_seconds, has_probe = _or_none(budget) or (None, None)
    helpers = [one for pod in pods if (one := _helper(pod, sources, params.within_seconds)) is not None]
    troubled = _troubled(pods, seen)
    shared, unsure = of_newest_revision(_or_none(newest) or {}, troubled, pods, service, sources)
    return Reading(
        **counts,
        **_last(seen, sources.now),
        **_kernel_kills(sources, seen, params.within_seconds),
        **_by_kind(seen, sources.now, killers_known=events_missing is None),
        restarts=max(round(_or_none(counted) or 0), counts["crashes"]),
        image_pulls_failing=sum(_waits(pod, _PULLING) is not None for pod in pods),
        cannot_start=sum(_waits(pod, _CONFIGURED) is not None for pod in pods),
        init_failing=sum(_init_fails(pod) is not None for pod in pods),
        helpers_crashing=sum(one.crashes for one in helpers),
        helper=next((one.words for one in helpers if one.crashes), None) or next((h.words for h in helpers), None),
        helper_oom_killed=sum(one.oom_killed for one in helpers),
        waiting=_waiting(pods),
        newest_revision_only=shared,
        one_node_only=on_one_node([one.pod for one in troubled if one.ending is not None], pods),
        startup_budget_seconds=budget_seconds,
        startup_probe=has_probe,
        missing="; ".join(filter(None, (events_missing, unsure))) or None,
    )


def _or_none(later: "Later[Any]") -> Any:
    """What only rounds off the answer may be missing."""
    try:
        return later.get()
    except SourceError:
        return None


# ---------------------------------------------------------------------------------------------- the pods


def _events(sources: Sources, pods: Sequence[Pod]) -> tuple[dict[str, tuple[Event, ...]], str | None]:
    """Of pods that have ended once: the kubelet's events tell who killed them."""
    wanted = [pod for pod in pods if any(c.restart_count or c.last_state for c in pod.containers)][:_EVENTS_OF]
    asked = [(pod.name, Later(_asking(sources, pod))) for pod in wanted]
    try:
        return {name: later.get() for name, later in asked}, None
    except SourceError as error:
        return {}, f"whether probes killed them is not known: {error}"


def _asking(sources: Sources, pod: Pod) -> Callable[[], tuple[Event, ...]]:
    return lambda: sources.cluster.events(pod.namespace, "Pod", pod.name)


def _seen(pod: Pod, events: Sequence[Event], sources: Sources, within_seconds: float) -> _Seen | None:
    container = serving_container(pod.containers)
    if container is None:
        return None
    ended = endings(container, events)
    lately = [
        ending
        for ending in ended
        if ending.crash is not Crash.STOPPED
        and (ending.state.at is None or (sources.now - ending.state.at).total_seconds() <= within_seconds)
    ]
    stopped = any(ending.crash is Crash.STOPPED and ending.state is container.state for ending in ended)
    return _Seen(pod, container, lately[0] if lately else None, _crashing(container) and not stopped)


def _counts(seen: Sequence[_Seen], within_seconds: float, *, killers_known: bool) -> dict[str, Any]:
    """Without the kubelet's events a probe's kill looks like a death of its own."""
    crashed = [s.ending.crash for s in seen if s.ending is not None and s.ending.crash is not Crash.NODE_LOST]
    known: dict[str, Any] = {
        "crashes": len(crashed),
        "crashing_now": sum(s.crashing or _again(s, within_seconds) for s in seen),
        "oom_killed": crashed.count(Crash.OOM_KILLED),
        "engine_died": crashed.count(Crash.ENGINE_DIED),
        "bad_arguments": crashed.count(Crash.BAD_ARGUMENTS),
        "killed": crashed.count(Crash.KILLED),
        "aborted": crashed.count(Crash.ABORTED),
        "failed": crashed.count(Crash.FAILED),
        "segmentation_faults": crashed.count(Crash.SEGMENTATION_FAULT),
        "startup_probe_kills": crashed.count(Crash.STARTUP_PROBE),
        "liveness_probe_kills": crashed.count(Crash.LIVENESS_PROBE),
    }
    unsure = () if killers_known else ("engine_died", "killed", "startup_probe_kills", "liveness_probe_kills")
    return {**known, **dict.fromkeys(unsure)}


def _crashing(container: Container) -> bool:
    state = container.state
    return state is not None and (state.phase == "terminated" or state.reason == "CrashLoopBackOff")


def _again(seen: _Seen, within_seconds: float) -> bool:
    """It runs, and has ended more than once within the time: its lives are short, and counted."""
    lived = seen.ending.lived_seconds if seen.ending is not None else None
    return seen.container.restart_count >= _AGAIN and lived is not None and lived * _AGAIN <= within_seconds


def _last(seen: Sequence[_Seen], now: datetime) -> dict[str, Any]:
    crashed = [(s.pod, s.ending) for s in seen if s.ending is not None]
    if not crashed:
        return {}
    pod, ending = max(crashed, key=lambda one: one[1].state.at or one[0].created_at)
    return {
        "pod": pod.name,
        "node": pod.node,
        "exit_code": ending.state.exit_code,
        "ended": ending.crash.value,
        "minutes_ago": _minutes_ago([ending], now),
        "lived_seconds": ending.lived_seconds,
        "crashed_pods": names(pod.name for pod, _ in crashed),
    }


def _by_kind(seen: Sequence[_Seen], now: datetime, *, killers_known: bool) -> dict[str, Any]:
    """Whose it was, and when: one replica may run out of memory while another cannot load its model."""
    told: dict[str, Any] = {}
    for kind, crashes in _KINDS.items():
        if kind != _OOM_KILLED and not killers_known:
            continue
        mine = [(s.pod.name, s.ending) for s in seen if s.ending is not None and s.ending.crash in crashes]
        told[f"{kind}_pods"] = names(pod for pod, _ in mine)
        told[f"{kind}_minutes_ago"] = _minutes_ago([ending for _, ending in mine], now)
        if kind == _PROBE_KILLED:
            lives = [ending.lived_seconds for _, ending in mine if ending.lived_seconds is not None]
            told[f"{kind}_lived_seconds"] = max(lives, default=None)
    return told


def _minutes_ago(endings: Sequence[Ending], now: datetime) -> float | None:
    """Since the last of them."""
    times = [ending.state.at for ending in endings if ending.state.at is not None]
    return (now - max(times)).total_seconds() / 60 if times else None


def _waits(pod: Pod, reasons: Sequence[str]) -> str | None:
    for container in (*pod.init_containers, *pod.containers):
        state = container.state
        if state is not None and state.phase == "waiting" and state.reason in reasons:
            return f"{pod.name}: {state.reason}" + (f": {state.message}" if state.message else "")
    return None


def _init_fails(pod: Pod) -> str | None:
    for container in pod.init_containers:
        if _crashing(container) and not _ended_well(container):
            ended = _ended(container)
            return f"{pod.name}: its init container {container.name} fails" + (f" ({ended})" if ended else "")
    return None


def _ended(container: Container) -> str:
    """How it ended the last time: "OOMKilled, exit code 137"."""
    told = [s for s in (container.state, container.last_state) if s is not None and s.phase == "terminated"]
    words = (
        [told[0].reason or "", f"exit code {told[0].exit_code}" if told[0].exit_code is not None else ""]
        if told
        else []
    )
    return ", ".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class _Helper:
    words: str
    crashes: bool  # else it only once did
    oom_killed: bool


def _helper(pod: Pod, sources: Sources, within_seconds: float) -> _Helper | None:
    """The first of the pod's other containers that crashes, or ran out of memory lately."""
    serving = serving_container(pod.containers)
    beside = [c for c in pod.containers if c is not serving]
    for container in (*beside, *pod.init_containers):
        lately = [
            ending
            for ending in endings(container, ())
            if ending.state.at is None or (sources.now - ending.state.at).total_seconds() <= within_seconds
        ]
        crashes = container in beside and _crashing(container)
        oom_killed = any(ending.crash is Crash.OOM_KILLED for ending in lately)
        if crashes or oom_killed:
            return _Helper(f"{container.name} of {pod.name}: {_ended(container) or 'it waits'}", crashes, oom_killed)
    return None


def _ended_well(container: Container) -> bool:
    return container.state is not None and container.state.phase == "terminated" and container.state.exit_code == 0


def _waiting(pods: Sequence[Pod]) -> str | None:
    found = [_waits(pod, (*_PULLING, *_CONFIGURED)) or _init_fails(pod) for pod in pods]
    told = sorted(text for text in found if text is not None)
    return None if not told else told[0] + (f" (and {len(told) - 1} more)" if len(told) > 1 else "")


def _troubled(pods: Sequence[Pod], seen: Sequence[_Seen]) -> list[Troubled]:
    crashed = {s.pod.name: Troubled(s.pod, s.container, s.ending) for s in seen if s.ending is not None}
    stuck = [pod for pod in pods if _waits(pod, (*_PULLING, *_CONFIGURED)) or _init_fails(pod)]
    return [*(Troubled(pod) for pod in stuck if pod.name not in crashed), *crashed.values()]


# ---------------------------------------------------------------------------------------------- numbers around it


def _counted(sources: Sources, service: Service, within_seconds: float) -> float | None:
    """As kube-state-metrics counts them, if Prometheus has it: pods that are gone by now, too."""
    selector = selector_of(sources, service)
    # Without honorLabels Prometheus keeps `pod` for the exporter's own.
    claimed = selector.replace("namespace=", "exported_namespace=").replace("pod=", "exported_pod=")
    metric, span = "kube_pod_container_status_restarts_total", f"{round(within_seconds)}s"
    either = " or ".join(f"increase({metric}{{{s}}}[{span}])" for s in (selector, claimed))
    return number(sources.metrics, f"sum({either})")


def _kernel_kills(sources: Sources, seen: Sequence[_Seen], within_seconds: float) -> dict[str, Any]:
    """A container beside vLLM's that ran out of its own memory says nothing about why vLLM ended."""
    crashed = [s for s in seen if s.ending is not None]
    killed = {s.pod.name for s in crashed if s.ending is not None and s.ending.crash is Crash.OOM_KILLED}
    if not crashed:
        return {}
    patterns: dict[str, list[str]] = {}
    for one in crashed:
        patterns.setdefault(one.pod.namespace, []).append(one.pod.name.replace(".", r"\."))
    containers = series.any_of(sorted({s.container.name for s in crashed}))
    counter = f"container_oom_events_total{{{series.pods_matcher(patterns)},container=~{containers}}}"
    try:
        asked = f"sum by (namespace, pod) (increase({counter}[{round(within_seconds)}s]))"
        samples = whole(sources.metrics, asked).samples
    except SourceError:
        samples = ()
    counts = {s.labels.get("pod", ""): round(s.value) for s in samples}
    return {
        "kernel_kills": sum(counts.values()) if counts else None,
        "host_memory_pods": names(killed | {pod for pod, count in counts.items() if count}),
    }


def _budget(sources: Sources, service: Service) -> tuple[float | None, bool] | None:
    """How long the first workload's probes let a container start, and whether it has a startup probe at all."""
    workload = sources.cluster.workload(service.workloads[0])
    if workload is None:
        return None
    containers = [c for c in workload.template.get("spec", {}).get("containers", []) if "vllm" in str(c)]
    spec = containers[0] if containers else {}
    startup = spec.get("startupProbe")
    return _until_killed(startup or spec.get("livenessProbe")), startup is not None


def _until_killed(probe: Mapping[str, Any] | None) -> float | None:
    if probe is None:
        return None
    period, failures = probe.get("periodSeconds") or 10, probe.get("failureThreshold") or 3
    return float((probe.get("initialDelaySeconds") or 0) + period * failures)
