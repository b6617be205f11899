import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from sandbox.fleet.watch import Inventory, Watch
from tests.fixtures_fleet import until


def thing(name: str, version: str) -> dict:
    return {"metadata": {"uid": f"uid-{name}", "name": name, "resourceVersion": version}}


# As a real API server sends it: nothing but how far the watch is.
BOOKMARK = {"kind": "Pod", "metadata": {"resourceVersion": "12", "creationTimestamp": None}}


def names(inventory: Inventory) -> set[str]:
    return {o["metadata"]["name"] for o in inventory.objects()}


def test_events_change_what_is_known():
    inventory = Inventory()
    inventory.replace([thing("a", "1"), thing("b", "1")])
    inventory.apply("DELETED", thing("a", "2"))
    inventory.apply("ADDED", thing("c", "3"))
    version = inventory.version
    inventory.apply("BOOKMARK", BOOKMARK)
    assert names(inventory) == {"b", "c"}
    assert inventory.version == version


class Script:
    """What an API server answers: the lists one after the other, and for each the events that follow it."""

    def __init__(self, *rounds: tuple[list[dict], list[dict]]) -> None:
        self.rounds = list(rounds)
        self.lists = 0
        self.asked_versions: list[str] = []
        self.url = ""
        self.over = threading.Event()


@pytest.fixture
def api_server(request: pytest.FixtureRequest) -> Iterator[Script]:
    script: Script = request.param

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if "watch" not in query:
                items = script.rounds[min(script.lists, len(script.rounds) - 1)][0]
                script.lists += 1
                self.chunk(json.dumps({"metadata": {"resourceVersion": "10"}, "items": items}).encode())
                self.chunk(b"")
                return
            script.asked_versions.append(query["resourceVersion"][0])
            events = script.rounds[min(script.lists - 1, len(script.rounds) - 1)][1]
            # In pieces that end in the middle of a line, as they come over a network.
            text = "".join(json.dumps(event) + "\n" for event in events).encode()
            for start in range(0, len(text), 37):
                self.chunk(text[start : start + 37])
            if not events or events[-1]["type"] != "ERROR":
                script.over.wait(10)
            self.chunk(b"")

        def chunk(self, text: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield script
    script.over.set()
    server.shutdown()
    server.server_close()


@contextmanager
def watched(script: Script) -> Iterator[Inventory]:
    inventory = Inventory()
    core = client.CoreV1Api(client.ApiClient(client.Configuration(host=script.url)))
    watch = Watch("pods", inventory, core.list_pod_for_all_namespaces)
    watch.start()
    yield inventory
    watch.stop()


CHANGES = [
    {"type": "ADDED", "object": thing("b", "11")},
    {"type": "BOOKMARK", "object": BOOKMARK},
    {"type": "DELETED", "object": thing("a", "13")},
]


@pytest.mark.parametrize("api_server", [Script(([thing("a", "1")], CHANGES))], indirect=True)
def test_a_list_is_followed_by_the_changes_after_it(api_server: Script):
    with watched(api_server) as inventory:
        until(lambda: names(inventory) == {"b"})
    assert inventory.synced
    assert api_server.asked_versions == ["10"]


EXPIRED = [{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}]


@pytest.mark.parametrize("api_server", [Script(([thing("a", "1")], EXPIRED), ([thing("z", "9")], []))], indirect=True)
def test_a_version_that_is_too_old_means_listing_anew(api_server: Script):
    with watched(api_server) as inventory:
        until(lambda: names(inventory) == {"z"})
    assert api_server.lists == 2


def test_while_the_api_server_is_away_the_last_known_stays():
    inventory = Inventory()
    inventory.replace([thing("a", "1")])
    tried = threading.Event()

    def refuse(**_: object) -> None:
        tried.set()
        raise OSError("connection refused")

    watch = Watch("pods", inventory, refuse)
    watch.start()
    assert tried.wait(5)
    watch.stop()
    assert names(inventory) == {"a"}
