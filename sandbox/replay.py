"""Serves a captured /metrics page exactly as it was captured, and another one on request.

A Prometheus that scrapes `idle` for some seconds and then `pressure` of the same server sees what it would have seen
of the real one. Nothing is invented between the two: counters jump once, so a rate over the jump is right only in
which series rise, not in how fast.
"""

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class Replay:
    """A server on a free port of `host`; `show` switches the page, `show(None)` makes it answer 503."""

    def __init__(self, page: Path | None, host: str = "127.0.0.1") -> None:
        self._page = page.read_bytes() if page else None
        replay = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = replay._page if self.path == "/metrics" else None
                found = HTTPStatus.OK if page is not None else HTTPStatus.SERVICE_UNAVAILABLE
                self.send_response(found if self.path == "/metrics" else HTTPStatus.NOT_FOUND)
                # What vLLM sends; Prometheus reads it as its text format.
                self.send_header("Content-Type", "text/plain; version=1.0.0; charset=utf-8")
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass  # one line a second says nothing

        self._server = ThreadingHTTPServer((host, 0), Page)
        self._server.daemon_threads = True

    @property
    def target(self) -> str:
        """host:port, as a scrape job wants it."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def show(self, page: Path | None) -> None:
        self._page = page.read_bytes() if page else None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="replay").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
