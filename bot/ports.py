"""What the bot needs of the world, in its own words. `outbound/` implements these; tests have fakes of them.

`Sources` read, `Controls` change: a probe is handed only the first. Every method may raise `SourceError`, and none
returns a default when it could not look: absence of an answer is never an answer.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from bot.fleet import Fleet, WorkloadRef
from bot.gpu_readings import EventPage, GpuNode
from bot.report import Report


class SourceError(Exception):
    """An outside system did not answer, or refused. `why` and `hint` are read by someone just woken up.

    source: "Prometheus", "Kubernetes", "Alertmanager", "Slack", "vLLM"
    why:    what did not work, on what ("did not answer within 10 s (http://prometheus:9090)")
    hint:   what to do next, or ""
    retryable: may the same question succeed a moment later?
    """

    def __init__(self, source: str, why: str, hint: str = "", *, retryable: bool = False) -> None:
        end = "" if why.endswith((".", "?", "!", ":")) else "."
        super().__init__(f"{source}: {why}" + (f"{end} {hint}" if hint else ""))
        self.source = source
        self.why = why
        self.hint = hint
        self.retryable = retryable


class ConflictError(SourceError):
    """The thing to change no longer has the values that were shown (a JSON-Patch `test` failed, or 409)."""


class Risk(enum.Enum):
    LOW = "low"  # reversible at once, takes no capacity away
    MEDIUM = "medium"  # replaces or adds replicas
    HIGH = "high"  # takes capacity away, or touches a node


# ---------------------------------------------------------------------------------------------- Kubernetes, read


@dataclass(frozen=True, slots=True)
class ContainerState:
    """`state` or `lastState` of a container status."""

    phase: str  # "waiting" | "running" | "terminated"
    reason: str = ""  # "CrashLoopBackOff", "OOMKilled", "Completed" ...
    message: str = ""
    exit_code: int | None = None
    at: datetime | None = None  # started (running) or finished (terminated)
    started_at: datetime | None = None  # of a terminated one


@dataclass(frozen=True, slots=True)
class ConfigMount:
    """A ConfigMap's keys as files of a container."""

    path: str
    config_map: str
    keys: Mapping[str, str] | None = None  # file below `path` ("": `path` itself) to key; None: each by its own name


@dataclass(frozen=True, slots=True)
class ConfigMap:
    data: Mapping[str, str]
    changed_at: datetime | None  # None: its creation and its changes are not told


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str | None]  # None: the value comes from a Secret, ConfigMap or field and is not read
    ports: Mapping[str, int]  # by port name; unnamed ports by their number as text
    gpus: int  # nvidia.com/gpu limit
    ready: bool
    restart_count: int
    state: ContainerState | None
    last_state: ContainerState | None
    image_id: str = ""  # with the digest that was really pulled, once it runs
    config_mounts: tuple[ConfigMount, ...] = ()
    readiness_probe: bool = False  # the kubelet asks it whether it answers; else `ready` only says that it runs


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    node: str | None  # None: not scheduled
    ip: str | None
    phase: str
    ready: bool
    created_at: datetime
    ready_at: datetime | None  # last transition of the Ready condition to True
    deleted_at: datetime | None
    owner: str | None  # name of the controlling ReplicaSet, StatefulSet ...
    owner_kind: str | None
    unschedulable: str | None  # the scheduler's words, if it could not place the pod
    containers: tuple[Container, ...]
    uid: str = ""  # tells a pod from a later one of the same name
    emptydirs: tuple[str, ...] = ()  # volumes on the node's disk that end with the pod; those in memory are not counted
    init_containers: tuple[Container, ...] = ()  # sidecars among them, too

    @property
    def gpus(self) -> int:
        return sum(c.gpus for c in self.containers)

    @property
    def is_static(self) -> bool:
        """The kubelet runs it from a file of its own (a mirror pod): nothing that the API is told ends it."""
        return "kubernetes.io/config.mirror" in self.annotations


@dataclass(frozen=True, slots=True)
class Workload:
    ref: WorkloadRef
    desired: int
    ready: int
    updated: int
    unavailable: int
    paused: bool
    template: Mapping[str, Any]  # the pod template as the API server has it
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    selector: Mapping[str, str]
    revision: int | None  # deployment.kubernetes.io/revision
    generation: int
    observed_generation: int
    conditions: Mapping[str, tuple[bool, str]]  # type -> (status is True, message)
    managed_by: str | None  # "Argo CD", "Flux", "Helm" when labels or annotations say so
    # A rolling update's limits in pods (percentages resolved); None: pods are not replaced in a rolling way.
    max_surge: int | None = None
    max_unavailable: int | None = None

    @property
    def settled(self) -> bool:
        """The controller has seen the last change and all replicas are updated and ready."""
        seen = self.observed_generation >= self.generation
        return seen and self.updated == self.desired == self.ready and self.unavailable == 0


@dataclass(frozen=True, slots=True)
class Revision:
    """One rollout of a Deployment: a ReplicaSet."""

    number: int
    replica_set: str
    created_at: datetime
    change_cause: str | None
    images: tuple[str, ...]
    template: Mapping[str, Any]  # without the pod-template-hash label
    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    ready: bool | None  # None: the condition is Unknown (the node controller lost it)
    schedulable: bool
    conditions: Mapping[str, bool]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    taints: tuple[str, ...]  # "key=value:Effect"
    gpus: int  # allocatable nvidia.com/gpu
    gpu_product: str | None
    # All nvidia.com/gpu that the device plugin announces: allocatable are those of them that it calls healthy. Slices
    # (MIG) have other names, and count in neither.
    gpu_capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: str  # "In" | "NotIn" | "Exists" | "DoesNotExist"
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        raise ValueError(f"a label selector has no operator {self.operator!r}")


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget as it stands."""

    namespace: str
    name: str
    selector: tuple[Requirement, ...] | None  # all must hold; None: it selects no pod
    expected: int  # pods it counts
    healthy: int
    needed: int  # healthy pods that must stay
    allowed: int  # pods that may go now
    unready_may_go: bool  # whatever the numbers (unhealthyPodEvictionPolicy: AlwaysAllow)

    def selects(self, pod: Pod) -> bool:
        same = pod.namespace == self.namespace
        return same and self.selector is not None and all(r.holds(pod.labels) for r in self.selector)


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime | None
    kind: str
    name: str
    type: str  # "Normal" | "Warning"
    reason: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler (KEDA makes one too) that owns a workload's replicas."""

    name: str
    minimum: int
    maximum: int
    current: int
    desired: int
    keda: bool


class ClusterReader(Protocol):
    """Read-only Kubernetes. Methods that look up one object return None if it does not exist."""

    def pod(self, namespace: str, name: str) -> Pod | None: ...
    def pods_of(self, ref: WorkloadRef) -> tuple[Pod, ...]:
        """The workload's pods, by controller reference (never by a name prefix). All revisions."""
        ...

    def pods_on_node(self, node: str) -> tuple[Pod, ...]: ...
    def pods_labelled(self, namespace: str, labels: Mapping[str, str]) -> tuple[Pod, ...]: ...
    def workload(self, ref: WorkloadRef) -> Workload | None: ...
    def workload_of(self, pod: Pod) -> WorkloadRef | None: ...
    def revisions(self, ref: WorkloadRef) -> tuple[Revision, ...]:
        """Newest first. Empty for kinds without ReplicaSets."""
        ...

    def node(self, name: str) -> Node | None: ...
    def nodes(self) -> tuple[Node, ...]: ...
    def free_gpus(self) -> Mapping[str, int]:
        """Unrequested nvidia.com/gpu per ready, schedulable node."""
        ...

    def events(self, namespace: str, kind: str, name: str) -> tuple[Event, ...]: ...
    def autoscaler_of(self, ref: WorkloadRef) -> Autoscaler | None: ...
    def budgets(self, namespace: str) -> tuple[Budget, ...]: ...
    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """SourceError where no role allows it, which is the rule."""
        ...

    def pod_logs(self, namespace: str, pod: str, container: str, *, tail: int, previous: bool = False) -> str: ...


# ---------------------------------------------------------------------------------------------- Prometheus


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float  # may be NaN: "the query has no meaning now" (an idle quantile)
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()  # a partial answer (Thanos, Mimir) looks complete without them

    @property
    def number(self) -> float | None:
        """The value of the only sample; None if there is none, or it is NaN. Raises ValueError if there are several."""
        if len(self.samples) > 1:
            raise ValueError(f"one number was expected, {len(self.samples)} series came; aggregate with sum or max")
        if not self.samples or self.samples[0].value != self.samples[0].value:
            return None
        return self.samples[0].value


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    points: tuple[tuple[datetime, float], ...]


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """As Prometheus' /api/v1/alerts or Alertmanager's /api/v2/alerts tell it."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: str  # as received
    fingerprint: str | None  # None from Prometheus, which has none
    state: str  # "firing" | "pending" | "active" | "suppressed"
    generator_url: str = ""
    receivers: tuple[str, ...] = ()  # to whom Alertmanager routes it; Prometheus knows of none


class Metrics(Protocol):
    def instant(self, query: str) -> Answer: ...
    def range(self, query: str, start: datetime, end: datetime, step_seconds: float) -> tuple[Series, ...]: ...
    def at(self, time: datetime) -> Self:
        """The same, answering `instant` as of `time`."""
        ...

    def alerts(self) -> tuple[FiringAlert, ...]: ...
    def link(self, query: str) -> str:
        """Where a person can look at this query."""
        ...


def promql_quote(value: str) -> str:
    """A PromQL string literal of `value`, quotes included: label values from alerts are foreign text."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ---------------------------------------------------------------------------------------------- others, read


class Alerts(Protocol):
    """Alertmanager."""

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]:
        """Firing alerts, silenced ones too. It lists no resolved ones."""
        ...

    def silence(self, matchers: Mapping[str, str], *, until: datetime, by: str, comment: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Completion:
    ok: bool
    status: int | None  # None: no answer within the time
    seconds: float
    text: str
    # Of each token, where they were asked for; None in the place of one that is no number.
    logprobs: tuple[float | None, ...] | None = None


class Engines(Protocol):
    """vLLM's own HTTP API on a pod's address."""

    def health(self, address: str) -> int | None:
        """The status code of /health; None if nobody listens or it did not answer in time."""
        ...

    def version(self, address: str) -> str | None: ...
    def models(self, address: str) -> tuple[Mapping[str, Any], ...] | None: ...
    def complete(
        self,
        address: str,
        model: str,
        *,
        timeout_seconds: float,
        prompt: str = "1",
        max_tokens: int = 1,
        logprobs: bool = False,
    ) -> Completion:
        """One token (or some), at temperature 0. It waits in the engine's queue like any request.

        Never to an engine that sleeps: some versions die of it.
        """
        ...

    def metrics(self, address: str) -> "tuple[Sample, ...] | None":
        """The page that Prometheus scrapes, as it is now, each with its `__name__`; None if nobody answers."""
        ...

    def paused(self, address: str) -> bool | None:
        """Has somebody told it to take up no request until it is resumed? It looks hung then. None: nobody answers."""
        ...

    def tokenize(self, address: str, model: str, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        """The tokens of a chat by the server's own template; None if nobody answers. SourceError if it refuses."""
        ...

    def detokenize(self, address: str, model: str, tokens: Sequence[int]) -> str | None:
        """The text of the tokens by the server's own vocabulary; None if nobody answers. SourceError if it refuses."""
        ...


class Gpus(Protocol):
    """The agents on the GPU nodes. SourceError where none runs, or it does not answer."""

    def snapshot(self, node: str) -> GpuNode:
        """Read for this question. A GPU, or a driver, that does not answer is part of the answer."""
        ...

    def events(self, node: str, *, after: int = 0, ring: str | None = None, wait_seconds: float = 0) -> EventPage:
        """What the driver reported since event number `after` of that ring; waits for the first of them."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What a probe may look at. `window` is the PromQL range for rates ("5m"; seconds in the sandbox)."""

    cluster: ClusterReader
    metrics: Metrics
    alerts: Alerts
    engines: Engines
    fleet: Fleet
    now: datetime
    window_seconds: float
    live: bool = True  # False for `at=`: only Prometheus can answer for the past
    gpus: Gpus | None = None  # None: no agents are configured

    @property
    def window(self) -> str:
        return f"{round(self.window_seconds)}s"


# ---------------------------------------------------------------------------------------------- change


@dataclass(frozen=True, slots=True)
class Change:
    """The object before and after, as the API server has it (after a dry run: as it would have it)."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]


class ClusterWriter(Protocol):
    """Changes to Kubernetes. Each asks first whether this process still leads, and raises ConflictError if what it
    was told is there before is not. With `dry_run` the API server judges and nothing changes."""

    def scale(self, ref: WorkloadRef, *, before: int, after: int, dry_run: bool = False) -> Change: ...
    def set_template(
        self,
        ref: WorkloadRef,
        *,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        cause: str,
        dry_run: bool = False,
    ) -> Change:
        """Replace the pod template. `before` is the template as it was shown; `cause` becomes the change-cause."""
        ...

    def set_schedulable(self, node: str, *, before: bool, after: bool, dry_run: bool = False) -> Change:
        """Cordon (after=False) or uncordon a node."""
        ...

    def evict(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> str | None:
        """Ask that the pod goes. The words of its disruption budget if it may not go now; None if it goes, or is gone:
        a pod of the same name with another uid is not touched."""
        ...

    def delete_pod(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> None:
        """Without asking any budget. Done as well if it is gone; a pod of the same name is not touched."""
        ...


@dataclass(frozen=True, slots=True)
class Controls:
    cluster: ClusterWriter
    alerts: Alerts


# ---------------------------------------------------------------------------------------------- long work

Json = Any  # what a JSON text can hold: checkpoints are written with it, so no dataclasses pass here


class Workflow(Protocol):
    """What long work may do. Every call leaves a checkpoint; after a crash the work is run again from the top and
    gets the recorded answers. So: no clock, no random, no I/O outside of `step` and `transaction`."""

    def step(self, name: str, work: "StepWork", *args: Json) -> Json:
        """Run `work` once; again from its start if the process died in it. It must be able to tell whether its effect
        is already there."""
        ...

    def transaction(self, name: str, work: "TransactionWork", *args: Json) -> Json:
        """Run `work(tx, *args)` in our database; its rows and the checkpoint are committed together."""
        ...

    def wait(self, topic: str, seconds: float) -> Json | None:
        """A durable sleep that a message on `topic` ends; None if none came."""
        ...


class StepWork(Protocol):
    def __call__(self, *args: Json) -> Json: ...


class TransactionWork(Protocol):
    def __call__(self, tx: Any, *args: Json) -> Json: ...


class Engine(Protocol):
    """Runs long work durably (`outbound/engine.py`: DBOS). Kinds are registered before launch."""

    def start(self, kind: str, row_id: str) -> None:
        """Start the workflow `kind:row_id` unless it was ever started. Idempotent."""
        ...

    def send(self, kind: str, row_id: str, topic: str, message: Json, *, key: str) -> None:
        """Hand a message to a workflow, once per `key`."""
        ...

    def dead(self, kind: str, row_ids: Sequence[str]) -> tuple[str, ...]:
        """Those that ended without closing their row (an error, or too many recoveries)."""
        ...


# ---------------------------------------------------------------------------------------------- Slack


class TooManyError(SourceError):
    """Slack said 429. `wait_seconds` is its Retry-After."""

    def __init__(self, why: str, wait_seconds: float) -> None:
        super().__init__("Slack", why, retryable=True)
        self.wait_seconds = wait_seconds


class GoneError(SourceError):
    """The message to edit or to answer was deleted."""


class NoChannelError(SourceError):
    """There is no such channel, it is archived, or the bot is no member."""


class UnclearError(SourceError):
    """No answer, or a broken one, to a call that may have had its effect: look before doing it again."""


@dataclass(frozen=True, slots=True)
class Modal:
    """A dialog. `token` (an id of ours) comes back with its submission; `inputs` are asked for."""

    title: str  # at most 24 characters
    report: Report
    token: str
    callback: str  # "review", "propose"
    submit: str | None = None  # the verb on the button; None: nothing to submit
    inputs: tuple["Input", ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    label: str
    initial: str = ""
    multiline: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()


class Chat(Protocol):
    """Slack, as the announcer and the listeners need it. Raises TooManyError, UnclearError, SourceError."""

    def post(
        self,
        channel: str,
        report: Report,
        *,
        marker: str,
        thread: str | None = None,
        broadcast: bool = False,
        call: str | None = None,
    ) -> str:
        """Returns the message's ts. `marker` (an id of ours) is put into a block_id, so that `find` can see it.

        A phone rings for `call` alone (a user or a group): whoever else the report mentions is named, not called.
        """
        ...

    def update(self, channel: str, ts: str, report: Report, *, marker: str) -> None:
        """Rings no phone, whoever is mentioned. Raises GoneError if somebody deleted the message."""
        ...

    def find(self, channel: str, marker: str, *, thread: str | None = None, since: datetime) -> str | None:
        """The ts of a message of ours that carries `marker`: asked before a repeated post."""
        ...

    def picture(self, channel: str, thread: str, *, name: str, title: str, alt: str, png: bytes) -> None:
        """Upload into a thread. `name` is unique, so that `has_picture` can see it."""
        ...

    def has_picture(self, channel: str, thread: str, name: str) -> bool: ...
    def whisper(self, channel: str, user: str, report: Report) -> None:
        """Visible to `user` only."""
        ...

    def open_modal(self, trigger: str, modal: Modal) -> str:
        """Within 3 s of the click. Returns the view's id."""
        ...

    def update_modal(self, view: str, modal: Modal) -> None: ...
    def group_members(self, group: str) -> frozenset[str]: ...
