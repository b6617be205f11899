"""What do the service's engines run with: as given, as defaulted by their version and GPU, as they say themselves?

What an engine says itself goes first: `vllm:cache_config_info` has the whole configuration of its cache.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service
from bot.ports import SourceError, Sources
from bot.probes.asking import Later, whole
from bot.probes.served import ServingPod, by_their_servers, selector_of, service_of, serving_pods
from bot.vllm import series
from bot.vllm.defaults import Effective

T = TypeVar("T")


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What all replicas have in common; where they differ it is None, and `missing` tells the values.

    `…_explicit`: given by the pod, not vLLM's default.
    """

    max_num_seqs: int | None = None
    max_num_seqs_explicit: bool | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    max_model_len_explicit: bool | None = None
    gpu_memory_utilization_ratio: float | None = None
    gpu_memory_utilization_explicit: bool | None = None
    chunked_prefill: bool | None = None
    prefix_caching: bool | None = None
    tensor_parallel_size: int | None = None
    data_parallel_size: int | None = None
    version: str | None = None
    model: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods = serving_pods(sources, service)
    if not pods:
        return Reading(missing="it has no pods that run vLLM")
    said = Later(lambda: _said(sources, service))
    served = _Served(sources, next((pod for pod in pods if pod.pod.ready), None))
    pods = by_their_servers(sources, pods)
    configs, configs_missing = said.get()
    runs = [_runs(pod, configs.get((pod.pod.namespace, pod.pod.name))) for pod in pods]
    told: dict[str, str] = {}

    def common(name: str, values: list[T]) -> T | None:
        distinct = list(dict.fromkeys(values))
        if len(distinct) > 1:
            told[name] = " or ".join(str(value) for value in distinct)
        return distinct[0] if len(distinct) == 1 else None

    def given(option: str) -> bool | None:
        return common(f"--{option}", [None if _hides(pod, option) else option in pod.arguments.given for pod in pods])

    def value(name: str, of: Callable[[Effective], T]) -> T | None:
        return common(name, [of(run) for run in runs])

    reading = Reading(
        max_num_seqs=value("max_num_seqs", lambda run: run.max_num_seqs),
        max_num_seqs_explicit=given("max-num-seqs"),
        max_num_batched_tokens=value("max_num_batched_tokens", lambda run: run.max_num_batched_tokens),
        max_model_len=value("max_model_len", lambda run: run.max_model_len) or served.max_model_len,
        max_model_len_explicit=given("max-model-len"),
        gpu_memory_utilization_ratio=value("gpu_memory_utilization", lambda run: run.gpu_memory_utilization),
        gpu_memory_utilization_explicit=given("gpu-memory-utilization"),
        chunked_prefill=value("chunked_prefill", lambda run: run.chunked_prefill),
        prefix_caching=value("prefix_caching", lambda run: run.prefix_caching),
        tensor_parallel_size=value("tensor_parallel_size", lambda run: run.tensor_parallel_size),
        data_parallel_size=value("data_parallel_size", lambda run: run.data_parallel_size),
        version=served.version,
        model=served.model or common("model", [pod.arguments.model for pod in pods]),
    )
    return _with_missing(reading, _missing(pods, told, served.missing, configs_missing))


class _Served:
    """What one ready replica says of itself: its version, and the length that its model came to."""

    def __init__(self, sources: Sources, pod: ServingPod | None) -> None:
        self.version = _image_version(pod)
        self.max_model_len: int | None = None
        self.model: str | None = None
        self.missing: str | None = None
        address = pod.address if pod is not None else None
        if address is None:
            return
        version, models = (
            Later(lambda: sources.engines.version(address)),
            Later(lambda: sources.engines.models(address)),
        )
        try:
            self.version = version.get() or self.version
            first: Mapping[str, Any] = next(iter(models.get() or ()), {})
        except SourceError as error:
            self.missing = str(error)
            return
        length, model = first.get("max_model_len"), first.get("id")
        self.max_model_len = length if isinstance(length, int) else None
        self.model = model if isinstance(model, str) else None


def _image_version(pod: ServingPod | None) -> str | None:
    return ".".join(map(str, pod.version)) if pod is not None and pod.version is not None else None


def _runs(pod: ServingPod, config: Mapping[str, str] | None) -> Effective:
    """As given and defaulted; but for what the engine says itself."""
    if config is None:
        return pod.effective
    utilization = _number(config.get("gpu_memory_utilization"))
    caching = {"True": True, "False": False}.get(config.get("enable_prefix_caching", ""))
    return dataclasses.replace(
        pod.effective,
        gpu_memory_utilization=pod.effective.gpu_memory_utilization if utilization is None else utilization,
        prefix_caching=pod.effective.prefix_caching if caching is None else caching,
    )


def _said(sources: Sources, service: Service) -> tuple[Mapping[tuple[str, str], Mapping[str, str]], str | None]:
    """The labels of each pod's `cache_config_info`, by (namespace, pod). All engines of a pod have the same."""
    try:
        selector = series.engines(selector_of(sources, service))
        samples = whole(sources.metrics, f"{series.CACHE_CONFIG}{{{selector}}}").samples
    except SourceError as error:
        return {}, f"what engines say of their cache is not known: {error}"
    return {(s.labels.get("namespace", ""), s.labels.get("pod", "")): s.labels for s in samples}, None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _hides(pod: ServingPod, option: str) -> bool:
    return pod.arguments.hidden is not None and option not in pod.arguments.given


def _missing(pods: tuple[ServingPod, ...], told: Mapping[str, str], *sources: str | None) -> str | None:
    lines = [f"replicas differ in {name}: {values}" for name, values in told.items()]
    lines += sorted({pod.arguments.hidden for pod in pods if pod.arguments.hidden is not None})
    return "; ".join([*lines, *filter(None, sources)]) or None


def _with_missing(reading: Reading, missing: str | None) -> Reading:
    return reading if missing is None else dataclasses.replace(reading, missing=missing)
