"""From the API server's JSON to the values of `ports`: pure, one function per kind.

Only the fields that are read are declared; what the API server leaves out is empty, as Go leaves it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from bot.fleet import WorkloadRef
from bot.ports import (
    Autoscaler,
    Container,
    ContainerState,
    Event,
    Node,
    Pod,
    Revision,
    SourceError,
    Workload,
)

GPU = "nvidia.com/gpu"
TEMPLATE_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_CHANGE_CAUSE = "kubernetes.io/change-cause"

_T = TypeVar("_T")
_Form = TypeVar("_Form", bound=BaseModel)

# Go writes an empty list or map as null, or not at all.
_Text = Annotated[str, BeforeValidator(lambda value: value or "")]
_Number = Annotated[int, BeforeValidator(lambda value: value or 0)]
_Strings = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]
_Map = Annotated[dict[str, str], BeforeValidator(lambda value: value or {})]
_List = Annotated[list[_T], BeforeValidator(lambda value: value or [])]


class _Owner(BaseModel):
    kind: str
    name: str
    uid: str
    controller: bool = False


class Meta(BaseModel):
    name: str
    namespace: _Text = ""
    uid: str
    labels: _Map = {}
    annotations: _Map = {}
    generation: int = 0
    creationTimestamp: datetime
    deletionTimestamp: datetime | None = None
    ownerReferences: _List[_Owner] = []

    @property
    def controller(self) -> _Owner | None:
        return next((owner for owner in self.ownerReferences if owner.controller), None)


class Owned(BaseModel):
    """Any object, as far as who controls it."""

    metadata: Meta


class _Condition(BaseModel):
    type: str
    status: str
    reason: _Text = ""
    message: _Text = ""
    lastTransitionTime: datetime | None = None

    @property
    def true(self) -> bool:
        return self.status == "True"


class _Env(BaseModel):
    name: str
    value: _Text = ""
    valueFrom: dict[str, Any] | None = None


class _Port(BaseModel):
    name: _Text = ""
    containerPort: int


class _Resources(BaseModel):
    requests: _Map = {}
    limits: _Map = {}

    @property
    def gpus(self) -> int:
        return gpu_count(self.limits) or gpu_count(self.requests)


class _ContainerSpec(BaseModel):
    name: str
    image: _Text = ""
    command: _Strings = ()
    args: _Strings = ()
    env: _List[_Env] = []
    ports: _List[_Port] = []
    resources: _Resources = _Resources()
    restartPolicy: _Text = ""  # "Always" makes an init container a sidecar


class _Waiting(BaseModel):
    reason: _Text = ""
    message: _Text = ""


class _Running(BaseModel):
    startedAt: datetime | None = None


class _Terminated(BaseModel):
    reason: _Text = ""
    message: _Text = ""
    exitCode: int
    finishedAt: datetime | None = None


class _State(BaseModel):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(BaseModel):
    name: str
    ready: bool = False
    restartCount: int = 0
    state: _State = _State()
    lastState: _State = _State()


class _PodSpec(BaseModel):
    nodeName: _Text = ""
    containers: _List[_ContainerSpec] = []
    initContainers: _List[_ContainerSpec] = []


class _PodStatus(BaseModel):
    phase: _Text = ""
    podIP: _Text = ""
    conditions: _List[_Condition] = []
    containerStatuses: _List[_ContainerStatus] = []


class _Pod(BaseModel):
    metadata: Meta
    spec: _PodSpec
    status: _PodStatus = _PodStatus()


class _Expression(BaseModel):
    key: str
    operator: str
    values: _Strings = ()


class _Selector(BaseModel):
    matchLabels: _Map = {}
    matchExpressions: _List[_Expression] = []


class _WorkloadSpec(BaseModel):
    replicas: int = 1
    paused: bool = False
    selector: _Selector
    template: dict[str, Any]


class _WorkloadStatus(BaseModel):
    observedGeneration: _Number = 0
    readyReplicas: _Number = 0
    updatedReplicas: _Number = 0
    availableReplicas: _Number = 0
    unavailableReplicas: _Number = 0
    conditions: _List[_Condition] = []


class _Workload(BaseModel):
    metadata: Meta
    spec: _WorkloadSpec
    status: _WorkloadStatus = _WorkloadStatus()


class _Taint(BaseModel):
    key: str
    value: _Text = ""
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class _NodeSpec(BaseModel):
    unschedulable: bool = False
    taints: _List[_Taint] = []


class _NodeStatus(BaseModel):
    allocatable: _Map = {}
    conditions: _List[_Condition] = []


class _Node(BaseModel):
    metadata: Meta
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()


class _Involved(BaseModel):
    kind: _Text = ""
    name: _Text = ""


class _EventSeries(BaseModel):
    count: _Number = 0
    lastObservedTime: datetime | None = None


class _Event(BaseModel):
    involvedObject: _Involved
    type: _Text = ""
    reason: _Text = ""
    message: _Text = ""
    count: _Number = 0
    firstTimestamp: datetime | None = None
    lastTimestamp: datetime | None = None
    eventTime: datetime | None = None
    series: _EventSeries | None = None


class _Target(BaseModel):
    kind: str
    name: str


class _AutoscalerSpec(BaseModel):
    scaleTargetRef: _Target
    minReplicas: int | None = None
    maxReplicas: int


class _AutoscalerStatus(BaseModel):
    currentReplicas: _Number = 0
    desiredReplicas: _Number = 0


class _Autoscaler(BaseModel):
    metadata: Meta
    spec: _AutoscalerSpec
    status: _AutoscalerStatus = _AutoscalerStatus()


def owned(raw: Mapping[str, Any]) -> Meta:
    return _as(Owned, raw).metadata


def gpu_count(resources: Mapping[str, str]) -> int:
    """Extended resources are whole numbers; only their text is a quantity."""
    return int(resources.get(GPU) or 0)


def pod(raw: Mapping[str, Any]) -> Pod:
    found = _as(_Pod, raw)
    meta, conditions = found.metadata, {c.type: c for c in found.status.conditions}
    ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
    is_ready = ready is not None and ready.true
    waits_for_room = scheduled is not None and not scheduled.true and scheduled.reason == "Unschedulable"
    statuses = {status.name: status for status in found.status.containerStatuses}
    controller = meta.controller
    return Pod(
        namespace=meta.namespace,
        name=meta.name,
        labels=meta.labels,
        annotations=meta.annotations,
        node=found.spec.nodeName or None,
        ip=found.status.podIP or None,
        phase=found.status.phase,
        ready=is_ready,
        created_at=meta.creationTimestamp,
        ready_at=ready.lastTransitionTime if ready is not None and is_ready else None,
        deleted_at=meta.deletionTimestamp,
        owner=controller.name if controller else None,
        owner_kind=controller.kind if controller else None,
        unschedulable=scheduled.message if scheduled is not None and waits_for_room else None,
        containers=tuple(_container(spec, statuses.get(spec.name)) for spec in found.spec.containers),
    )


def _container(spec: _ContainerSpec, status: _ContainerStatus | None) -> Container:
    return Container(
        name=spec.name,
        image=spec.image,
        command=spec.command,
        args=spec.args,
        env={env.name: None if env.valueFrom else env.value for env in spec.env},
        ports={port.name or str(port.containerPort): port.containerPort for port in spec.ports},
        gpus=spec.resources.gpus,
        ready=status.ready if status else False,
        restart_count=status.restartCount if status else 0,
        state=_state(status.state) if status else None,
        last_state=_state(status.lastState) if status else None,
    )


def _state(state: _State) -> ContainerState | None:
    if state.terminated is not None:
        end = state.terminated
        return ContainerState("terminated", end.reason, end.message, end.exitCode, end.finishedAt)
    if state.running is not None:
        return ContainerState("running", at=state.running.startedAt)
    if state.waiting is not None:
        return ContainerState("waiting", state.waiting.reason, state.waiting.message)
    return None


def requested_gpus(raw: Mapping[str, Any]) -> int:
    """What the scheduler counts for a pod: its containers and sidecars, or more if an init container needs more."""
    spec = _as(_Pod, raw).spec
    sidecars = peak = 0
    for init in spec.initContainers:
        if init.restartPolicy == "Always":
            sidecars += init.resources.gpus
        else:
            peak = max(peak, sidecars + init.resources.gpus)
    return max(peak, sidecars + sum(container.resources.gpus for container in spec.containers))


def node_of(raw: Mapping[str, Any]) -> str:
    """ "" if the pod is not scheduled."""
    return _as(_Pod, raw).spec.nodeName


def workload(ref: WorkloadRef, raw: Mapping[str, Any]) -> Workload:
    found = _as(_Workload, raw)
    meta, spec, status = found.metadata, found.spec, found.status
    deployment = ref.kind == "Deployment"
    revision = meta.annotations.get(_REVISION)
    return Workload(
        ref=ref,
        desired=spec.replicas,
        ready=status.readyReplicas,
        updated=status.updatedReplicas,
        # Only a Deployment counts them itself.
        unavailable=status.unavailableReplicas if deployment else max(0, spec.replicas - status.availableReplicas),
        paused=spec.paused,
        template=spec.template,
        labels=meta.labels,
        annotations=meta.annotations,
        selector=spec.selector.matchLabels,
        revision=int(revision) if revision else None,
        generation=meta.generation,
        observed_generation=status.observedGeneration,
        conditions={c.type: (c.true, c.message) for c in status.conditions},
        managed_by=_managed_by(meta),
    )


def _managed_by(meta: Meta) -> str | None:
    """Argo CD and Flux before Helm: they may have rendered a chart, and it is they who would undo a change."""
    keys = {*meta.labels, *meta.annotations}
    if any(key.startswith("argocd.argoproj.io/") for key in keys):
        return "Argo CD"
    if any(".toolkit.fluxcd.io/" in key for key in keys):
        return "Flux"
    if "meta.helm.sh/release-name" in keys or meta.labels.get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    return None


def label_selector(raw: Mapping[str, Any]) -> str:
    """A workload's selector, as a list request takes it."""
    selector = _as(_Workload, raw).spec.selector
    terms = [f"{key}={value}" for key, value in selector.matchLabels.items()]
    for expression in selector.matchExpressions:
        values = ",".join(expression.values)
        terms.append(
            {
                "In": f"{expression.key} in ({values})",
                "NotIn": f"{expression.key} notin ({values})",
                "Exists": expression.key,
                "DoesNotExist": f"!{expression.key}",
            }[expression.operator]
        )
    return ",".join(terms)


def revision(raw: Mapping[str, Any]) -> Revision:
    """Of a ReplicaSet. The template is what a rollback would put back: without the hash that its controller added."""
    found = _as(_Workload, raw)
    meta = found.metadata
    containers = (found.spec.template.get("spec") or {}).get("containers") or ()
    return Revision(
        number=int(meta.annotations.get(_REVISION) or 0),
        replica_set=meta.name,
        created_at=meta.creationTimestamp,
        change_cause=meta.annotations.get(_CHANGE_CAUSE),
        images=tuple(str(container.get("image", "")) for container in containers),
        template=without_hash(found.spec.template),
        replicas=found.spec.replicas,
        ready=found.status.readyReplicas,
    )


def without_hash(template: Mapping[str, Any]) -> dict[str, Any]:
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != TEMPLATE_HASH}
    return {**template, "metadata": meta}


def node(raw: Mapping[str, Any]) -> Node:
    found = _as(_Node, raw)
    known = {c.type: c.true for c in found.status.conditions if c.status != "Unknown"}
    return Node(
        name=found.metadata.name,
        ready=known.get("Ready"),
        schedulable=not found.spec.unschedulable,
        conditions=known,
        labels=found.metadata.labels,
        annotations=found.metadata.annotations,
        taints=tuple(str(taint) for taint in found.spec.taints),
        gpus=gpu_count(found.status.allocatable),
        gpu_product=found.metadata.labels.get("nvidia.com/gpu.product"),
    )


def event(raw: Mapping[str, Any]) -> Event:
    """Old and new writers of events use different fields for the same."""
    found = _as(_Event, raw)
    series = found.series or _EventSeries()
    return Event(
        at=series.lastObservedTime or found.lastTimestamp or found.eventTime or found.firstTimestamp,
        kind=found.involvedObject.kind,
        name=found.involvedObject.name,
        type=found.type,
        reason=found.reason,
        message=found.message,
        count=series.count or found.count or 1,
    )


def autoscaler(raw: Mapping[str, Any]) -> tuple[str, str, Autoscaler]:
    """Kind and name of what it scales, and itself."""
    found = _as(_Autoscaler, raw)
    meta, spec, status = found.metadata, found.spec, found.status
    keda = any("keda.sh/" in key for key in meta.labels) or meta.name.startswith("keda-hpa-")
    return (
        spec.scaleTargetRef.kind,
        spec.scaleTargetRef.name,
        Autoscaler(
            name=meta.name,
            minimum=1 if spec.minReplicas is None else spec.minReplicas,
            maximum=spec.maxReplicas,
            current=status.currentReplicas,
            desired=status.desiredReplicas,
            keda=keda,
        ),
    )


def by_time(events: Sequence[Event]) -> tuple[Event, ...]:
    """Newest first; those without a time last."""
    return tuple(sorted(events, key=lambda e: (e.at is not None, e.at and e.at.timestamp()), reverse=True))


def _as(form: type[_Form], raw: Mapping[str, Any]) -> _Form:
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        meta = raw.get("metadata") or {}
        what = f"{raw.get('kind') or 'an object'} {meta.get('namespace', '')}/{meta.get('name', '')}"
        raise SourceError("Kubernetes", f"{what} has a form this bot does not know: {error}") from error
