"""Did the last rollout make the service slower, under the load it had before?

Means of the window before the rollout are compared with the new revision's pods now. Means, since a P99 is only known
up to its bucket.
"""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from bot.ports import Metrics, Sources
from bot.probes.asking import Later, number
from bot.probes.rollouts import Rollout, last_rollout
from bot.probes.served import selector_of, service_of
from bot.vllm import series

_MORE_TO_COMPUTE = 1.3  # times the tokens that the prefix cache does not spare


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """after / before: 2 is twice as slow."""

    ttft_ratio: float | None = None
    tpot_ratio: float | None = None
    prefill_ratio: float | None = None
    load_ratio: float | None = None  # requests that arrive, per replica that serves
    prompt_ratio: float | None = None  # tokens of a prompt, in the mean
    answer_ratio: float | None = None  # tokens of an answer: longer ones make larger batches, and these slower tokens
    # A new revision starts with an empty prefix cache: until that has filled, its prefills take longer, and slow down
    # the tokens of the requests that they share a step with.
    cache_as_before: bool | None = None  # True, or not known
    ttft_before_seconds: float | None = None
    ttft_after_seconds: float | None = None
    tpot_before_seconds: float | None = None
    tpot_after_seconds: float | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    rollout = last_rollout(sources, service)
    if rollout is None:
        return Reading(missing="no rollout can be told: the workload has no pods or ReplicaSets")
    everything = selector_of(sources, service)
    before = _Stretch(sources.metrics.at(rollout.began_at), everything, everything, sources.window)
    after = _Stretch(sources.metrics, _new_pods(rollout), everything, sources.window)
    return Reading(
        ttft_ratio=_ratio(after.ttft, before.ttft),
        tpot_ratio=_ratio(after.tpot, before.tpot),
        prefill_ratio=_ratio(after.prefill, before.prefill),
        load_ratio=_ratio(after.arriving, before.arriving),
        prompt_ratio=_ratio(after.prompt, before.prompt),
        answer_ratio=_ratio(after.answer, before.answer),
        cache_as_before=_as_before(after.cached.get(), before.cached.get()),
        ttft_before_seconds=before.ttft.get(),
        ttft_after_seconds=after.ttft.get(),
        tpot_before_seconds=before.tpot.get(),
        tpot_after_seconds=after.tpot.get(),
        missing=_missing(before, after, rollout.began_at),
    )


class _Stretch:
    """Means over one window; `pods` is whose latency, `everything` whose load."""

    def __init__(self, metrics: Metrics, pods: str, everything: str, window: str) -> None:
        def mean(name: str) -> Later[float | None]:
            return Later(lambda: number(metrics, series.mean(name, pods, window)))

        self.ttft, self.tpot, self.prefill = mean(series.TTFT), mean(series.TPOT), mean(series.PREFILL_TIME)
        self.prompt, self.answer = mean(series.PROMPT_TOKENS), mean(series.ANSWER_TOKENS)
        self.cached = Later(lambda: number(metrics, series.cached_ratio(pods, window)))
        # vLLM does not count arrivals: what finishes, and what has come to wait or run in the meantime.
        engines = series.engines(everything)
        self.arriving = Later(
            lambda: number(
                metrics,
                f"(sum(rate({series.FINISHED}{{{engines}}}[{window}]))"
                f" + sum(deriv({series.WAITING}{{{engines}}}[{window}]))"
                f" + sum(deriv({series.RUNNING}{{{engines}}}[{window}])))"
                f" / count({series.RUNNING}{{{engines}}})",
            )
        )


def _new_pods(rollout: Rollout) -> str:
    ref = rollout.workload
    pattern = (
        series.pods_of_replica_set(rollout.to.replica_set) if rollout.to else series.pods_of_stateful_set(ref.name)
    )
    return series.pods_matcher({ref.namespace: [pattern]})


def _ratio(after: Later[float | None], before: Later[float | None]) -> float | None:
    now, then = after.get(), before.get()
    return now / then if now is not None and then is not None and then > 0 else None


def _as_before(now: float | None, then: float | None) -> bool | None:
    """Where the cache is not exported, it is not used. By what is left to compute: 80 % cached and then 40 % is three
    times the work."""
    if not then:
        return True
    return True if now is not None and 1 - now <= _MORE_TO_COMPUTE * (1 - then) else None


def _missing(before: _Stretch, after: _Stretch, began_at: datetime) -> str | None:
    if before.ttft.get() is None:
        return f"Prometheus has no latency of the window before the rollout of {began_at:%H:%M:%S} UTC"
    if after.ttft.get() is None:
        return "the new revision's pods have served nothing yet, or export nothing"
    return None
