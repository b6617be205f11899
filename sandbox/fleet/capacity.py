"""What a replica can do: from its arguments, its GPUs' memory and its model to the limits and pace of its engine."""

from dataclasses import dataclass
from random import Random

from sandbox.fleet.arguments import Arguments, number
from sandbox.fleet.contract import ModelProfile, RequestKind
from sandbox.fleet.engine import Engine, Limits, Request, StepCost
from sandbox.fleet.measurements import EngineMeasurements

LARGE_GPU_GIB = 70  # from here on vLLM chooses larger defaults
HUGE_GPU_GIB = 160
OVERHEAD_GIB = 3.0  # activations, CUDA graphs, the driver's context
GPU_SPEEDUP_EXPONENT = 0.7  # twice the tensor parallel size is 1.6 times as fast, as GPUs must talk to each other


class CannotStart(ValueError):
    """vLLM would end at the start. The text says why, in its way."""


@dataclass(frozen=True)
class Gpu:
    product: str  # as the node label has it: NVIDIA-H100-80GB-HBM3
    memory_mib: int

    @property
    def memory_gib(self) -> float:
        return self.memory_mib / 1024

    @property
    def large(self) -> bool:
        return self.memory_gib >= LARGE_GPU_GIB and "A100" not in self.product


@dataclass(frozen=True)
class Capacity:
    limits: Limits
    cost: StepCost
    gpus: int
    tensor_parallel_size: int
    gpu_memory_utilization: float
    kv_cache_memory_bytes: int | None  # None: not given
    kv_cache_dtype: str
    block_size_given: bool
    blocks_override: int | None
    gpu_memory_used_mib: int  # per GPU, once loaded


def capacity(arguments: Arguments, gpu: Gpu, model: ModelProfile) -> Capacity:
    """Raises CannotStart, where vLLM refuses the arguments or finds no room for the KV cache."""
    tp = _integer(arguments, "tensor-parallel-size", 1)
    gpus = tp * _integer(arguments, "pipeline-parallel-size", 1)
    utilization = _ratio(arguments, "gpu-memory-utilization", 0.92)
    block_size = _integer(arguments, "block-size", 16)
    dtype = arguments.get("kv-cache-dtype") or "auto"
    token_bytes = model.kv_bytes_per_token / (2 if dtype.startswith("fp8") else 1)
    kv_bytes = _optional(arguments, "kv-cache-memory-bytes")
    override = _optional(arguments, "num-gpu-blocks-override")
    weights_gib = model.weights_gib / gpus
    room_gib = gpu.memory_gib * utilization - weights_gib - OVERHEAD_GIB
    room_bytes = kv_bytes * gpus if kv_bytes is not None else room_gib * gpus * 2**30
    blocks = override if override is not None else int(room_bytes / token_bytes / block_size)
    if blocks < 2:
        raise CannotStart(
            f"No available memory for the cache blocks: {gpu.memory_gib:.1f} GiB x {utilization} hold {weights_gib:.1f}"
            f" GiB of weights and {OVERHEAD_GIB} GiB besides on each of {gpus} GPUs. Raise gpu_memory_utilization or"
            " tensor_parallel_size."
        )
    limits = _limits(arguments, gpu, model, block_size, blocks)
    used_gib = weights_gib + OVERHEAD_GIB + blocks * block_size * token_bytes / gpus / 2**30
    return Capacity(
        limits=limits,
        cost=_cost(model, tp),
        gpus=gpus,
        tensor_parallel_size=tp,
        gpu_memory_utilization=utilization,
        kv_cache_memory_bytes=kv_bytes,
        kv_cache_dtype=dtype,
        block_size_given=arguments.get("block-size") is not None,
        blocks_override=override,
        gpu_memory_used_mib=min(gpu.memory_mib, round(used_gib * 1024)),
    )


def _limits(arguments: Arguments, gpu: Gpu, model: ModelProfile, block_size: int, blocks: int) -> Limits:
    batched = 16384 if gpu.memory_gib >= HUGE_GPU_GIB else 8192 if gpu.large else 2048
    usable_tokens = (blocks - 1) * block_size
    wanted = arguments.get("max-model-len")
    if wanted in ("auto", "-1"):
        max_model_len = min(model.max_model_len, usable_tokens)
    else:
        max_model_len = _integer(arguments, "max-model-len", model.max_model_len)
    if max_model_len > usable_tokens:
        raise CannotStart(
            f"To serve at least one request with the model's max seq len ({max_model_len}), more KV cache is needed"
            f" than there is: {usable_tokens} tokens. Lower max_model_len or raise gpu_memory_utilization."
        )
    limits = Limits(
        max_num_seqs=_integer(arguments, "max-num-seqs", 1024 if gpu.large else 256),
        max_num_batched_tokens=_integer(arguments, "max-num-batched-tokens", batched),
        max_model_len=max_model_len,
        block_size=block_size,
        num_blocks=blocks,
        chunked_prefill=arguments.get("enable-chunked-prefill") != "false",
        prefix_caching=arguments.get("enable-prefix-caching") != "false",
        long_prefill_token_threshold=_optional(arguments, "long-prefill-token-threshold") or 0,
        max_num_queued_reqs=_optional(arguments, "max-num-queued-reqs"),
        max_num_queued_tokens=_optional(arguments, "max-num-queued-tokens"),
    )
    if not limits.chunked_prefill and limits.max_num_batched_tokens < max_model_len:
        raise CannotStart(
            f"max_num_batched_tokens ({limits.max_num_batched_tokens}) is smaller than max_model_len ({max_model_len})"
            " while chunked prefill is off: longer prompts could never run."
        )
    return limits


def _cost(model: ModelProfile, tensor_parallel_size: int) -> StepCost:
    slower = (model.reference_tensor_parallel_size / tensor_parallel_size) ** GPU_SPEEDUP_EXPONENT
    return StepCost(
        host_seconds=model.host_seconds_per_step,
        weights_seconds=model.weights_seconds_per_step * slower,
        sequence_seconds=model.seconds_per_sequence * slower,
        prefill_token_seconds=model.seconds_per_prefill_token * slower,
        context_token_seconds=model.seconds_per_context_token * slower,
    )


def _integer(arguments: Arguments, name: str, default: int) -> int:
    value = _optional(arguments, name)
    if value is None:
        return default
    if value < 1:
        raise CannotStart(f"argument --{name}: {value} is not positive")
    return value


def _optional(arguments: Arguments, name: str) -> int | None:
    text = arguments.get(name)
    if text is None or text == "None":
        return None
    try:
        return number(text)
    except ValueError as error:
        raise CannotStart(f"argument --{name}: invalid int value: {text!r}") from error


def _ratio(arguments: Arguments, name: str, default: float) -> float:
    text = arguments.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError as error:
        raise CannotStart(f"argument --{name}: invalid float value: {text!r}") from error
    if not 0 < value <= 1:
        raise CannotStart(f"argument --{name}: {value} is not within (0, 1]")
    return value


def draw(kinds: tuple[RequestKind, ...], random: Random, now: float) -> Request:
    """One request of the mix: the kind by weight, its sizes spread evenly around the kind's mean."""
    kind = kinds[0] if len(kinds) == 1 else random.choices(kinds, [kind.weight for kind in kinds])[0]
    prompt = max(1, round(kind.prompt_tokens * random.uniform(1 - kind.spread, 1 + kind.spread)))
    output = max(1, round(kind.output_tokens * random.uniform(1 - kind.spread, 1 + kind.spread)))
    return Request(prompt, output, now, cached_tokens=int(prompt * kind.cached_ratio))


def saturation_rps(limits: Limits, cost: StepCost, kinds: tuple[RequestKind, ...], *, slowdown: float = 1.0) -> float:
    """Requests of this mix that one replica finishes in a second when its queue is never empty: tried, not derived."""
    warm_up_seconds, measured_seconds = 10.0, 30.0
    measurements = EngineMeasurements(limits.max_model_len)
    engine = Engine(limits, cost, measurements)
    engine.slowdown = slowdown
    random = Random(1)
    now, finished_before = 0.0, 0
    while now < warm_up_seconds + measured_seconds:
        while engine.waiting < 8:
            engine.submit(draw(kinds, random, now), now)
        now += 0.05
        engine.advance(now)
        if now < warm_up_seconds:
            finished_before = measurements.finished_total
    return (measurements.finished_total - finished_before) / measured_seconds
