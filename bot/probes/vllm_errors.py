"""Which share of the requests fails, as the gateway, the replicas and their engines tell it, and what refuses them?

vLLM counts no errors of its own. Its HTTP counters lose what fails when an engine dies, as the process ends before the
next scrape; so the gateway's count goes before it, and restarts are told beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from bot.ports import Sources
from bot.probes.asking import Later, number
from bot.probes.gateway import Gateway, gateway_of
from bot.probes.served import reporting, selector_of, service_of, why_silent
from bot.vllm import series

_NOTABLE = 0.25  # of the failures


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Ratios over the window; None without traffic, since 0 of 0 is no success. `error_ratio` is the gateway's where
    there is one, else of the replicas' own HTTP."""

    error_ratio: float | None = None
    counted_by: str | None = None  # "llm-d endpoint picker" …, "replicas' HTTP"
    counted_as: str | None = None  # "5xx", or "failures of any kind" where the gateway's counter knows no codes
    servers_fault: bool | None = None  # True: clients' own faults are no notable part of error_ratio
    requests_per_second: float | None = None
    gateway_error_ratio: float | None = None
    http_5xx_ratio: float | None = None
    http_4xx_ratio: float | None = None  # the clients' faults
    finished_error_ratio: float | None = None  # of what engines finished
    rejections_per_minute: float | None = None  # by --max-num-queued-reqs or -tokens; None before vLLM 0.32
    restarts: int | None = None  # of processes, within the window
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    selector = selector_of(sources, service)
    gateway_asked = Later(lambda: gateway_of(sources, service, selector))
    counts = _Counts(sources, selector)
    alive = Later(lambda: reporting(sources, selector))
    gateway, replicas = gateway_asked.get(), alive.get()
    served = counts.http.get()
    server, client = _share(counts.server.get(), served), _share(counts.client.get(), served)
    finished = counts.finished.get()
    by_gateway = gateway.error_ratio is not None
    codes_known = not by_gateway or gateway.knows_codes
    ratio = gateway.error_ratio if by_gateway else server
    missing = None
    if replicas == 0:
        missing = why_silent(sources.metrics, selector)
    elif served is None and gateway.name is None:
        missing = f"no requests within {sources.window}, and no gateway's metrics"
    restarts, rejected = counts.restarts.get(), counts.rejected.get()
    return Reading(
        error_ratio=ratio,
        counted_by=gateway.name if by_gateway else "replicas' HTTP" if server is not None else None,
        counted_as=None if ratio is None else "5xx" if codes_known else "failures of any kind",
        servers_fault=None if ratio is None else codes_known or _few(counts.client.get(), gateway) or None,
        requests_per_second=gateway.arriving_per_second if gateway.name is not None else served,
        gateway_error_ratio=gateway.error_ratio,
        http_5xx_ratio=server,
        http_4xx_ratio=client,
        finished_error_ratio=_share(counts.failed.get(), finished),
        rejections_per_minute=None if rejected is None else 60 * rejected,
        restarts=None if restarts is None else round(restarts),
        missing=missing,
    )


class _Counts:
    """Asked all at once; per second, but for restarts."""

    def __init__(self, sources: Sources, selector: str) -> None:
        def rate(metric: str, *matchers: str) -> Later[float | None]:
            return Later(
                _asking(sources, f"sum(rate({metric}{{{','.join((selector, *matchers))}}}[{sources.window}]))")
            )

        api = 'handler=~"/v1/.*"'
        self.http = rate(series.HTTP_REQUESTS, api)
        self.server = rate(series.HTTP_REQUESTS, api, 'status="5xx"')
        self.client = rate(series.HTTP_REQUESTS, api, 'status="4xx"')
        self.finished = rate(series.FINISHED)
        self.failed = rate(series.FINISHED, 'finished_reason="error"')
        self.rejected = rate(series.REJECTIONS)
        starts = f"changes(process_start_time_seconds{{{selector}}}[{sources.window}])"
        self.restarts = Later(_asking(sources, f"sum({starts})"))


def _asking(sources: Sources, query: str) -> Callable[[], float | None]:
    return lambda: number(sources.metrics, query)


def _few(refused: float | None, gateway: Gateway) -> bool:
    """Do replicas answer far fewer requests with 4xx than fail at the gateway? Else those may be these."""
    return (refused or 0.0) <= _NOTABLE * (gateway.failed_per_second or 0.0)


def _share(part: float | None, whole: float | None) -> float | None:
    """A series of failures is there from the first failure on: where others are and it is not, nothing failed."""
    return None if not whole else (part or 0.0) / whole
