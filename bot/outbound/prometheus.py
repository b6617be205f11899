"""Prometheus, read through prometheus-api-client with a query path of our own.

The library's own drops warnings (a partial answer of Thanos or Mimir looks complete), waits for ever, asks a server
that is too slow three times more, and puts a POSTed query into the URL.
"""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlencode

import structlog
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import BaseModel, ValidationError
from requests.adapters import HTTPAdapter

from bot.outbound.json_http import RETRY, JsonHttp, Reply
from bot.ports import Answer, FiringAlert, Sample, Series, SourceError

# The server gives up a little before we do, since it can say why.
_SERVER_SHARE = 0.8

_FINAL = {"bad_data", "execution"}
_RETRYABLE = {"timeout", "canceled", "unavailable", "internal", "too_many_requests"}

_MATRIX_HINT = "Put the range selector into a function: rate(), max_over_time() …"
_HISTOGRAM_HINT = "Take a number of it: histogram_quantile(), histogram_count() …"
_ADDRESS_HINT = "Does VLLM_ONCALL_PROMETHEUS__URL point at the API of a Prometheus?"

_log = structlog.get_logger(__name__)


class _RefusedError(SourceError):
    """It was reached, and will not answer this query, however often it is asked."""


class _Instant(BaseModel):
    metric: dict[str, str]
    value: tuple[float, float] | None = None  # absent: a native histogram


class _Range(BaseModel):
    metric: dict[str, str]
    values: list[tuple[float, float]] | None = None


_Form = TypeVar("_Form", _Instant, _Range)


class _Found(BaseModel):
    resultType: Literal["vector", "matrix", "scalar", "string"]
    result: Any


class _Alert(BaseModel):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str
    activeAt: str


class Prometheus(PrometheusConnect):
    """Implements ports.Metrics. One object serves all threads."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        public_url: str | None = None,
        token: str | None = None,
        tenant: str | None = None,
        threads: int = 32,
    ) -> None:
        headers = {"X-Scope-OrgID": tenant, "Authorization": token and f"Bearer {token}"}
        given = {name: value for name, value in headers.items() if value}
        super().__init__(url, headers=given, retry=RETRY)
        self._session.mount(url, HTTPAdapter(max_retries=RETRY, pool_maxsize=threads))
        setting = "VLLM_ONCALL_PROMETHEUS__URL"
        self._http = JsonHttp("Prometheus", url, setting, timeout_seconds, self._session, given)
        self._public_url = (public_url or url).rstrip("/")
        self._time: datetime | None = None

    def at(self, time: datetime) -> Self:
        past = copy.copy(self)
        past._time = time
        return past

    def instant(self, query: str) -> Answer:
        """No samples: no series matches. A NaN sample: the series are there, and have nothing to say now."""
        moment = {"time": str(self._time.timestamp())} if self._time else {}
        found, warnings = self._query("/api/v1/query", query, moment)
        if found.resultType == "scalar":
            found = _Found(resultType="vector", result=[{"metric": {}, "value": found.result}])
        if found.resultType != "vector":
            why = f"`{query}` gives a {found.resultType}, not one value per series"
            raise _RefusedError("Prometheus", why, _MATRIX_HINT)
        samples = []
        for series in self._parsed(_Instant, query, found):
            if series.value is None:
                raise self._http.error(f"`{query}` gives native histograms, not numbers", _HISTOGRAM_HINT)
            samples.append(Sample(series.metric, series.value[1], _moment(series.value[0])))
        return Answer(tuple(samples), warnings)

    def refusal(self, query: str) -> str | None:
        """Why it will not answer this query, in its own words; None if it does. SourceError if it cannot be asked."""
        try:
            self.instant(query)
        except _RefusedError as error:
            return error.why
        return None

    def range(self, query: str, start: datetime, end: datetime, step_seconds: float) -> tuple[Series, ...]:
        stretch = {"start": str(start.timestamp()), "end": str(end.timestamp()), "step": str(step_seconds)}
        found, warnings = self._query("/api/v1/query_range", query, stretch)
        if warnings:
            _log.warning("prometheus_partial_answer", query=query, warnings=warnings)
        graph = []
        for series in self._parsed(_Range, query, found):
            if series.values is None:
                raise self._http.error(f"`{query}` gives native histograms, not numbers", _HISTOGRAM_HINT)
            graph.append(Series(series.metric, tuple((_moment(at), value) for at, value in series.values)))
        return tuple(graph)

    def alerts(self) -> tuple[FiringAlert, ...]:
        """What its rules hold now: firing and pending. `starts_at` is when the condition first held, which is earlier
        than Alertmanager's startsAt by the rule's `for`."""
        path = "/api/v1/alerts"
        data = self._data(path, self._http.ask("GET", path), what="to list its alerts")
        try:
            alerts = [_Alert.model_validate(alert) for alert in data["alerts"]]
        except (ValidationError, KeyError, TypeError) as error:
            raise self._unknown_form(path, error) from error
        return tuple(FiringAlert(a.labels, a.annotations, a.activeAt, None, a.state) for a in alerts)

    def started_at(self) -> datetime | None:
        """When this process started: right after, it lists no alerts, whatever burns. None where the API has no such
        page (Thanos, Mimir)."""
        path = "/api/v1/status/runtimeinfo"
        reply = self._http.ask("GET", path)
        if reply.status == 404:
            return None
        data = self._data(path, reply, what="to say since when it runs")
        try:
            return datetime.fromisoformat(data["startTime"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError) as error:
            raise self._unknown_form(path, error) from error

    def link(self, query: str) -> str:
        moment = {"g0.moment_input": f"{self._time:%Y-%m-%d %H:%M:%S}"} if self._time else {}
        return f"{self._public_url}/graph?" + urlencode({"g0.expr": query, "g0.tab": "0", **moment})

    def _query(self, path: str, query: str, more: Mapping[str, str]) -> tuple[_Found, tuple[str, ...]]:
        limit = f"{round(self._http.timeout_seconds * _SERVER_SHARE * 1000)}ms"  # "0.5s" is no duration to it
        reply = self._http.ask("POST", path, form={"query": query, "timeout": limit, **more})
        data = self._data(path, reply, what=f"`{query}`")
        try:
            return _Found.model_validate(data), tuple(reply.json().get("warnings") or ())
        except ValidationError as error:
            raise self._unknown_form(path, error) from error

    def _data(self, path: str, reply: Reply, *, what: str) -> Any:
        """Prometheus puts its reason into the body, whatever the status; a proxy before it does not."""
        answer = self._http.parsed(path, reply) if reply.is_json or reply.status == 200 else None
        if not isinstance(answer, dict) or "status" not in answer:
            if reply.status != 200:
                raise self._http.refused(path, reply)
            raise self._http.error(f"{self._http.url}{path} does not answer as Prometheus does", _ADDRESS_HINT)
        if answer["status"] != "success":
            kind, reason = str(answer.get("errorType", "error")), answer.get("error", "no reason given")
            hint = "Correct the query." if kind == "bad_data" else ""
            refused = _RefusedError if kind in _FINAL else SourceError
            raise refused("Prometheus", f"refused {what}: {reason} ({kind})", hint, retryable=kind in _RETRYABLE)
        return answer.get("data")

    def _parsed(self, form: type[_Form], query: str, found: _Found) -> list[_Form]:
        try:
            return [form.model_validate(series) for series in found.result]
        except (ValidationError, TypeError) as error:
            raise self._unknown_form(f"`{query}`", error) from error

    def _unknown_form(self, what: str, error: Exception) -> SourceError:
        return self._http.error(f"answered {what} in a form this bot does not know: {error}", _ADDRESS_HINT)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
