"""The alerting rules of the sandbox's Prometheus: what a team would write for its service, with short windows.

The names are those that the bot's runbooks match; the thresholds are the service's SLO and the usual bands. A scrape
or two that is lost, as happens each second on busy cores, resolves nothing.
"""

from typing import Any

KEEP_FIRING_SECONDS = 5


def rules(
    namespace: str, ttft_slo_seconds: float, *, window_seconds: int = 10, for_seconds: int = 3, queue: int = 50
) -> dict[str, Any]:
    """One group for the services of `namespace`; alerts carry `namespace` and `model_name`, as vLLM's series do."""
    selector = f'{{namespace="{namespace}"}}'
    rate = f"rate(vllm:time_to_first_token_seconds_bucket{selector}[{window_seconds}s])"
    ttft = f"histogram_quantile(0.99, sum by (le, namespace, model_name) ({rate}))"
    waiting = f"sum by (namespace, model_name) (vllm:num_requests_waiting{selector})"
    cache = f"max by (namespace, model_name) (vllm:kv_cache_usage_perc{selector})"
    return {
        "groups": [
            {
                "name": f"vllm-{namespace}",
                "rules": [
                    _rule("VllmHighTTFT", f"{ttft} > {ttft_slo_seconds}", for_seconds, "critical", "P99 TTFT over SLO"),
                    _rule("VllmQueueDepthHigh", f"{waiting} > {queue}", for_seconds, "warning", "Requests wait"),
                    _rule("VllmKVCacheUsageHigh", f"{cache} > 0.95", for_seconds, "warning", "KV cache nearly full"),
                ],
            }
        ]
    }


def _rule(name: str, expression: str, for_seconds: int, severity: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": f"{for_seconds}s",
        "keep_firing_for": f"{KEEP_FIRING_SECONDS}s",
        "labels": {"severity": severity},
        "annotations": {"summary": f"{summary} ({{{{ $labels.model_name }}}})"},
    }
