"""What the agent on a GPU node answers: readings, events, metrics. It changes nothing, and says nothing without its
token.

/healthz alone is open, and is only about this process: a driver that hangs is an answer of /v1/gpus, and a restart
would not mend it.
"""

import hmac
import threading
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr, TypeAdapter

from bot.gpu_readings import EventPage, GpuNode

_NODE = TypeAdapter(GpuNode)
_PAGE = TypeAdapter(EventPage)
_LONGEST_WAIT_SECONDS = 60
# A waiting question holds a thread of the server's, of which it has forty.
_MOST_WAITING = 16


class Events(Protocol):
    def __call__(self, seq: int, *, ring: str | None, wait_seconds: float) -> EventPage: ...


class AgentApi:
    """Without a token every question but /healthz is refused."""

    def __init__(
        self,
        *,
        token: SecretStr | None,
        snapshot: Callable[[], GpuNode],
        events: Events,
        metrics: CollectorRegistry,
    ) -> None:
        self._token = token.get_secret_value().encode() if token is not None else b""
        self._snapshot = snapshot
        self._events = events
        self._metrics = metrics
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def add_to(self, api: FastAPI) -> None:
        guarded = APIRouter(dependencies=[Depends(self._authorize)])
        # Plain functions: they wait for NVML, each in a thread of the server's pool.
        guarded.add_api_route("/v1/gpus", self.gpus, methods=["GET"])
        guarded.add_api_route("/v1/events", self.events, methods=["GET"])
        guarded.add_api_route("/metrics", self.metrics, methods=["GET"])
        api.include_router(guarded)
        api.add_api_route("/healthz", lambda: PlainTextResponse("ok\n"), methods=["GET"], response_class=Response)

    def _authorize(self, request: Request) -> None:
        if not self._token:
            raise HTTPException(401, "No token is configured: set VLLM_ONCALL_AGENT__TOKEN.")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not right:
            raise HTTPException(401, "Wrong or missing bearer token.")

    def gpus(self) -> Response:
        return Response(_NODE.dump_json(self._snapshot()), media_type="application/json")

    def events(
        self,
        after: Annotated[int, Query(ge=0)] = 0,
        ring: str | None = None,
        wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT_SECONDS)] = 0,
    ) -> Response:
        may_wait = wait > 0 and self._waiting.acquire(blocking=False)
        try:
            page = self._events(after, ring=ring, wait_seconds=wait if may_wait else 0)
        finally:
            if may_wait:
                self._waiting.release()
        return Response(_PAGE.dump_json(page), media_type="application/json")

    def metrics(self) -> Response:
        return Response(generate_latest(self._metrics), media_type=CONTENT_TYPE_LATEST)
