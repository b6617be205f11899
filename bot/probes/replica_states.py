"""In which state is each replica of a service: from its progress counters where it exports them, else from its pod,
from `up`, and from whether anybody answers at its address.

A replica that cannot be seen is unclear, and never idle or dead: for "dead" two who look from different places agree,
and no kubelet, which asks from beside it, says otherwise.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from bot.fleet import Service
from bot.ports import ContainerState, SourceError, Sources
from bot.probes.asking import Later, whole
from bot.probes.served import ServingPod, selector_of, serving_pods
from bot.vllm import series
from bot.vllm.progress import EngineKey, EngineProgress, EngineState, Scrape, judged, range_queries, scrapes_of

_POINTS = 60  # of a range query over the window
# How far back it is looked whether this run of a container ever served: in windows, at so many points a window. With
# windows of 5 minutes that is an hour closely, and a day roughly.
_LOOKS_BACK = ((12, 10), (288, 1))

Key = tuple[str, str]  # namespace, pod


class ReplicaState(enum.Enum):
    HUNG = "hung"
    ASLEEP = "asleep"
    DEAD = "dead"  # its container runs, and nobody answers in it any more
    CRASHED = "crashed"  # its container has ended, and waits to be started again
    LOADING = "loading"
    PENDING = "pending"  # no node, no image, no volume yet
    SATURATED = "saturated"
    WORKING = "working"
    IDLE = "idle"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Replica:
    """since: when the container started, for one that loads; the last sign of life, for one that is dead."""

    namespace: str
    name: str
    state: ReplicaState
    running: int = 0
    waiting: int = 0
    still_seconds: float = 0
    since: datetime | None = None
    why: str | None = None
    unseen: bool = False  # it answers, and Prometheus has no metrics of its engine


@dataclass(frozen=True, slots=True)
class Replicas:
    """missing: a source that did not answer, so that there may be replicas that are not among `all`."""

    all: tuple[Replica, ...]
    missing: str | None = None


def replica_states(sources: Sources, service: Service, limit_seconds: float) -> Replicas:
    """With work and without a step for `limit_seconds`, a replica hangs. Raises SourceError without Prometheus."""
    pods_asked = Later(lambda: serving_pods(sources, service))
    selector = selector_of(sources, service)
    seen = _Seen(sources, selector, limit_seconds)
    try:
        pods, missing = pods_asked.get(), None
    except SourceError as error:
        pods, missing = (), f"which replicas there should be is not known: {error}"
    engines = seen.engines({_key(pod): pod for pod in pods})
    answers = {_key(pod): Later(_health(sources, pod)) for pod in pods}
    still = [pod for pod in pods if _may_be_paused(pod, engines.get(_key(pod)))]
    paused = {_key(pod): Later(_paused(sources, pod)) for pod in still}
    engines = {key: _unless_paused(e, paused.get(key), answers.get(key)) for key, e in engines.items()}
    found = {_key(pod): _of_pod(pod, engines.get(_key(pod)), answers[_key(pod)], seen) for pod in pods}
    # Without the API server, what reports is all that is known.
    others = {key: _of_engine(key, engine) for key, engine in engines.items() if key not in found and missing}
    return Replicas(tuple(r for _, r in sorted((found | others).items())), missing)


def _key(pod: ServingPod) -> Key:
    return pod.pod.namespace, pod.pod.name


def _health(sources: Sources, pod: ServingPod) -> Callable[[], int | str | None]:
    """The status; None: nobody answers; words: it could not be asked."""

    def ask() -> int | str | None:
        if pod.address is None:
            return "it has no address"
        try:
            return sources.engines.health(pod.address)
        except SourceError as error:
            return str(error)

    return ask


def _may_be_paused(pod: ServingPod, engine: EngineProgress | None) -> bool:
    """One that has work and makes no step; or has none, and could be."""
    if engine is None:
        return False
    return engine.state is EngineState.HUNG or (engine.state is EngineState.IDLE and _in_development_mode(pod))


def _in_development_mode(pod: ServingPod) -> bool:
    return pod.container.env.get("VLLM_SERVER_DEV_MODE", "0") != "0"


def _paused(sources: Sources, pod: ServingPod) -> Callable[[], bool | None]:
    """None: it could not be asked, and may be. Only a server in development mode can be paused."""

    def ask() -> bool | None:
        try:
            found = sources.engines.paused(pod.address) if pod.address is not None else None
        except SourceError:
            found = None
        return False if found is None and not _in_development_mode(pod) else found

    return ask


def _unless_paused(
    engine: EngineProgress, paused: Later[bool | None] | None, health: Later[int | str | None] | None
) -> EngineProgress:
    found = False if paused is None else paused.get()
    if found is False or (found is None and engine.state is EngineState.IDLE):
        return engine
    # /health is answered by the API process alone; whether it is paused, only an engine that still listens can say.
    if found is None and health is not None and health.get() == HTTPStatus.OK:
        return engine
    state = EngineState.ASLEEP if found else EngineState.UNCLEAR
    why = "somebody has paused it" if found else "it makes no step; whether somebody paused it could not be asked"
    return replace(engine, state=state, why=why)


# ---------------------------------------------------------------------------------------------- in Prometheus


class _Seen:
    """What Prometheus knows of the service's pods. All of it is asked at once."""

    def __init__(self, sources: Sources, selector: str, limit_seconds: float) -> None:
        self._cluster = sources.cluster
        self._limit = limit_seconds
        self._now = sources.now
        window, metrics = sources.window_seconds, sources.metrics
        # A hang must fit into what is looked at.
        start = sources.now - timedelta(seconds=max(window, 1.5 * limit_seconds))
        step = max(0.1, (sources.now - start).total_seconds() / _POINTS)
        engines = series.engines(selector)
        values, times = range_queries(engines)
        self._values = Later(lambda: metrics.range(values, start, sources.now, step))
        self._times = Later(lambda: metrics.range(times, start, sources.now, step))
        self._awake = Later(lambda: whole(metrics, f'{series.SLEEP_STATE}{{{engines},sleep_state="awake"}}'))
        self._up = Later(lambda: whole(metrics, f"max by (namespace, pod) (up{{{selector}}})"))
        alive = f"timestamp(up{{{selector}}}) * (up{{{selector}}} == 1)"
        looks = [f"max_over_time(({alive})[{_span(n * window)}:{_span(window / points)}])" for n, points in _LOOKS_BACK]
        self._alive = Later(lambda: whole(metrics, f"max by (namespace, pod) ({' or '.join(looks)})"))

    def engines(self, pods: Mapping[Key, ServingPod]) -> dict[Key, EngineProgress]:
        """The worst engine of each pod that reports."""
        awake = {
            EngineKey(s.labels.get("namespace", ""), s.labels.get("pod", ""), s.labels.get("engine", "")): s.value
            for s in self._awake.get().samples
        }
        found: dict[Key, EngineProgress] = {}
        for key, scrapes in scrapes_of(self._values.get(), self._times.get()).items():
            pod = (key.namespace, key.pod)
            one = self._judged(scrapes, awake.get(key), pods.get(pod))
            if pod not in found or one.state.rank < found[pod].state.rank:
                found[pod] = one
        return found

    def _judged(self, scrapes: tuple[Scrape, ...], awake: float | None, pod: ServingPod | None) -> EngineProgress:
        one = judged(scrapes, self._now, self._limit, asleep=awake == 0)
        if one.state is EngineState.HUNG and awake is None and _may_sleep(pod):
            why = "it makes no step; whether it sleeps is not exported"
            return EngineProgress(EngineState.UNCLEAR, one.running, one.waiting, one.still_seconds, why)
        return one

    def up(self, key: Key) -> bool | None:
        """Did the last scrape succeed? None: Prometheus does not scrape it."""
        found = {(s.labels.get("namespace", ""), s.labels.get("pod", "")): s.value for s in self._up.get().samples}
        return None if key not in found else found[key] > 0

    def answers_its_kubelet(self, pod: ServingPod) -> bool:
        """As the readiness probe has it; the word of a kubelet that does not report any more is old."""
        if not (pod.container.readiness_probe and pod.container.ready and pod.pod.node):
            return False
        try:
            node = self._cluster.node(pod.pod.node)
        except SourceError:
            return True  # it did, when Kubernetes last answered
        return node is not None and node.ready is True

    def silent_for_long(self, alive: datetime) -> bool:
        return (self._now - alive).total_seconds() >= self._limit / 2

    def last_alive(self, key: Key) -> datetime | None:
        for s in self._alive.get().samples:
            if (s.labels.get("namespace", ""), s.labels.get("pod", "")) == key and s.value > 0:
                return datetime.fromtimestamp(s.value, self._now.tzinfo)
        return None


def _span(seconds: float) -> str:
    return f"{max(1, round(seconds))}s"


def _may_sleep(pod: ServingPod | None) -> bool:
    """Only an engine that was started with the option can be put to sleep."""
    if pod is None or pod.arguments.hidden is not None:
        return True
    return pod.arguments.switch("enable-sleep-mode") is True


# ---------------------------------------------------------------------------------------------- one replica


def _of_engine(key: Key, engine: EngineProgress) -> Replica:
    state = ReplicaState[engine.state.name]
    return Replica(*key, state, engine.running, engine.waiting, engine.still_seconds, why=engine.why)


def _of_pod(pod: ServingPod, engine: EngineProgress | None, health: Later[int | str | None], seen: _Seen) -> Replica:
    key = _key(pod)
    state = pod.container.state
    if pod.pod.node is None or state is None:
        return Replica(*key, ReplicaState.PENDING, why=pod.pod.unschedulable)
    if state.phase != "running":
        return Replica(*key, _not_running(pod, state), why=state.reason or None)
    answer = health.get()
    if isinstance(answer, int) and answer >= 500:
        # Kept alive after its engine's death by VLLM_KEEP_ALIVE_ON_ENGINE_DEATH, or just about to end.
        return Replica(*key, ReplicaState.DEAD, why=f"/health answers {answer}: its engine has died")
    # Counters go on telling of a window's past, for a while after there is nobody left to count.
    gone = answer is None and seen.up(key) is False
    if engine is not None and engine.state is not EngineState.UNCLEAR and not gone:
        return _of_engine(key, engine)
    return _silent(pod, state, engine, answer, seen)


def _not_running(pod: ServingPod, state: ContainerState) -> ReplicaState:
    crashed = state.phase == "terminated" or state.reason == "CrashLoopBackOff" or pod.container.last_state is not None
    return ReplicaState.CRASHED if crashed else ReplicaState.PENDING


def _silent(
    pod: ServingPod, state: ContainerState, engine: EngineProgress | None, answer: int | str | None, seen: _Seen
) -> Replica:
    """Its container runs, and its counters say nothing."""
    key = _key(pod)

    def replica(found: ReplicaState, why: str | None = None, since: datetime | None = None) -> Replica:
        if engine is None:
            return Replica(*key, found, since=since, why=why, unseen=isinstance(answer, int))
        return Replica(*key, found, engine.running, engine.waiting, engine.still_seconds, since, why)

    if answer is not None:
        words = answer if isinstance(answer, str) else f"it answers /health with {answer}"
        reason = engine.why if engine is not None else f"{words}, and Prometheus has no metrics of it"
        return replica(ReplicaState.UNCLEAR, reason)
    up = seen.up(key)
    if up:
        return replica(ReplicaState.UNCLEAR, "Prometheus reaches it, this bot does not: is a NetworkPolicy in the way?")
    alive = seen.last_alive(key)
    if alive is None or (state.at is not None and alive <= state.at):  # this run of the container never served
        if not pod.pod.ready:
            return replica(ReplicaState.LOADING, since=state.at)
        why = f"Kubernetes calls it ready, but nobody answers at {pod.address}: does vLLM listen on another port?"
        return replica(ReplicaState.UNCLEAR, why)
    if up is None:
        return replica(ReplicaState.UNCLEAR, "nobody answers this bot there, and Prometheus no longer scrapes it")
    if not seen.silent_for_long(alive):
        return replica(ReplicaState.UNCLEAR, f"nobody answers there since {alive:%H:%M:%S} UTC")
    if seen.answers_its_kubelet(pod):
        why = "its readiness probe reaches it, but neither Prometheus nor this bot does: is a NetworkPolicy in the way?"
        return replica(ReplicaState.UNCLEAR, why)
    return replica(ReplicaState.DEAD, "nobody answers there, neither Prometheus nor this bot", alive)
