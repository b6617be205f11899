"""A reverse proxy before Prometheus, the Kubernetes API server or Alertmanager: latency, outages and failpoints on it.

Streams both ways (a watch arrives event by event); headers pass through, so a bearer token reaches the other side.
Client certificates cannot pass through a proxy that ends TLS, and protocol upgrades (exec, port-forward) are refused.
"""

import argparse
import asyncio
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from pydantic import TypeAdapter

from sandbox.addresses import free_port
from sandbox.fault_control import FaultControl
from sandbox.faults import CutError, Faults, Front, Outage, Where, control_app
from sandbox.part import Part, answers
from sandbox.request_log import RequestLog

_HOP_BY_HOP = {
    hdrs.CONNECTION,
    hdrs.KEEP_ALIVE,
    hdrs.PROXY_AUTHENTICATE,
    hdrs.PROXY_AUTHORIZATION,
    hdrs.TE,
    hdrs.TRAILER,
    hdrs.TRANSFER_ENCODING,
    hdrs.UPGRADE,
    hdrs.HOST,
}


@dataclass(frozen=True)
class DialSettings:
    name: str
    upstream: str  # scheme://host:port
    port: int
    control_port: int
    log: str
    upstream_ca: str | None = None
    certificate: str | None = None  # with `key`: the front speaks TLS
    key: str | None = None


_settings_json: TypeAdapter[DialSettings] = TypeAdapter(DialSettings)


class Dial(Part):
    """`url` is what a client is given instead of the upstream's; `control` turns the dial and reads the log.

    Exchanges have the attributes `method` and `path` (with its query) for failpoints; log entries (kind `http`) carry
    method, path, status and seconds.
    """

    def __init__(
        self,
        name: str,
        upstream: str,
        folder: Path,
        *,
        upstream_ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        port, control_port = free_port(), free_port()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
        self.control = FaultControl(f"http://127.0.0.1:{control_port}")
        self._file = folder / f"dial-{name}.json"
        self._settings = DialSettings(
            name=name,
            upstream=upstream.rstrip("/"),
            port=port,
            control_port=control_port,
            log=str(folder / f"dial-{name}.jsonl"),
            upstream_ca=str(upstream_ca) if upstream_ca else None,
            certificate=str(certificate) if certificate else None,
            key=str(key) if key else None,
        )
        super().__init__(
            f"dial-{name}",
            [sys.executable, "-m", "sandbox.dial", str(self._file)],
            log=folder / f"dial-{name}.log",
            ready=answers(f"{self.control.url}/_control/ready"),
            cwd=Path(__file__).parent.parent,
        )

    def launch(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(_settings_json.dump_json(self._settings, indent=1))
        super().launch()


class _Proxy:
    def __init__(self, settings: DialSettings, faults: Faults, log: RequestLog) -> None:
        self._settings = settings
        self._faults = faults
        self._log = log
        tls = ssl.create_default_context(cafile=settings.upstream_ca) if settings.upstream_ca else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls if tls else True, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=10),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        exchange = {"method": request.method, "path": request.raw_path}
        began = time.monotonic()
        try:
            return await self._exchange(request, exchange, began)
        except CutError:
            self._log.add("cut", **exchange, seconds=_since(began))
            return _cut(request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._log.add("failed", **exchange, error=str(error) or type(error).__name__, seconds=_since(began))
            return web.Response(status=502, text=f"{self._settings.name} behind the dial did not answer: {error}\n")

    async def _exchange(self, request: web.Request, exchange: dict[str, str], began: float) -> web.StreamResponse:
        body = await request.read()
        await self._faults.travel()
        error_status = await self._faults.gate()
        if error_status is not None:
            self._log.add("outage", **exchange, status=error_status, seconds=_since(began))
            return web.Response(status=error_status, text="out of order\n")
        await self._faults.hold(Where.BEFORE, exchange)
        headers = _passed(request.headers)
        async with self._session.request(
            request.method,
            self._settings.upstream + request.raw_path,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            # Or the upstream would compress for a client that did not ask for it.
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT_ENCODING, hdrs.ACCEPT, hdrs.CONTENT_TYPE),
        ) as upstream:
            self._log.add("http", **exchange, status=upstream.status, seconds=_since(began))
            await self._faults.hold(Where.AFTER, exchange)
            await self._faults.travel()
            return await self._stream(request, upstream)

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=_passed(upstream.headers))
        try:
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                # An outage in the middle of a watch: it falls silent, and is cut at the end.
                if await self._faults.gate() is not None:
                    raise CutError
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            pass  # the client left its watch
        except aiohttp.ClientError:
            _cut(request)  # the upstream broke off, and so do we
        return response


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    passed = CIMultiDict(headers)
    for name in _HOP_BY_HOP:
        passed.popall(name, None)
    return passed


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 6)


async def _serve(settings: DialSettings) -> None:
    faults, log = Faults(), RequestLog(Path(settings.log))
    front_app = web.Application(client_max_size=2**30)
    front_app.router.add_route("*", "/{path:.*}", _Proxy(settings, faults, log).handle)
    tls = None
    if settings.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(settings.certificate, settings.key)
    front = Front(front_app, settings.port, tls)

    async def on_outage(outage: Outage) -> None:
        if outage == Outage.REFUSE:
            await front.refuse()
        else:
            await front.open()

    await front.open()
    await Front(control_app(faults, log, on_outage), settings.control_port).open()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.dial", description=__doc__)
    parser.add_argument("settings", type=Path)
    path: Path = parser.parse_args().settings
    asyncio.run(_serve(_settings_json.validate_json(path.read_bytes())))


if __name__ == "__main__":
    main()
