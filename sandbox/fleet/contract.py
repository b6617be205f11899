"""What may be told to the fleet, over HTTP or in its configuration file: models, offered loads, faults."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelProfile(_Strict):
    """A model's size and pace. The defaults are a 70B-class model in FP8 on 4 large GPUs, with answers cut short.

    Times hold for `reference_tensor_parallel_size`. Such a replica steps every 20 ms with up to some 30 sequences,
    where the host is the slower part, and then ever slower, where the GPU is.
    """

    weights_gib: Positive = 66.0
    kv_bytes_per_token: Positive = 327_680
    max_model_len: Annotated[int, Field(ge=1)] = 131_072
    reference_tensor_parallel_size: Annotated[int, Field(ge=1)] = 4
    host_seconds_per_step: Positive = 0.020
    weights_seconds_per_step: Positive = 0.003
    seconds_per_sequence: Positive = 0.0006
    seconds_per_prefill_token: Positive = 0.00005
    seconds_per_context_token: Annotated[float, Field(ge=0)] = 0.000000025


class RequestKind(_Strict):
    """One kind of request of a mix. Its sizes are spread evenly within `spread` around the mean."""

    weight: Positive = 1.0
    prompt_tokens: Annotated[int, Field(ge=1)] = 200
    output_tokens: Annotated[int, Field(ge=1)] = 40
    cached_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the prompt: it lies in the prefix cache already
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Load(_Strict):
    """Requests that clients offer to a service, come what may: nobody waits for an answer before sending the next."""

    namespace: str
    selector: Annotated[dict[str, str], Field(min_length=1)]  # labels of the pods, as in a Service
    requests_per_second: Annotated[float, Field(ge=0)]
    mix: Annotated[tuple[RequestKind, ...], Field(min_length=1)] = (RequestKind(),)
    timeout_seconds: Positive = 30.0  # then the client gives up, and does not come back
    handler: str = "/v1/completions"


class LoadChange(_Strict):
    """What of a load to change; the rest stays."""

    requests_per_second: Annotated[float, Field(ge=0)] | None = None
    mix: Annotated[tuple[RequestKind, ...], Field(min_length=1)] | None = None
    timeout_seconds: Positive | None = None


class Match(_Strict):
    """Which replicas. All that is given must hold; patterns are shell patterns. Nothing given: all of them."""

    namespace: str | None = None
    pod: str | None = None
    node: str | None = None
    image: str | None = None
    labels: dict[str, str] = {}
    arguments: dict[str, str] = {}  # option (with dashes) -> pattern of its value
    env: dict[str, str] = {}


class Effect(_Strict):
    """What is wrong with a replica. Effects of several faults add up."""

    slowdown: Positive = 1.0  # every step takes so many times as long
    hung: bool = False  # no step ends; /health and /metrics go on answering
    asleep: Literal[0, 1, 2] = 0  # the level of vLLM's sleep mode
    dead: bool = False  # nobody listens, though Kubernetes may think so
    hidden_metrics: tuple[str, ...] = ()  # names or patterns of metric families
    renamed_metrics: dict[str, str] = {}


class Fault(_Strict):
    match: Match
    effect: Effect


class GpuReadings(_Strict):
    """Readings that replace the simulated ones; None leaves them."""

    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    utilization_percent: float | None = None
    xid: int | None = None  # the last Xid, which stays
    ecc_single_bit: int | None = None
    ecc_double_bit: int | None = None
    correctable_remapped_rows: int | None = None
    uncorrectable_remapped_rows: int | None = None
    row_remap_failure: bool | None = None
    row_remap_pending: bool | None = None
    memory_unrepairable: bool | None = None
    clock_event_reasons: int | None = None  # NVML's bits: 0x40 is a slowdown by heat, in hardware
    recovery_action: int | None = None  # NVML's number: 0 none, 1 reset, 2 reboot, 4 drain and reset
    pcie_replays: int | None = None


class GpuFault(_Strict):
    """Something wrong with GPUs, or with the exporter that tells of them."""

    node: str = "*"
    gpu: int | None = None  # None: all of the node
    readings: GpuReadings = GpuReadings()
    hidden_fields: tuple[str, ...] = ()  # not exported on this node
    extra_fields: tuple[str, ...] = ()  # exported besides the default ones, e.g. DCGM_FI_DEV_ECC_DBE_VOL_TOTAL
    exporter_down: bool = False
    lost: bool = False  # fallen off the bus: the exporter leaves it out


class Config(_Strict):
    """The configuration file (YAML or JSON)."""

    seed: int = 1
    tick_seconds: Positive = 0.05
    models: dict[str, ModelProfile] = {}  # by served model name
    default_model: ModelProfile = ModelProfile()
    loads: dict[str, Load] = {}
    faults: dict[str, Fault] = {}
    gpu_faults: dict[str, GpuFault] = {}
