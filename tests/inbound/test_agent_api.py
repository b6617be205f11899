import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import requests
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from bot.gpu_readings import EventPage, Gpu, GpuNode
from bot.inbound.agent_api import AgentApi
from bot.inbound.server import HttpServer, new_api

AT = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)
NODE = GpuNode("gpu-01", AT, gpus=(Gpu(0, uuid="GPU-a"),))
TOKEN = {"Authorization": "Bearer secret"}


class Events:
    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None, float]] = []
        self.news = threading.Event()

    def __call__(self, seq: int, *, ring: str | None, wait_seconds: float) -> EventPage:
        self.asked.append((seq, ring, wait_seconds))
        self.news.wait(wait_seconds)
        return EventPage("ring", seq + 1)


@contextmanager
def served(*, token: str | None = "secret", events: Events | None = None) -> Iterator[str]:
    api = new_api()
    AgentApi(
        token=SecretStr(token) if token else None,
        snapshot=lambda: NODE,
        events=events or Events(),
        metrics=CollectorRegistry(),
    ).add_to(api)
    server = HttpServer(api, host="127.0.0.1", port=0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def test_readings_are_told_to_whoever_has_the_token():
    with served() as url:
        answer = requests.get(f"{url}/v1/gpus", headers=TOKEN, timeout=5)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["node"], told["gpus"][0]["uuid"], told["gpus"][0]["temperature"]["gpu_celsius"]) == (
        "gpu-01",
        "GPU-a",
        None,
    )


@pytest.mark.parametrize("path", ["/v1/gpus", "/v1/events", "/metrics"])
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "Basic secret"}]
)
def test_without_the_right_token_nothing_is_told(path, headers):
    with served() as url:
        answer = requests.get(url + path, headers=headers, timeout=5)
    assert answer.status_code == 401
    assert "GPU-a" not in answer.text


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}, TOKEN])
def test_without_a_configured_token_everything_is_refused(headers):
    with served(token=None) as url:
        answer = requests.get(f"{url}/v1/gpus", headers=headers, timeout=5)
    assert answer.status_code == 401
    assert "VLLM_ONCALL_AGENT__TOKEN" in answer.text


def test_the_process_health_needs_no_token_and_says_nothing_else():
    with served(token=None) as url:
        answer = requests.get(f"{url}/healthz", timeout=5)
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_changed(method):
    with served() as url:
        for path in ("/v1/gpus", "/v1/events", "/metrics", "/healthz"):
            assert getattr(requests, method)(url + path, headers=TOKEN, timeout=5).status_code == 405


def test_events_are_waited_for():
    events = Events()
    with served(events=events) as url:
        answer = requests.get(f"{url}/v1/events?after=3&ring=abc&wait=0.2", headers=TOKEN, timeout=5)
    assert answer.json() == {"ring": "ring", "last_seq": 4, "events": []}
    assert events.asked == [(3, "abc", 0.2)]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=61", "wait=-1"])
def test_a_wrong_question_is_refused(query):
    with served() as url:
        assert requests.get(f"{url}/v1/events?{query}", headers=TOKEN, timeout=5).status_code == 422


def test_many_who_wait_do_not_block_the_others():
    events = Events()
    with served(events=events) as url:

        def wait() -> None:
            requests.get(f"{url}/v1/events?wait=20", headers=TOKEN, timeout=30)

        waiting = [threading.Thread(target=wait) for _ in range(30)]
        for one in waiting:
            one.start()
        deadline = time.monotonic() + 10
        while len(events.asked) < 30:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        assert json.loads(requests.get(f"{url}/v1/gpus", headers=TOKEN, timeout=5).text)["node"] == "gpu-01"
        assert time.monotonic() - began < 2
        assert sum(seconds > 0 for _, _, seconds in events.asked) == 16, "the others are answered at once"
        events.news.set()
        for one in waiting:
            one.join(10)
