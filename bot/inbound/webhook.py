"""Where Alertmanager posts: an answer of 200 means that the alerts are on disk. Nothing is decided here.

Alertmanager repeats what gets a 5xx within the same flush and what gets a 4xx only at the next one, so what may go
better in a moment is a 503, and never a 429.
"""

import asyncio
import contextlib
import hmac
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import structlog
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from pydantic import SecretStr, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from bot.inbound.intake import Intake, IntakeFullError
from bot.incidents.alert import Alert, TakenIn, Truncation, Webhook, WebhookAlert
from bot.ports import SourceError

_log = structlog.get_logger(__name__)

_LONGEST_SECONDS = 5  # Alertmanager gives up after 10 s, and posts the same once more
_MOST_BYTES_BEING_READ = 64 * 1024 * 1024
_LOG_PAUSE_SECONDS = 60
# The first field of every Alertmanager's webhook is the receiver. Of what is too large no more is read.
_RECEIVER = re.compile(rb'\s*\{\s*"receiver"\s*:\s*("(?:[^"\\]|\\.)*")')
_BEGINNING_BYTES = 4096
_BEGINNING_SECONDS = 1


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class AlertmanagerWebhook:
    """`refused` counts answers by status code. Without a token every webhook is refused."""

    def __init__(
        self,
        intake: Intake,
        *,
        token: SecretStr | None,
        body_limit_bytes: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._intake = intake
        self._token = token.get_secret_value().encode() if token is not None else b""
        self._limit = body_limit_bytes
        self._clock = clock
        self._reading = 0  # bytes of bodies in memory, over all connections
        self._logged: dict[str, float] = {}
        self.accepted = 0
        self.refused: Counter[int] = Counter()

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    def add_to(self, api: FastAPI) -> None:
        # A plain route: the body is read here, so FastAPI has nothing to declare, and its machinery costs a third.
        api.add_route("/alertmanager", self.answer, methods=["POST"])

    async def answer(self, request: Request) -> Response:
        try:
            await self._take_in(request)
        except _Refused as refused:
            self.refused[refused.status] += 1
            self._log_refusal(refused)
            return PlainTextResponse(refused.why + "\n", refused.status)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        self.accepted += 1
        return Response(status_code=200)

    async def _take_in(self, request: Request) -> None:
        self._authorize(request)
        body = await self._body(request)
        hook = self._parsed(body)
        if hook.version != "4":
            self._log_once(f"version {hook.version}", "a webhook of an unknown version was read as version 4")
        await self._stored(self._taken(hook, b"\\u0000" in body), len(body))

    def _authorize(self, request: Request) -> None:
        if not self._token:
            raise _Refused(401, "No token is configured, so every webhook is refused: set VLLM_ONCALL_INTAKE__TOKEN.")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # latin-1 as Starlette decoded it; compare_digest takes as long for a near miss as for a far one.
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not right:
            raise _Refused(
                401,
                "Wrong or missing bearer token. In Alertmanager: webhook_configs.http_config.authorization.credentials"
                " must be the bot's VLLM_ONCALL_INTAKE__TOKEN.",
            )

    async def _body(self, request: Request) -> bytes:
        if encoding := request.headers.get("content-encoding"):
            raise _Refused(415, f"Content-Encoding {encoding[:40]!r} is not understood; Alertmanager sends plain JSON.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            await self._note_too_large(await _beginning(request.stream()))
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._reading += len(chunk)
                if size > self._limit:
                    await self._note_too_large([*chunks, chunk])
                if self._reading > _MOST_BYTES_BEING_READ:
                    raise _Refused(503, "Too many large webhooks at once; come again.")
                chunks.append(chunk)
        finally:
            self._reading -= size
        return b"".join(chunks)

    async def _note_too_large(self, chunks: Sequence[bytes]) -> None:
        """What cannot be read is a group that was left out as a whole: Alertmanager's API is asked for it instead."""
        await self._stored(TakenIn((), Truncation("", _receiver_in(chunks), 0, self._clock())), 0)
        raise _Refused(
            413,
            f"The webhook is larger than {self._limit} bytes. Set max_alerts in Alertmanager's webhook_configs, or"
            " raise VLLM_ONCALL_INTAKE__BODY_LIMIT_BYTES.",
        )

    def _parsed(self, body: bytes) -> Webhook:
        try:
            return Webhook.model_validate_json(body)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False, include_context=False)
            said = [f"{'.'.join(map(str, m['loc'])) or 'body'}: {m['msg']}" for m in mistakes[:5]]
            more = f"; and {len(mistakes) - 5} more" if len(mistakes) > 5 else ""
            raise _Refused(400, f"Not an Alertmanager webhook of version 4: {'; '.join(said)}{more}") from error

    def _taken(self, hook: Webhook, may_hold_nul: bool) -> TakenIn:
        now = self._clock()
        alerts = tuple(_alert(_without_nul(a) if may_hold_nul else a, now) for a in hook.alerts)
        if hook.truncatedAlerts <= 0:
            return TakenIn(alerts)
        return TakenIn(alerts, Truncation(_no_nul(hook.groupKey), _no_nul(hook.receiver), hook.truncatedAlerts, now))

    async def _stored(self, taken: TakenIn, size_bytes: int) -> None:
        try:
            await asyncio.wait_for(asyncio.wrap_future(self._intake.put(taken, size_bytes)), _LONGEST_SECONDS)
        except IntakeFullError as full:
            raise _Refused(503, f"Not taken in: {full}; come again.") from full
        except TimeoutError as slow:
            raise _Refused(503, f"The database did not answer within {_LONGEST_SECONDS} s; come again.") from slow
        except SourceError as error:
            # Its text may name hosts: it is in the log, not in the answer.
            if error.retryable:
                raise _Refused(503, "The database did not answer; come again.") from error
            raise _Refused(400, "The database refuses this webhook; its reason is in the bot's log.") from error

    def _log_refusal(self, refused: _Refused) -> None:
        self._log_once(f"{refused.status} {refused.why[:40]}", "a webhook was refused", refused.status, refused.why)

    def _log_once(self, key: str, event: str, status: int | None = None, why: str | None = None) -> None:
        """At most once a minute for the same reason: whoever has no token must not fill the disk either."""
        now = time.monotonic()
        if now - self._logged.get(key, -_LOG_PAUSE_SECONDS) < _LOG_PAUSE_SECONDS or len(self._logged) > 1000:
            return
        self._logged[key] = now
        _log.warning(event, status=status, why=why)


async def _beginning(body: AsyncIterator[bytes]) -> list[bytes]:
    """Nothing of a sender that waits for the answer first."""
    chunks: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BEGINNING_SECONDS):
            async for chunk in body:
                chunks.append(chunk)
                if sum(map(len, chunks)) >= _BEGINNING_BYTES:
                    break
    return chunks


def _receiver_in(chunks: Sequence[bytes]) -> str:
    """Whom the webhook is for, by its beginning; "" if that does not tell."""
    beginning = b""
    for chunk in chunks:
        if len(beginning) < _BEGINNING_BYTES:
            beginning += chunk[:_BEGINNING_BYTES]
    found = _RECEIVER.match(beginning)
    try:
        return _no_nul(TypeAdapter(str).validate_json(found[1])) if found else ""
    except ValidationError:
        return ""


def _alert(told: WebhookAlert, now: datetime) -> Alert:
    return Alert(
        fingerprint=told.fingerprint,
        status=told.status,
        labels=told.labels,
        annotations=told.annotations,
        starts_at=told.startsAt,
        ends_at=told.endsAt,
        generator_url=told.generatorURL,
        received_at=now,
    )


def _without_nul(told: WebhookAlert) -> WebhookAlert:
    """PostgreSQL holds no NUL in text. An alert is not refused for it: the character is shown as one that is not."""
    texts = {n: _no_nul(getattr(told, n)) for n in ("startsAt", "endsAt", "generatorURL", "fingerprint")}
    labels = {_no_nul(k): _no_nul(v) for k, v in told.labels.items()}
    annotations = {_no_nul(k): _no_nul(v) for k, v in told.annotations.items()}
    return told.model_copy(update={**texts, "labels": labels, "annotations": annotations})


def _no_nul(text: str) -> str:
    return text.replace("\0", "�")
