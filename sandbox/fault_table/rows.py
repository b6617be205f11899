"""The form of a row of the fault table, as written in `tests/faults/*.yaml`; mistakes are told with file and place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML

from sandbox.fleet.contract import Effect, GpuFault, Match, RequestKind
from sandbox.fleet.control import LONG_CONTEXTS, LONG_PROMPTS, SHORT_PROMPTS

FOLDER = Path(__file__).parents[2] / "tests" / "faults"

Part = Literal["real vLLM", "Kubernetes (state patched in)", "fleet", "GPU (fleet)", "Prometheus"]
# `explained`: it may be seen too, but only as a symptom that a confirmed finding explains.
Expected = Literal["confirmed", "explained", "ruled out", "inconclusive"]
Positive = Annotated[float, Field(gt=0)]
Flags = Mapping[str, str | int | float | None]

MIXES: Mapping[str, tuple[RequestKind, ...]] = {
    "short prompts": SHORT_PROMPTS,
    "long prompts": LONG_PROMPTS,
    "long contexts": LONG_CONTEXTS,
}


class RowError(ValueError):
    """A file of rows cannot be used. The text says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Service(_Strict):
    """What is deployed before anything happens. `flags` become `--name=value`; None is a switch."""

    replicas: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[int, Field(ge=0)] = 4
    nodes: Annotated[int, Field(ge=1)] = 1
    gpus_per_node: Annotated[int, Field(ge=1)] = 8
    image: str = "vllm/vllm-openai:v0.32.0"
    model: str = "meta-llama/Llama-3.3-70B-Instruct"
    flags: Flags = Field(default_factory=lambda: {"max-model-len": 16_384, "max-num-seqs": 32})
    slo: Mapping[str, float] = Field(default_factory=lambda: {"ttft_p99_seconds": 1.0, "tpot_p99_seconds": 0.2})
    more: Mapping[str, object] = Field(default_factory=dict)  # further keys of the service in fleet.yaml
    beside: tuple[str, ...] = ()  # containers beside vLLM's
    before: tuple[str, ...] = ()  # init containers
    max_unavailable: Annotated[int, Field(ge=0)] = 0  # of a rolling update; else a new replica comes first


class Offer(_Strict):
    """A load, as a share of what all replicas can do of it together."""

    ratio: Annotated[float, Field(ge=0)]
    mix: Literal["short prompts", "long prompts", "long contexts"] | tuple[RequestKind, ...] = "short prompts"
    timeout_seconds: Positive = 30.0  # then its clients give up

    @property
    def kinds(self) -> tuple[RequestKind, ...]:
        return MIXES[self.mix] if isinstance(self.mix, str) else self.mix


class Requests(_Strict):
    """To a real server: from clients that each send the next when they have their answer, or so many a second."""

    clients: Annotated[int, Field(ge=0)] = 0
    per_second: Annotated[float, Field(ge=0)] = 0
    prompt_tokens: Annotated[int, Field(ge=1)]
    output_tokens: Annotated[int, Field(ge=1)]
    every_seconds: Annotated[float, Field(ge=0)] = 0


class FleetFault(_Strict):
    """`match` narrows it down within the row's own namespace."""

    effect: Effect
    match: Match = Match()


class RollOut(_Strict):
    cause: str
    image: str | None = None
    model: str | None = None
    flags: Flags | None = None
    restart: bool = False  # `kubectl rollout restart`: an annotation, and nothing else
    never_ready: bool = False  # its pods start and stay unready: a kubelet's word follows
    wait: bool = True  # until all replicas are of the new revision


class Container(_Strict):
    """What a kubelet would say of the container of one pod (`pod`: by age, 0 is the oldest), or of `all`."""

    pod: int | Literal["all", "newest"] = 0
    name: str | None = None  # another container than vLLM's
    before: bool = False  # it is an init container
    exit_code: int = 137
    reason: str = "OOMKilled"
    waiting: str = "CrashLoopBackOff"
    restarts: int = 3
    ran_seconds: float = 20
    again: bool = False  # it was started again and loads; otherwise it waits
    previous_log: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


class CannotStart(_Strict):
    """The container has never run: its image cannot be had, its configuration is missing."""

    pod: int | Literal["all", "newest"] = "newest"
    reason: str
    message: str


class PodEvent(_Strict):
    pod: int | Literal["newest"] = 0
    type: Literal["Normal", "Warning"] = "Warning"
    reason: str
    message: str
    count: int = 1


class NodeState(_Strict):
    """The kubelet's own word. A lost node ("Unknown") cannot be played: kwok's heartbeat brings it back at once."""

    node: int = 0
    condition: str = "Ready"
    ready: Literal["False", "True"] = "False"  # the condition's status
    reason: str
    message: str


class Eviction(_Strict):
    """By the kubelet, for want of something on the node."""

    pod: int | Literal["newest"] = 0
    message: str


class Sight(_Strict):
    """Something that must be seen: a query of Prometheus, or what kubectl prints. `$namespace`, `$pods` (a matcher),
    `$pod` (the oldest), `$newest`, `$node` and `$service` are the row's own."""

    promql: str | None = None
    above: float | None = None
    below: float | None = None
    absent: bool = False  # no series at all
    kubectl: str | None = None
    contains: str | None = None
    prometheus: Literal["refuses", "hangs"] | None = None  # how it does not answer
    seconds: Positive = 150.0  # how long it may take, on a machine that has other work, too

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "Sight":
        if sum(asked is not None for asked in (self.promql, self.kubectl, self.prometheus)) != 1:
            raise ValueError("one of promql, kubectl, prometheus")
        if self.promql is not None and self.above is None and self.below is None and not self.absent:
            raise ValueError("promql needs above, below or absent")
        if self.kubectl is not None and self.contains is None:
            raise ValueError("kubectl needs contains")
        return self


class Deed(_Strict):
    """One thing that is done; exactly one of these."""

    until: Sight | None = None
    fires: bool | None = None  # the alert's startsAt is now, not after the last deed
    # to the fleet
    offer: Offer | None = None
    fleet: FleetFault | None = None
    gpu: GpuFault | None = None  # its node is the row's first one, unless it names another: "1"
    # to Kubernetes
    roll_out: RollOut | None = None
    scale: int | None = None
    container: Container | None = None
    cannot_start: CannotStart | None = None
    event: PodEvent | None = None
    evict: Eviction | None = None
    quota: Mapping[str, str] | None = None  # hard limits of the namespace, from now on
    node: NodeState | None = None
    unready: int | None = None  # a pod, by age: its readiness probe fails
    cordon: int | None = None  # a node, by number
    taint: str | None = None  # of all its nodes, by key
    annotate: Mapping[str, str] | None = None  # the deployment itself
    log: tuple[str, ...] | None = None  # what the running container of the first pod has printed
    # to Prometheus
    prometheus: Literal["stopped", "frozen", "new"] | None = None  # new: it remembers nothing from before
    relabel: tuple[Mapping[str, object], ...] | None = None  # metric_relabel_configs of all jobs
    scraped_twice: bool | None = None  # a second job scrapes the same pages
    # to a real server
    requests: Requests | None = None
    worker: Literal["frozen", "killed"] | None = None
    core: Literal["frozen", "killed"] | None = None  # the engine's process, between API and worker
    api: Literal["frozen"] | None = None
    engine: Literal["asleep", "deeply asleep", "paused"] | None = None
    ends: bool | None = None  # the process is waited for, and the kubelet tells of its end

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Deed":
        if len(self.model_fields_set) != 1:
            raise ValueError(f"one deed each, not {sorted(self.model_fields_set) or 'none'}")
        return self


class Row(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
    fault: str  # what is done, in words
    part: Part  # where the state comes from
    runbook: str
    alert: Mapping[str, str]  # the labels by which the bot hears of it
    service: Service = Service()
    server: str | None = None  # of a real vLLM: which of the file's servers
    do: tuple[Deed, ...] = ()
    shows: tuple[Sight, ...]  # asserted before the bot looks
    expect: Mapping[str, Expected]  # of every other rule: not confirmed
    note: str | None = None

    @model_validator(mode="after")
    def _has_its_server(self) -> "Row":
        if (self.part == "real vLLM") != (self.server is not None):
            raise ValueError("rows of part `real vLLM`, and only they, name a server")
        return self


class Server(_Strict):
    """A real vLLM, started once for its rows. `fails`: it ends by itself at the start, which is the fault."""

    flags: Flags
    hidden: int = 128  # size of its model
    layers: int = 2
    context: int = 2048
    env: Mapping[str, str] = Field(default_factory=dict)
    fails: bool = False


class RowFile(_Strict):
    servers: Mapping[str, Server] = Field(default_factory=dict)
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _servers_exist(self) -> "RowFile":
        if unknown := sorted({r.server for r in self.rows if r.server is not None} - set(self.servers)):
            raise ValueError(f"no server {', '.join(unknown)}")
        return self


def load(folder: Path = FOLDER) -> tuple[RowFile, ...]:
    """All files of the folder, by name. Raises RowError."""
    files = tuple(_load(path) for path in sorted(folder.glob("*.yaml")))
    names = [row.name for file in files for row in file.rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RowError(f"rows of the same name in {folder}: {', '.join(twice)}")
    return files


def light(files: Sequence[RowFile]) -> tuple[Row, ...]:
    """The rows that need no real vLLM."""
    return tuple(row for file in files for row in file.rows if row.server is None)


def _load(path: Path) -> RowFile:
    try:
        return RowFile.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        raise RowError(f"{path}:\n  " + "\n  ".join(lines)) from error
