"""A real Prometheus that scrapes real vLLM captures, and a real Alertmanager that tells a listener of ours."""

import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox.alertmanager import Alertmanager, Webhook
from sandbox.prometheus import Job, Prometheus
from sandbox.replay import Replay

PAYLOADS = Path(__file__).parent / "payloads"
IDLE = PAYLOADS / "vllm-metrics-idle.txt"
PRESSURE = PAYLOADS / "vllm-metrics-pressure.txt"


@dataclass
class WebhookListener:
    """Keeps what was posted to it; `status` is what it answers."""

    url: str = ""
    status: int = 200
    received: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)
    authorizations: list[str | None] = field(default_factory=list)

    def next(self, seconds: float = 15) -> dict[str, Any]:
        return self.received.get(timeout=seconds)


@pytest.fixture
def webhook_listener() -> Iterator[WebhookListener]:
    listener = WebhookListener()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            listener.authorizations.append(self.headers["Authorization"])
            self.send_response(listener.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if listener.status == 200:
                listener.received.put(json.loads(body))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    listener.url = f"http://127.0.0.1:{server.server_address[1]}/"
    yield listener
    server.shutdown()
    server.server_close()


@pytest.fixture
def alertmanager(tmp_path: Path, webhook_listener: WebhookListener) -> Iterator[Alertmanager]:
    """Tells `webhook_listener`, at once and ungrouped by time."""
    with Alertmanager(tmp_path / "alertmanager", [Webhook(webhook_listener.url, bearer_token="sesame")]) as part:
        yield part


@pytest.fixture(scope="session")
def idle_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Has scraped the idle capture of a real vLLM; shared, so only to be read."""
    with Replay(IDLE) as vllm:
        job = Job("vllm", [vllm.target], {"namespace": "chat", "pod": "chat-70b-0"})
        with Prometheus(tmp_path_factory.mktemp("prometheus"), [job]) as prometheus:
            prometheus.wait_until_up("vllm")
            yield prometheus
