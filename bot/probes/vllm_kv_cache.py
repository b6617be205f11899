"""How full is the KV cache, and are requests thrown out of it?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.ports import Sample, Sources
from bot.probes.asking import Later, number, recent, whole
from bot.probes.served import selector_of, service_of, why_silent
from bot.vllm import series


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A full cache alone is no trouble: it is full because it is used. With preemptions and a queue it is."""

    # Of the fullest replica, the highest of late: each request that is thrown out leaves room for a moment.
    usage_ratio_max: float | None = None
    usage_ratio_mean: float | None = None  # of all, now
    preemptions_per_minute: float | None = None  # events of all replicas, not requests
    preemptions_per_request: float | None = None  # of those that finish; None where none does
    capacity_tokens: int | None = None  # of all replicas
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    metrics = sources.metrics
    selector = selector_of(sources, service_of(sources, params.service))
    engines, window = series.engines(selector), sources.window
    thrown_out = series.once(f"rate({series.PREEMPTIONS}{{{engines}}}[{window}])")
    ended = series.once(f"rate({series.FINISHED}{{{engines}}}[{window}])", "finished_reason")
    preemptions = Later(lambda: number(metrics, f"60 * sum({thrown_out})"))
    share = Later(lambda: number(metrics, f"sum({thrown_out}) / sum({ended})"))
    config = Later(
        lambda: whole(
            metrics,
            series.once(f"{series.CACHE_CONFIG}{{{engines}}}", "kv_cache_size_tokens", "num_gpu_blocks", "block_size"),
        )
    )
    peaks = Later(lambda: whole(metrics, f"max({series.kv_cache_peak(selector, recent(sources))})"))
    # The fullest engine of a replica counts: one full rank of several is enough to preempt.
    usage = whole(metrics, f"max by (namespace, pod) ({series.kv_cache_usage(selector)})").samples
    if not usage:
        return Reading(missing=why_silent(metrics, selector))
    return Reading(
        usage_ratio_max=max(s.value for s in (*usage, *peaks.get().samples)),
        usage_ratio_mean=sum(s.value for s in usage) / len(usage),
        preemptions_per_minute=preemptions.get(),
        preemptions_per_request=None if (ratio := share.get()) is None or math.isinf(ratio) else ratio,
        capacity_tokens=_capacity(config.get().samples),
    )


def _capacity(configs: Iterable[Sample]) -> int | None:
    sizes = [_tokens(sample) for sample in configs]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None


def _tokens(config: Sample) -> int | None:
    """The label `kv_cache_size_tokens` since 0.24; before, blocks times their size (too much for models with sliding
    windows)."""
    size, blocks, block = (
        config.labels.get(name, "") for name in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
    )
    if size.isdecimal():
        return int(size)
    return int(blocks) * int(block) if blocks.isdecimal() and block.isdecimal() else None
