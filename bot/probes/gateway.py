"""What the router or gateway before a service says of it: how many requests arrive there, and how many fail.

It is the only one that counts requests a dead or hung replica never finished. Which one there is, is found by its
metrics: production-stack's router, llm-d's endpoint picker (under its names of several years), or Istio.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bot.fleet import Service
from bot.ports import Sources
from bot.probes.asking import Later, number, whole
from bot.vllm import series

# Which of the failures are clients' own the endpoint picker tells of what it refuses itself, not of replicas' answers.
_NOT_REFUSED = 'error_code!="BadRequest"'
_EPP = ("llm_d_epp_request", "inference_objective_request", "inference_model_request")
_ROUTER, _PICKER, _ISTIO = "production-stack router", "llm-d endpoint picker", "Istio"


@dataclass(frozen=True, slots=True)
class Gateway:
    """None: no gateway is known, or it has nothing to say. error_ratio is None without traffic."""

    name: str | None = None
    arriving_per_second: float | None = None
    error_ratio: float | None = None
    failed_per_second: float | None = None
    knows_codes: bool = False  # its failures are 5xx; others count whatever went wrong, clients' faults among it


def gateway_of(sources: Sources, service: Service, selector: str) -> Gateway:
    """Raises SourceError if Prometheus does not answer."""
    models = _models(sources, service, selector)
    asked = []
    if models:
        router = f"model=~{models}"
        all_, failed = f"vllm:num_incoming_requests_total{{{router}}}", f"vllm:request_errors_total{{{router}}}"
        asked.append((_ROUTER, all_, failed))
        epp = f"model_name=~{models}"
        asked += [(_PICKER, f"{n}_total{{{epp}}}", f"{n}_error_total{{{epp},{_NOT_REFUSED}}}") for n in _EPP]
    for ref in service.workloads:
        where = f'destination_workload_namespace="{ref.namespace}",destination_workload="{ref.name}"'
        own = f'reporter="destination",{where}'
        failed = f'istio_requests_total{{{own},response_code=~"5.."}}'
        asked.append((_ISTIO, f"istio_requests_total{{{own}}}", failed))
    rates = [(name, Later(_rate(sources, all_)), Later(_rate(sources, failed))) for name, all_, failed in asked]
    for name, all_asked, failed_asked in rates:
        if (arriving := all_asked.get()) is not None:
            # A series of failures is there from the first failure on.
            failures = failed_asked.get() or 0.0
            ratio = failures / arriving if arriving > 0 else None
            return Gateway(name, arriving, ratio, failures, knows_codes=name == _ISTIO)
    return Gateway()


def _rate(sources: Sources, metric: str) -> Callable[[], float | None]:
    return lambda: number(sources.metrics, f"sum(rate({metric}[{sources.window}]))")


def _models(sources: Sources, service: Service, selector: str) -> str | None:
    """The names under which the service's model is asked for, as a quoted regular expression."""
    found = whole(sources.metrics, f"group by (model_name) ({series.RUNNING}{{{series.engines(selector)}}})")
    names = {s.labels["model_name"] for s in found.samples if s.labels.get("model_name")}
    names |= {service.model} if service.model else set()
    return series.any_of(re.escape(name).replace(r"\-", "-") for name in sorted(names)) if names else None
