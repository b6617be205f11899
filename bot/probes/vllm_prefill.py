"""Are there long prompts, how long do they keep the engine, and may others run meanwhile?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from bot.ports import SourceError, Sources
from bot.probes.asking import Later, quantile
from bot.probes.served import ServingPod, reporting, selector_of, service_of, serving_pods, why_silent
from bot.vllm import series

T = TypeVar("T")


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """P99s over the window are bucket edges. A prompt of more than max_num_batched_tokens fills whole steps."""

    prefill_p99_low_seconds: float | None = None
    prefill_p99_high_seconds: float | None = None
    prompt_p99_low_tokens: float | None = None
    prompt_p99_high_tokens: float | None = None
    chunked_prefill: bool | None = None  # None where replicas differ, or it cannot be seen
    max_num_batched_tokens: int | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = Later(lambda: serving_pods(sources, service))
    metrics, window = sources.metrics, sources.window
    selector = selector_of(sources, service)
    alive = Later(lambda: reporting(sources, selector))
    seconds = Later(lambda: quantile(metrics, 0.99, series.histogram_rate(series.PREFILL_TIME, selector, window)))
    tokens = quantile(metrics, 0.99, series.histogram_rate(series.PROMPT_TOKENS, selector, window))
    took = seconds.get()
    try:
        serving, missing = pods.get(), None
    except SourceError as error:
        serving, missing = (), f"arguments are not known: {error}"
    if alive.get() == 0:
        tokens = took = None
        missing = why_silent(metrics, selector)
    elif took is None:
        missing = f"no request has finished within {window}"
    return Reading(
        prefill_p99_low_seconds=took.low if took else None,
        prefill_p99_high_seconds=took.high if took else None,
        prompt_p99_low_tokens=tokens.low if tokens else None,
        prompt_p99_high_tokens=tokens.high if tokens else None,
        chunked_prefill=_common(serving, lambda pod: pod.effective.chunked_prefill),
        max_num_batched_tokens=_common(serving, lambda pod: pod.effective.max_num_batched_tokens),
        missing=missing,
    )


def _common(pods: tuple[ServingPod, ...], field: Callable[[ServingPod], T | None]) -> T | None:
    values = {field(pod) for pod in pods}
    return values.pop() if len(values) == 1 else None
