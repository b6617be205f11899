"""The bot's HTTP server, in a thread of its own: webhooks, health, metrics."""

import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

_START_SECONDS = 10


class HttpServer:
    """`start` returns when it answers. Port 0 takes a free one; `port` says which."""

    def __init__(self, api: FastAPI, *, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(2048)  # now: a bound port that nobody listens on can be taken once more
        except OSError as error:
            self._socket.close()
            raise OSError(
                error.errno, f"cannot listen on {host}:{port}: {error.strerror}. Does it run already?"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            api,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=120,  # longer than a usual group_interval, so that connections are met again
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True, name="http")

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the HTTP server on port {self.port} did not start; its reason is in the log")
            time.sleep(0.005)

    def stop(self) -> None:
        """Takes no new connections, and waits up to 3 s for the answers that are on their way."""
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def new_api() -> FastAPI:
    """Without pages about itself: it is for machines, and says no more than it must."""
    return FastAPI(title="vllm-oncall", docs_url=None, redoc_url=None, openapi_url=None)
