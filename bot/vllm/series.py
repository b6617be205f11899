"""The names of vLLM's series by version, and how the series of one service's pods are selected.

Pods are selected by their ReplicaSets, never by a prefix: `chat-70b-.*` would count the pods of `chat-70b-canary`, too.
Selecting by pod also leaves out the production-stack router, which exports `vllm:` names of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from bot.ports import promql_quote

WAITING = "vllm:num_requests_waiting"
RUNNING = "vllm:num_requests_running"
FINISHED = "vllm:request_success_total"  # for whatever reason they finished; a client's disconnect is not counted
PREEMPTIONS = "vllm:num_preemptions_total"
CACHE_CONFIG = "vllm:cache_config_info"
SLEEP_STATE = "vllm:engine_sleep_state"  # since 0.11
REJECTIONS = "vllm:admission_rejections_total"  # since 0.32; has no engine label
CORRUPTED = "vllm:corrupted_requests_total"  # only with VLLM_COMPUTE_NANS_IN_LOGITS=1
HTTP_REQUESTS = "http_requests_total"  # /health and /metrics are not counted in it
TTFT = "vllm:time_to_first_token_seconds"
E2E = "vllm:e2e_request_latency_seconds"
QUEUE_TIME = "vllm:request_queue_time_seconds"
PREFILL_TIME = "vllm:request_prefill_time_seconds"
DECODE_TIME = "vllm:request_decode_time_seconds"
PROMPT_TOKENS = "vllm:request_prompt_tokens"
ANSWER_TOKENS = "vllm:request_generation_tokens"
TPOT = "vllm:request_time_per_output_token_seconds"

# The new name first: 0.9.2 to 0.10.2 export both.
_KV_CACHE_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
# Up to 0.10 there was only the second, which counts intervals between tokens, not requests.
_TPOT = (TPOT, "vllm:time_per_output_token_seconds")

_PREFIX_CACHE = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")

# What Kubernetes puts behind a ReplicaSet's name, and the alphabet of pod-template hashes (no vowels: no words).
_SUFFIX = "[a-z0-9]{5}"
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
_GENERATED_NAME_LIMIT = 58  # 63 less the suffix: longer names are cut before it is added


def kv_cache_usage(selector: str) -> str:
    """Between 0 and 1, by pod and engine. Despite its name it never was a percentage."""
    return " or ".join(f"{name}{{{engines(selector)}}}" for name in _KV_CACHE_USAGE)


def kv_cache_peak(selector: str, span: str) -> str:
    """The highest of late, of engines that report now."""
    found = [f"{name}{{{engines(selector)}}}" for name in _KV_CACHE_USAGE]
    return " or ".join(f"(max_over_time({usage}[{span}]) and {usage})" for usage in found)


def histogram_rate(name: str, selector: str, window: str) -> str:
    """Bucket rates by `le`, for a quantile. TPOT is looked for under its older name, too."""
    names = _TPOT if name == TPOT else (name,)
    return f"sum by (le) ({_either(names, 'bucket', selector, window)})"


def mean(name: str, selector: str, window: str) -> str:
    """NaN while nothing was observed."""
    names = _TPOT if name == TPOT else (name,)
    total, count = (_either(names, part, selector, window) for part in ("sum", "count"))
    return f"sum({total}) / sum({count})"


def cached_ratio(selector: str, window: str) -> str:
    """Of the prompts' tokens, those that the prefix cache had. NaN while nothing was asked."""
    hits, queries = (f"sum(rate({name}{{{engines(selector)}}}[{window}]))" for name in _PREFIX_CACHE)
    return f"{hits} / {queries}"


def engines(selector: str) -> str:
    """Only what an engine exports: a router or a proxy in the same pod has no `engine` label."""
    return f'{selector},engine!=""'


def once(expression: str, *labels: str) -> str:
    """Each engine's series once, though two jobs may scrape its page (a PodMonitor and a ServiceMonitor)."""
    return f"max by ({', '.join(('namespace', 'pod', 'engine', *labels))}) ({expression})"


def _either(names: Sequence[str], part: str, selector: str, window: str) -> str:
    return " or ".join(f"rate({name}_{part}{{{engines(selector)}}}[{window}])" for name in names)


def pods_of_replica_set(name: str) -> str:
    """A pattern that matches exactly the pods of this ReplicaSet."""
    return _literal(f"{name}-"[:_GENERATED_NAME_LIMIT]) + _SUFFIX


def pods_of_stateful_set(name: str) -> str:
    return _literal(name) + "-[0-9]+"


def pods_of_deployment(name: str) -> str:
    """For when the API server cannot name the ReplicaSets. It does not match a Deployment whose name goes on after
    this one (`chat-70b-canary`), as that has one part more."""
    return f"{_literal(name)}-{_SAFE}{{1,10}}-{_SAFE}{{5}}"


def pods_matcher(patterns: Mapping[str, Iterable[str]], *, prefix: str = "") -> str:
    """Label matchers for the pods of one or more namespaces: namespace to patterns.

    prefix: "exported_" where Prometheus renamed an exporter's own labels (honor_labels is off).
    """
    namespaces = sorted(patterns)
    pods = sorted({pattern for found in patterns.values() for pattern in found})
    where = (
        f"{prefix}namespace={promql_quote(namespaces[0])}"
        if len(namespaces) == 1
        else f"{prefix}namespace=~{any_of(_literal(n) for n in namespaces)}"
    )
    return f"{where},{prefix}pod=~{any_of(pods)}"


def any_of(patterns: Iterable[str]) -> str:
    """A quoted PromQL regular expression."""
    return promql_quote("|".join(patterns))


def _literal(name: str) -> str:
    return re.escape(name).replace(r"\-", "-")
