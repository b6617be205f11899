"""How long do users wait for the first token, for each next one, for all of it, and in which phase?"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.ports import Sources
from bot.probes.asking import Later, number, quantile
from bot.probes.served import reporting, selector_of, service_of, why_silent
from bot.vllm import series
from bot.vllm.buckets import QuantileRange


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """P99s over the window are bucket edges; a low without a high is above the last bucket."""

    ttft_p99_low_seconds: float | None = None
    ttft_p99_high_seconds: float | None = None
    tpot_p99_low_seconds: float | None = None  # per request, after the first token
    tpot_p99_high_seconds: float | None = None
    e2e_p99_low_seconds: float | None = None
    e2e_p99_high_seconds: float | None = None
    queue_p99_low_seconds: float | None = None
    queue_p99_high_seconds: float | None = None
    prefill_p99_low_seconds: float | None = None
    prefill_p99_high_seconds: float | None = None
    decode_p99_low_seconds: float | None = None
    decode_p99_high_seconds: float | None = None
    queue_mean_seconds: float | None = None
    prefill_mean_seconds: float | None = None
    decode_mean_seconds: float | None = None
    longest_phase: str | None = None  # "queue" | "prefill" | "decode", by their means
    finished_per_second: float | None = None
    missing: str | None = None


_P99 = {
    "ttft": series.TTFT,
    "tpot": series.TPOT,
    "e2e": series.E2E,
    "queue": series.QUEUE_TIME,
    "prefill": series.PREFILL_TIME,
    "decode": series.DECODE_TIME,
}
_PHASES = ("queue", "prefill", "decode")


def observe(params: Params, sources: Sources) -> Reading:
    metrics, window = sources.metrics, sources.window
    selector = selector_of(sources, service_of(sources, params.service))

    def p99(name: str) -> Later[QuantileRange | None]:
        return Later(lambda: quantile(metrics, 0.99, series.histogram_rate(_P99[name], selector, window)))

    def mean(name: str) -> Later[float | None]:
        return Later(lambda: number(metrics, series.mean(_P99[name], selector, window)))

    alive = Later(lambda: reporting(sources, selector))
    finished = Later(lambda: number(metrics, f"sum(rate({series.FINISHED}{{{selector}}}[{window}]))"))
    ranges, means = {name: p99(name) for name in _P99}, {name: mean(name) for name in _PHASES}
    if alive.get() == 0:
        # What rate() still sees of pods that have gone silent is about the past.
        return Reading(missing=why_silent(metrics, selector))
    found: dict[str, float | None] = {}
    for name, later in ranges.items():
        edges = later.get()
        found[f"{name}_p99_low_seconds"] = edges.low if edges else None
        found[f"{name}_p99_high_seconds"] = edges.high if edges else None
    seconds = {name: later.get() for name, later in means.items()}
    known = {name: value for name, value in seconds.items() if value is not None}
    return Reading(
        **found,
        **{f"{name}_mean_seconds": value for name, value in seconds.items()},
        longest_phase=max(known, key=lambda name: known[name]) if len(known) == len(_PHASES) else None,
        finished_per_second=finished.get(),
        missing=None if known else f"no request has finished within {window}",
    )
