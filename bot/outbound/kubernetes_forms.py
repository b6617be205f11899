"""Kubernetes objects as far as the bot reads them: fields in the API's own spelling, all else ignored."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator

GPU = "nvidia.com/gpu"

_T = TypeVar("_T")

# Go writes an empty list or map as null, or not at all.
_Text = Annotated[str, BeforeValidator(lambda value: value or "")]
_Number = Annotated[int, BeforeValidator(lambda value: value or 0)]
_Strings = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]
_Map = Annotated[dict[str, str], BeforeValidator(lambda value: value or {})]
_List = Annotated[list[_T], BeforeValidator(lambda value: value or [])]


def gpu_count(resources: dict[str, str]) -> int:
    """Extended resources are whole numbers; only their text is a quantity."""
    return int(resources.get(GPU) or 0)


class Owner(BaseModel):
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
    ownerReferences: _List[Owner] = []

    @property
    def controller(self) -> Owner | None:
        return next((owner for owner in self.ownerReferences if owner.controller), None)


class ManagedFields(BaseModel):
    time: datetime | None = None


class ChangedMeta(BaseModel):
    creationTimestamp: datetime
    managedFields: _List[ManagedFields] = []


class ConfigMap(BaseModel):
    metadata: ChangedMeta
    data: _Map = {}


class Owned(BaseModel):
    """Any object, as far as who controls it."""

    metadata: Meta


class Condition(BaseModel):
    type: str
    status: str
    reason: _Text = ""
    message: _Text = ""
    lastTransitionTime: datetime | None = None

    @property
    def true(self) -> bool:
        return self.status == "True"


class Env(BaseModel):
    name: str
    value: _Text = ""
    valueFrom: dict[str, Any] | None = None


class Port(BaseModel):
    name: _Text = ""
    containerPort: int


class Resources(BaseModel):
    requests: _Map = {}
    limits: _Map = {}

    @property
    def gpus(self) -> int:
        return gpu_count(self.limits) or gpu_count(self.requests)


class VolumeMount(BaseModel):
    name: str
    mountPath: str
    subPath: _Text = ""


class ContainerSpec(BaseModel):
    name: str
    image: _Text = ""
    command: _Strings = ()
    args: _Strings = ()
    env: _List[Env] = []
    ports: _List[Port] = []
    resources: Resources = Resources()
    volumeMounts: _List[VolumeMount] = []
    readinessProbe: dict[str, Any] | None = None
    restartPolicy: _Text = ""  # "Always" makes an init container a sidecar


class Waiting(BaseModel):
    reason: _Text = ""
    message: _Text = ""


class Running(BaseModel):
    startedAt: datetime | None = None


class Terminated(BaseModel):
    reason: _Text = ""
    message: _Text = ""
    exitCode: int
    startedAt: datetime | None = None
    finishedAt: datetime | None = None


class State(BaseModel):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(BaseModel):
    name: str
    ready: bool = False
    restartCount: int = 0
    imageID: _Text = ""
    state: State = State()
    lastState: State = State()


class EmptyDir(BaseModel):
    medium: _Text = ""  # "Memory": a tmpfs, as vLLM's /dev/shm is


class KeyToPath(BaseModel):
    key: str
    path: str


class ConfigMapVolume(BaseModel):
    name: _Text = ""
    items: _List[KeyToPath] = []  # empty: every key, as a file of its name


class Volume(BaseModel):
    name: str
    emptyDir: EmptyDir | None = None
    configMap: ConfigMapVolume | None = None


class PodSpec(BaseModel):
    nodeName: _Text = ""
    volumes: _List[Volume] = []
    containers: _List[ContainerSpec] = []
    initContainers: _List[ContainerSpec] = []


class PodStatus(BaseModel):
    phase: _Text = ""
    podIP: _Text = ""
    conditions: _List[Condition] = []
    containerStatuses: _List[ContainerStatus] = []
    initContainerStatuses: _List[ContainerStatus] = []


class Pod(BaseModel):
    metadata: Meta
    spec: PodSpec
    status: PodStatus = PodStatus()


class Expression(BaseModel):
    key: str
    operator: str
    values: _Strings = ()


class Selector(BaseModel):
    matchLabels: _Map = {}
    matchExpressions: _List[Expression] = []


class RollingUpdate(BaseModel):
    maxSurge: int | str | None = None
    maxUnavailable: int | str | None = None


class BudgetSpec(BaseModel):
    selector: Selector | None = None
    unhealthyPodEvictionPolicy: _Text = ""


class BudgetStatus(BaseModel):
    expectedPods: _Number = 0
    currentHealthy: _Number = 0
    desiredHealthy: _Number = 0
    disruptionsAllowed: _Number = 0


class Budget(BaseModel):
    metadata: Meta
    spec: BudgetSpec
    status: BudgetStatus = BudgetStatus()


class Strategy(BaseModel):
    type: _Text = ""
    rollingUpdate: RollingUpdate | None = None


class WorkloadSpec(BaseModel):
    replicas: int = 1
    paused: bool = False
    selector: Selector
    template: dict[str, Any]
    strategy: Strategy = Strategy()  # of a Deployment
    updateStrategy: Strategy = Strategy()  # of a StatefulSet


class WorkloadStatus(BaseModel):
    observedGeneration: _Number = 0
    readyReplicas: _Number = 0
    updatedReplicas: _Number = 0
    availableReplicas: _Number = 0
    unavailableReplicas: _Number = 0
    conditions: _List[Condition] = []


class Workload(BaseModel):
    metadata: Meta
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()


class Taint(BaseModel):
    key: str
    value: _Text = ""
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class NodeSpec(BaseModel):
    unschedulable: bool = False
    taints: _List[Taint] = []


class NodeStatus(BaseModel):
    allocatable: _Map = {}
    capacity: _Map | None = None
    conditions: _List[Condition] = []


class Node(BaseModel):
    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Involved(BaseModel):
    kind: _Text = ""
    name: _Text = ""


class EventSeries(BaseModel):
    count: _Number = 0
    lastObservedTime: datetime | None = None


class Event(BaseModel):
    involvedObject: Involved
    type: _Text = ""
    reason: _Text = ""
    message: _Text = ""
    count: _Number = 0
    firstTimestamp: datetime | None = None
    lastTimestamp: datetime | None = None
    eventTime: datetime | None = None
    series: EventSeries | None = None


class Target(BaseModel):
    kind: str
    name: str


class AutoscalerSpec(BaseModel):
    scaleTargetRef: Target
    minReplicas: int | None = None
    maxReplicas: int


class AutoscalerStatus(BaseModel):
    currentReplicas: _Number = 0
    desiredReplicas: _Number = 0


class Autoscaler(BaseModel):
    metadata: Meta
    spec: AutoscalerSpec
    status: AutoscalerStatus = AutoscalerStatus()
