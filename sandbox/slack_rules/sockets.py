"""Socket Mode: each envelope to one connection of the app, acknowledged within 3 s or lost for the user.

Slack sends an event again (at once, after 1 min, after 5 min); what a person did is not sent again.
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import WSMsgType, web

from sandbox.faults import CutError, Faults, Outage, Where
from sandbox.request_log import RequestLog
from sandbox.slack_rules.inputs import Json
from sandbox.slack_rules.rules import Rule, Rules

CONNECTION_LIMIT = 10
# How long local-slack waits; with the rule `ack` off nobody is told when it passes.
LENIENT_ACK_SECONDS = 5.0


class Lost(StrEnum):
    TIMEOUT = "timeout"
    CLOSED = "connection_closed"
    NOBODY = "no_connection"


class LostError(Exception):
    """No acknowledgement came."""

    def __init__(self, why: Lost) -> None:
        super().__init__(why)
        self.why = why


@dataclass(eq=False)
class Connection:
    app_id: str
    number: int
    ws: web.WebSocketResponse
    waiting: dict[str, "asyncio.Future[Json | None]"] = field(default_factory=dict)


class Sockets:
    def __init__(
        self,
        rules: Rules,
        faults: Faults,
        log: RequestLog,
        *,
        ack_seconds: float,
        event_retry_seconds: Sequence[float],
        on_change: Callable[[str, bool], None],
    ) -> None:
        """`on_change(app_id, connected)` is called when an app's first connection comes or its last one goes."""
        self._rules = rules
        self._faults = faults
        self._log = log
        self._ack_seconds = ack_seconds
        self._event_retry_seconds = tuple(event_retry_seconds)
        self._on_change = on_change
        self._tickets: dict[str, str] = {}
        self._connections: dict[str, list[Connection]] = {}
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def new_ticket(self, app_id: str) -> str:
        """Good for one connection."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = app_id
        return ticket

    def connected(self, app_id: str) -> int:
        return len(self._connections.get(app_id, ()))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One connection of a bot, from hello to its end."""
        app_id = self._tickets.pop(request.query.get("ticket", ""), None)
        if app_id is None or self._faults.outage != Outage.NONE:
            return web.Response(status=403 if app_id is None else 503)
        ws = web.WebSocketResponse(autoping=False, max_msg_size=2**24)
        await ws.prepare(request)
        others = self._connections.setdefault(app_id, [])
        if self._rules.on(Rule.SOCKET_COUNT) and len(others) >= CONNECTION_LIMIT:
            await ws.send_json({"type": "disconnect", "reason": "too_many_websockets", "debug_info": {}})
            await ws.close()
            return ws
        self._made += 1
        connection = Connection(app_id, self._made, ws)
        others.append(connection)
        self._log.add("socket", method="connected", app=app_id, connection=connection.number)
        self._on_change(app_id, True)
        try:
            with suppress(ConnectionError):
                await ws.send_json(_hello(app_id, len(others)))
                await self._read(connection)
        finally:
            self._gone(connection)
        return ws

    async def _read(self, connection: Connection) -> None:
        async for frame in connection.ws:
            if self._faults.outage != Outage.NONE:
                continue  # a Slack that is down reads nothing, and answers no ping
            if frame.type == WSMsgType.PING:
                await connection.ws.pong(frame.data)
            elif frame.type == WSMsgType.TEXT:
                self._start(self._acknowledged(connection, frame.data))

    async def _acknowledged(self, connection: Connection, text: str) -> None:
        await self._faults.travel()
        try:
            answer = json.loads(text)
            envelope_id, payload = answer["envelope_id"], answer.get("payload")
        except (ValueError, KeyError, TypeError):
            self._log.add("ack", app=connection.app_id, connection=connection.number, error="not_an_ack", text=text)
            return
        waiting = connection.waiting.pop(envelope_id, None)
        late = waiting is None or waiting.done()
        self._log.add(
            "ack",
            app=connection.app_id,
            connection=connection.number,
            envelope_id=envelope_id,
            late=late or None,
            payload=payload or None,
        )
        if waiting is not None and not waiting.done():
            waiting.set_result(payload if isinstance(payload, dict) else None)

    def _gone(self, connection: Connection) -> None:
        self._connections[connection.app_id].remove(connection)
        self._log.add("socket", method="closed", app=connection.app_id, connection=connection.number)
        for waiting in connection.waiting.values():
            if not waiting.done():
                waiting.set_exception(LostError(Lost.CLOSED))
        if not self._connections[connection.app_id]:
            self._on_change(connection.app_id, False)

    async def send(
        self, app_id: str, kind: str, payload: Json, *, about: Json | None = None, **more: Any
    ) -> Json | None:
        """The payload of the acknowledgement. Raises LostError. `about` goes into the log, `more` into the envelope."""
        exchange = {"method": f"socket.{kind}", **{name: str(value) for name, value in (about or {}).items()}}
        with suppress(CutError):
            await self._faults.hold(Where.BEFORE, exchange)
        await self._faults.travel()
        targets = self._choose(app_id)
        envelope_id = str(uuid.uuid4())
        entry = {"method": kind, "app": app_id, "envelope_id": envelope_id, **(about or {}), **more}
        if not targets:
            self._log.add("envelope", **entry, error=Lost.NOBODY)
            raise LostError(Lost.NOBODY)
        self._log.add("envelope", **entry, connections=[target.number for target in targets])
        envelope = {
            "envelope_id": envelope_id,
            "payload": payload,
            "type": kind,
            "accepts_response_payload": kind != "events_api",
            **more,
        }
        try:
            answer = await self._await_ack(targets, envelope_id, json.dumps(envelope))
        except LostError as lost:
            self._log.add("lost", **entry, error=lost.why)
            raise
        with suppress(CutError):
            await self._faults.hold(Where.AFTER, exchange)
        return answer

    async def _await_ack(self, targets: Sequence[Connection], envelope_id: str, text: str) -> Json | None:
        waiting: asyncio.Future[Json | None] = asyncio.get_running_loop().create_future()
        strict = self._rules.on(Rule.ACK)
        try:
            for target in targets:
                target.waiting[envelope_id] = waiting
                with suppress(ConnectionError):
                    await target.ws.send_str(text)
            return await asyncio.wait_for(waiting, self._ack_seconds if strict else LENIENT_ACK_SECONDS)
        except TimeoutError:
            if strict:
                raise LostError(Lost.TIMEOUT) from None
            return None
        finally:
            for target in targets:
                target.waiting.pop(envelope_id, None)

    def _choose(self, app_id: str) -> list[Connection]:
        """In turn, so that a test with two replicas sees both of them work."""
        there = self._connections.get(app_id, [])
        if not there or self._faults.outage != Outage.NONE:
            return []
        if not self._rules.on(Rule.ONE_DELIVERY):
            return list(there)
        there.append(there.pop(0))
        return [there[-1]]

    def send_event(self, app_id: str, payload: Json) -> None:
        """Deliver an event in the background, with Slack's retries."""
        self._start(self._deliver_event(app_id, payload))

    async def _deliver_event(self, app_id: str, payload: Json) -> None:
        about = {"event": payload.get("event", {}).get("type"), "event_id": payload.get("event_id")}
        retry: Json = {}
        for attempt, wait in enumerate((*self._event_retry_seconds, None), start=1):
            try:
                await self.send(app_id, "events_api", payload, about=about, **retry)
                return
            except LostError as lost:
                if wait is None or not self._rules.on(Rule.ACK):
                    self._log.add("event_given_up", app=app_id, **about)
                    return
                await asyncio.sleep(wait)
                retry = {"retry_attempt": attempt, "retry_reason": "timeout" if lost.why == Lost.TIMEOUT else lost.why}

    async def refresh(self, app_id: str, warning_seconds: float) -> None:
        """The routine replacement of connections: a warning, then `refresh_requested`, then the end of the old ones."""
        old = list(self._connections.get(app_id, ()))
        await self._tell(old, "warning")
        await asyncio.sleep(warning_seconds)
        await self._tell(old, "refresh_requested")
        await asyncio.sleep(warning_seconds)
        for connection in old:
            await connection.ws.close()

    async def _tell(self, connections: Sequence[Connection], reason: str) -> None:
        for connection in connections:
            self._log.add("socket", method=reason, app=connection.app_id, connection=connection.number)
            with suppress(ConnectionError):
                await connection.ws.send_json(
                    {"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}}
                )

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # or the loop may drop it
        task.add_done_callback(self._tasks.discard)


def _hello(app_id: str, connections: int) -> Json:
    started = time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime())
    return {
        "type": "hello",
        "num_connections": connections,
        "debug_info": {"host": "sandbox", "started": started, "build_number": 1, "approximate_connection_time": 18060},
        "connection_info": {"app_id": app_id},
    }
