"""The dial before a server of ours that counts, streams and breaks off; over TLS too."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.dial import Dial
from sandbox.faults import Outage, Where


@dataclass
class Upstream:
    url: str = ""
    served: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    next_event: threading.Event = field(default_factory=threading.Event)


def handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            upstream.served.append((self.command, self.path))
            upstream.headers.append(dict(self.headers))
            if "watch" in self.path:
                return self.watch()
            answer = json.dumps({"body": body.decode()}).encode()
            self.send_response(201 if self.command == "POST" else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("X-Seen", "yes")
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = serve

        def watch(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"6\r\nfirst\n\r\n")
            upstream.next_event.wait(5)
            if "broken" in self.path:
                self.close_connection = True
                return
            self.wfile.write(b"7\r\nsecond\n\r\n0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def served() -> Iterator[Upstream]:
    made = Upstream()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    made.next_event.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def shared_dial(served: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dial]:
    with Dial("upstream", served.url, tmp_path_factory.mktemp("dial")) as made:
        yield made


@pytest.fixture
def upstream(served: Upstream) -> Upstream:
    """Has served nothing yet, and holds its next event back."""
    served.served.clear()
    served.headers.clear()
    served.next_event.clear()
    return served


@pytest.fixture
def dial(upstream: Upstream, shared_dial: Dial) -> Iterator[Dial]:
    yield shared_dial
    shared_dial.control.latency(0)


def test_what_passes_is_unchanged_and_logged(upstream: Upstream, dial: Dial):
    before = dial.control.mark()
    posted = requests.post(
        f"{dial.url}/api/v1/query?a=b%20c", data="q=up", headers={"Authorization": "Bearer sesame"}, timeout=5
    )
    assert (posted.status_code, posted.json(), posted.headers["X-Seen"]) == (201, {"body": "q=up"}, "yes")
    assert upstream.served == [("POST", "/api/v1/query?a=b%20c")]
    assert upstream.headers[0]["Authorization"] == "Bearer sesame"
    [entry] = dial.control.log(before, kind="http")
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/api/v1/query?a=b%20c", 201)


def test_a_watch_arrives_event_by_event(upstream: Upstream, dial: Dial):
    lines = requests.get(f"{dial.url}/watch", stream=True, timeout=5).iter_lines()
    assert next(lines) == b"first"
    upstream.next_event.set()
    assert list(lines) == [b"second"]


def test_an_upstream_that_breaks_off_is_broken_off_here(upstream: Upstream, dial: Dial):
    lines = requests.get(f"{dial.url}/watch/broken", stream=True, timeout=5).iter_lines()
    assert next(lines) == b"first"
    upstream.next_event.set()
    with pytest.raises(requests.exceptions.RequestException):
        list(lines)


def test_a_watch_falls_silent_in_a_hang(upstream: Upstream, dial: Dial):
    lines = requests.get(f"{dial.url}/watch", stream=True, timeout=(5, 0.5)).iter_lines()
    assert next(lines) == b"first"
    with dial.control.down(Outage.HANG):
        upstream.next_event.set()
        with pytest.raises(requests.ConnectionError, match="Read timed out"):
            next(lines)


def test_latency_is_added_to_each_exchange(upstream: Upstream, dial: Dial):
    dial.control.latency(0.3)
    took = []
    for _ in range(5):
        began = time.monotonic()
        requests.get(dial.url, timeout=5)
        took.append(time.monotonic() - began)
    assert 0.3 <= min(took) < 0.6, took  # the quickest: a busy machine adds to the others


def test_an_outage_never_reaches_the_upstream(upstream: Upstream, dial: Dial):
    with dial.control.down(Outage.ERROR, error_status=500):
        assert requests.get(dial.url, timeout=5).status_code == 500
    with dial.control.down(Outage.HANG), pytest.raises(requests.Timeout):
        requests.get(dial.url, timeout=0.2)
    with dial.control.down(Outage.REFUSE), pytest.raises(requests.ConnectionError):
        requests.get(dial.url, timeout=5)
    assert upstream.served == []
    assert requests.get(dial.url, timeout=5).ok


def test_a_change_can_be_stopped_after_it_was_made(upstream: Upstream, dial: Dial):
    """For a crash between the API's write and the caller's checkpoint."""
    hold = dial.control.hold_next(Where.AFTER, method="^PATCH$", path="/deployments/")
    requests.get(f"{dial.url}/deployments/chat", timeout=5)
    with pytest.raises(requests.Timeout):
        requests.patch(f"{dial.url}/deployments/chat", timeout=0.3)
    assert hold.wait_reached()["path"] == "/deployments/chat"
    assert upstream.served[-1] == ("PATCH", "/deployments/chat")
    hold.cut()
    assert requests.patch(f"{dial.url}/deployments/chat", timeout=5).ok


def test_a_change_can_be_stopped_before_it_is_made(upstream: Upstream, dial: Dial):
    hold = dial.control.hold_next(Where.BEFORE, method="^PATCH$")
    answers = []
    patching = threading.Thread(target=lambda: answers.append(requests.patch(dial.url, timeout=5).status_code))
    patching.start()
    hold.wait_reached()
    assert upstream.served == []
    hold.release()
    patching.join()
    assert answers == [200] and hold.reached


def test_a_failpoint_nobody_reaches_says_so(dial: Dial):
    hold = dial.control.hold_next(Where.AFTER, method="DELETE")
    with pytest.raises(TimeoutError, match="no exchange reached"):
        hold.wait_reached(0.1)


def test_an_upstream_that_is_away_is_a_bad_gateway(tmp_path):
    with Dial("nothing", "http://127.0.0.1:9", tmp_path) as dial:
        answer = requests.get(dial.url, timeout=5)
        assert answer.status_code == 502 and "nothing behind the dial" in answer.text


@dataclass(frozen=True)
class Tls:
    certificate: Path
    key: Path


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """Self-signed, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dial")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Tls(tmp_path / "dial.crt", tmp_path / "dial.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def test_both_sides_can_speak_tls(tls: Tls, tmp_path):
    upstream = Upstream()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(upstream))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    with Dial("api", url, tmp_path, upstream_ca=tls.certificate, certificate=tls.certificate, key=tls.key) as dial:
        assert dial.url.startswith("https://")
        assert requests.get(dial.url, verify=str(tls.certificate), timeout=5).ok
    with Dial("distrustful", url, tmp_path) as dial:
        assert requests.get(dial.url, timeout=5).status_code == 502
    server.shutdown()
    server.server_close()
