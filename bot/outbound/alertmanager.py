"""Alertmanager's API: which alerts it holds, since when it runs, and silences.

Its webhooks may hide alerts (`truncatedAlerts`), and a resolve may get lost; this is where the bot asks again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from bot.outbound.json_http import JsonHttp, session
from bot.ports import FiringAlert, SourceError

_SETTING = "VLLM_ONCALL_ALERTMANAGER__URL"
_Form = TypeVar("_Form")


# Dataclasses, since a storm has thousands of them: a model is four times as large.
@dataclass(frozen=True, slots=True)
class _Status:
    state: str


@dataclass(frozen=True, slots=True)
class _Receiver:
    name: str


@dataclass(frozen=True, slots=True)
class _Alert:
    labels: dict[str, str]
    startsAt: str
    fingerprint: str
    status: _Status
    receivers: list[_Receiver]
    annotations: dict[str, str] = field(default_factory=dict)
    generatorURL: str = ""


class _Matcher(BaseModel):
    name: str
    value: str
    isRegex: bool
    isEqual: bool = True


class _Silence(BaseModel):
    id: str
    matchers: list[_Matcher]
    endsAt: datetime
    createdBy: str
    comment: str
    status: _Status


class _Created(BaseModel):
    silenceID: str


class _Process(BaseModel):
    uptime: datetime


class Alertmanager:
    """Implements ports.Alerts. Without a URL every question is answered by a SourceError that says so."""

    def __init__(self, url: str | None, *, timeout_seconds: float, token: str | None = None, threads: int = 32) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http: JsonHttp | None = None
        if url:
            self._http = JsonHttp("Alertmanager", url, _SETTING, timeout_seconds, session(threads), headers)

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]:
        """All that it holds, silenced ones and those of other receivers, too: each says so. `matchers` in its own
        syntax: `alertname="QueueLong"`. `starts_at` here has milliseconds, whatever the webhook's had: compare times,
        not texts."""
        path, filters = "/api/v2/alerts", [("filter", matcher) for matcher in matchers]
        alerts = self._ask(list[_Alert], "GET", path, query=filters)
        return tuple(_told(alert) for alert in alerts)

    def started_at(self) -> datetime:
        """When this process started. It keeps no alerts on disk: right after, it lists only what Prometheus has sent
        again since (within a minute by default), so an alert that is absent then has not resolved."""
        return self._ask(_Process, "GET", "/api/v2/status").uptime.astimezone(UTC)

    def silence(self, matchers: Mapping[str, str], *, until: datetime, by: str, comment: str) -> str:
        """The silence's id. Asked again for the same (after a crash), it finds the first instead of making another."""
        if not matchers:
            raise self._connected().error("no silence without a matcher: it would silence everything")
        wanted = [_Matcher(name=name, value=value, isRegex=False) for name, value in sorted(matchers.items())]
        for there in self._ask(list[_Silence], "GET", "/api/v2/silences"):
            same = sorted(there.matchers, key=lambda matcher: matcher.name) == wanted and _same_time(
                there.endsAt, until
            )
            if same and (there.createdBy, there.comment) == (by, comment) and there.status.state != "expired":
                return there.id
        silence = {
            "matchers": [matcher.model_dump() for matcher in wanted],
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": until.astimezone(UTC).isoformat(),
            "createdBy": by,
            "comment": comment,
        }
        return self._ask(_Created, "POST", "/api/v2/silences", body=silence).silenceID

    def _connected(self) -> JsonHttp:
        if self._http is None:
            raise SourceError("Alertmanager", "is not configured, so it cannot be asked.", f"Set {_SETTING}.")
        return self._http

    def _ask(self, form: type[_Form], method: str, path: str, **question: Any) -> _Form:
        http = self._connected()
        reply = http.ask(method, path, **question)
        if reply.status != 200:
            raise http.refused(path, reply)
        try:
            # From its text to the form: a storm's alerts as Python's dicts in between would double the memory.
            return TypeAdapter(form).validate_json(reply.body)
        except ValidationError as error:
            http.parsed(path, reply)  # raises if it is no JSON at all
            hint = f"Does {_SETTING} point at an Alertmanager (API v2)?"
            raise http.error(f"{path} answered in a form this bot does not know: {error}", hint) from error


def _told(a: _Alert) -> FiringAlert:
    receivers = tuple(receiver.name for receiver in a.receivers)
    return FiringAlert(a.labels, a.annotations, a.startsAt, a.fingerprint, a.status.state, a.generatorURL, receivers)


def _same_time(one: datetime, other: datetime) -> bool:
    """To the millisecond, which is all that the API keeps."""
    return abs((one - other).total_seconds()) < 0.002
