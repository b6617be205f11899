"""Are there long prompts, how long do they keep the engine, and may others run meanwhile?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from bot.ports import SourceError, Sources
from bot.probes.asking import Later, quantile
from bot.probes.served import (
    ServingPod,
    by_their_servers,
    reporting,
    selector_of,
    service_of,
    serving_pods,
    why_silent,
)
from bot.vllm import series
from bot.vllm.buckets import QuantileRange

T = TypeVar("T")

_NEARLY_ALL = 0.999
_LONG_TOKENS = 1000.0
_LONG_SECONDS = 0.5


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
    # At least one in a hundred is longer than what one step may compute; where prompts are not chunked, than 1,000
    # tokens. Not known where there are some, and fewer, or where the bucket's edges leave it open.
    long_prompts: bool | None = None
    long_prefills: bool | None = None  # of half a second and more; likewise
    chunked_prefill: bool | None = None  # None where replicas differ, or it cannot be seen
    max_num_batched_tokens: int | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = Later(lambda: by_their_servers(sources, serving_pods(sources, service)))
    metrics, window = sources.metrics, sources.window
    selector = selector_of(sources, service)
    alive = Later(lambda: reporting(sources, selector))

    def asked(of: float, name: str) -> Later[QuantileRange | None]:
        return Later(lambda: quantile(metrics, of, series.histogram_rate(name, selector, window)))

    seconds, slowest = asked(0.99, series.PREFILL_TIME), asked(_NEARLY_ALL, series.PREFILL_TIME)
    lengths, longest = asked(0.99, series.PROMPT_TOKENS), asked(_NEARLY_ALL, series.PROMPT_TOKENS)
    tokens, took = lengths.get(), seconds.get()
    try:
        serving, missing = pods.get(), None
    except SourceError as error:
        serving, missing = (), f"arguments are not known: {error}"
    if alive.get() == 0:
        tokens = took = None
        missing = why_silent(metrics, selector)
    elif took is None:
        missing = f"no request has finished within {window}"
    chunked = _common(serving, lambda pod: pod.effective.chunked_prefill)
    budget = _common(serving, lambda pod: pod.effective.max_num_batched_tokens)
    limit = _LONG_TOKENS if chunked is False else budget if chunked else None
    return Reading(
        prefill_p99_low_seconds=took.low if took else None,
        prefill_p99_high_seconds=took.high if took else None,
        prompt_p99_low_tokens=tokens.low if tokens else None,
        prompt_p99_high_tokens=tokens.high if tokens else None,
        long_prompts=_beyond(limit, tokens, longest.get()),
        long_prefills=_beyond(_LONG_SECONDS, took, slowest.get()),
        chunked_prefill=chunked,
        max_num_batched_tokens=budget,
        missing=missing,
    )


def _beyond(limit: float | None, p99: QuantileRange | None, most: QuantileRange | None) -> bool | None:
    if limit is None or p99 is None or most is None:
        return None
    if p99.low >= limit:
        return True
    return False if most.high is not None and most.high <= limit else None


def _common(pods: tuple[ServingPod, ...], field: Callable[[ServingPod], T | None]) -> T | None:
    values = {field(pod) for pod in pods}
    return values.pop() if len(values) == 1 else None
