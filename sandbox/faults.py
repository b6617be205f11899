"""What a proxy can do wrong on request: latency, outages, and holds (failpoints) before or after an exchange.

The half that runs inside the proxy; `fault_control.py` is what a test holds. The control address is its own port, so
that it answers while the front is down.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

from sandbox.request_log import RequestLog


class Outage(StrEnum):
    NONE = "none"
    ERROR = "error"  # every request is answered with a 5xx
    HANG = "hang"  # requests are taken in and never answered; when it ends, their connections are cut
    REFUSE = "refuse"  # nobody listens


class Where(StrEnum):
    BEFORE = "before"  # taken in, not yet forwarded
    AFTER = "after"  # the other side has done it; the answer is not yet on its way


class CutError(Exception):
    """The exchange is to end without an answer."""


@dataclass
class Hold:
    where: Where
    match: Mapping[str, re.Pattern[str]]  # attribute -> what must be found in it
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cut: bool = False
    at: Mapping[str, str] = field(default_factory=dict)  # the exchange that reached it

    def wants(self, where: Where, exchange: Mapping[str, str]) -> bool:
        return (
            not self.reached.is_set()
            and self.where == where
            and all(pattern.search(exchange.get(name, "")) for name, pattern in self.match.items())
        )


class Faults:
    def __init__(self, latency_seconds: float = 0) -> None:
        self.latency_seconds = latency_seconds
        self.outage = Outage.NONE
        self.error_status = 503
        self.holds: list[Hold] = []
        self._changed = asyncio.Event()

    async def travel(self) -> None:
        """One way: half of the latency."""
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds / 2)

    async def gate(self) -> int | None:
        """At the front door: None to come in, or the status of an error. Raises CutError once a hang is over."""
        if self.outage == Outage.ERROR:
            return self.error_status
        if self.outage == Outage.HANG:
            await self._changed.wait()
            raise CutError
        return None

    async def hold(self, where: Where, exchange: Mapping[str, str]) -> None:
        """Stop here if a test asked for it; raises CutError if the test ends the exchange."""
        for hold in self.holds:
            if hold.wants(where, exchange):
                hold.at = dict(exchange)
                hold.reached.set()
                await hold.released.wait()
                if hold.cut:
                    raise CutError
                return

    def set_outage(self, outage: Outage, error_status: int) -> None:
        self.outage, self.error_status = outage, error_status
        self._changed.set()
        self._changed = asyncio.Event()


class Front:
    """The listening side: keeps its port reserved while it refuses, and can cut every open connection."""

    def __init__(self, app: web.Application, port: int, tls: ssl.SSLContext | None = None) -> None:
        # Bound but never listening: the port stays ours, and a connection to it is refused.
        self._reservation = _bound(port)
        self._runner = web.AppRunner(app, access_log=None)
        self._port = port
        self._tls = tls
        self._site: web.SockSite | None = None

    async def open(self) -> None:
        if self._runner.server is None:
            await self._runner.setup()
        if self._site is None:
            self._site = web.SockSite(self._runner, _bound(self._port), ssl_context=self._tls, backlog=256)
            await self._site.start()

    async def refuse(self) -> None:
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
        self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        server = self._runner.server
        for connection in list(server.connections) if server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        await self.refuse()
        await self._runner.cleanup()
        self._reservation.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


def control_app(faults: Faults, log: RequestLog, on_outage: Callable[[Outage], Awaitable[None]]) -> web.Application:
    """The control API that every proxy of the sandbox has. Spoken by `fault_control.FaultControl`."""

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def latency(request: web.Request) -> web.Response:
        faults.latency_seconds = float((await request.json())["seconds"])
        return web.json_response({})

    async def outage(request: web.Request) -> web.Response:
        asked = await request.json()
        faults.set_outage(Outage(asked["outage"]), int(asked["error_status"]))
        await on_outage(faults.outage)
        return web.json_response({})

    async def new_hold(request: web.Request) -> web.Response:
        asked = await request.json()
        match = {name: re.compile(pattern) for name, pattern in asked["match"].items()}
        faults.holds.append(Hold(Where(asked["where"]), match))
        return web.json_response({"id": len(faults.holds) - 1})

    async def see_hold(request: web.Request) -> web.Response:
        hold = faults.holds[int(request.match_info["id"])]
        with suppress(TimeoutError):
            await asyncio.wait_for(hold.reached.wait(), float(request.query["seconds"]))
        return web.json_response({"reached": hold.reached.is_set(), "at": hold.at})

    async def release(request: web.Request) -> web.Response:
        hold = faults.holds[int(request.match_info["id"])]
        hold.cut = bool((await request.json())["cut"])
        hold.reached.set()  # one that was never reached is disarmed
        hold.released.set()
        return web.json_response({})

    async def read_log(request: web.Request) -> web.Response:
        since, seconds = int(request.query["since"]), float(request.query["seconds"])
        entries: list[dict[str, Any]] = await log.wait(since, seconds) if seconds else log.since(since)
        return web.json_response({"entries": entries})

    app = web.Application(client_max_size=2**26)
    app.router.add_get("/_control/ready", ready)
    app.router.add_put("/_control/latency", latency)
    app.router.add_put("/_control/outage", outage)
    app.router.add_post("/_control/holds", new_hold)
    app.router.add_get("/_control/holds/{id}", see_hold)
    app.router.add_post("/_control/holds/{id}/release", release)
    app.router.add_get("/_control/log", read_log)
    return app
