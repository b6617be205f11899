"""A server that answers as a test wants: rightly, wrongly, slowly, or not at all."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    connection: int  # the caller's port: the same as before if the connection was kept

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Says:
    body: bytes | str | Any = b""  # anything but text is sent as JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Silence:
    """The connection stays open, and nothing comes."""


class Trickle:
    """The answer begins at once and never ends."""


class Hangup:
    """The connection is closed without an answer."""


Answering = Callable[[Asked], Says | Silence | Trickle | Hangup]


@dataclass
class Server:
    url: str
    asked: list[Asked]


@contextmanager
def server(answer: Answering) -> Iterator[Server]:
    asked: list[Asked] = []
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            where = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(where.query))
            one = Asked(self.command, where.path, query, dict(self.headers), body, self.client_address[1])
            asked.append(one)
            said = answer(one)
            if isinstance(said, Silence):
                ending.wait(30)
            if isinstance(said, Silence | Hangup):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            elif isinstance(said, Trickle):
                self._trickle()
            else:
                self._say(said)

        def _say(self, said: Says) -> None:
            text = isinstance(said.body, bytes | str)
            raw = said.body if isinstance(said.body, bytes) else said.body.encode() if text else json.dumps(said.body)
            body = raw if isinstance(raw, bytes) else raw.encode()
            self.send_response(said.status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _trickle(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.close_connection = True
            try:
                while not ending.is_set():
                    self.wfile.write(b" ")
                    time.sleep(0.02)
            except OSError:
                pass  # the caller has had enough

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield Server(f"http://127.0.0.1:{http.server_address[1]}", asked)
    ending.set()
    http.shutdown()
    http.server_close()
