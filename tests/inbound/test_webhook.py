import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from bot.inbound.intake import Intake
from bot.inbound.server import HttpServer, new_api
from bot.inbound.webhook import AlertmanagerWebhook
from bot.incidents.alert import AlertStatus
from bot.outbound.store import SqlStore
from tests.fixtures_store import NOW

PAYLOADS = Path(__file__).parents[1] / "payloads"
LIMIT = 200_000
FIRING = (PAYLOADS / "am-webhook-firing-single.json").read_bytes()


class Bot:
    """The real server before the real store, and a client that may misbehave."""

    def __init__(self, store: SqlStore, token: str | None, waiting_limit: int) -> None:
        self.store = store
        self.intake = Intake(store.take_in_webhooks, lambda: None, waiting_limit=waiting_limit)
        secret = SecretStr(token) if token is not None else None
        self.webhook = AlertmanagerWebhook(self.intake, token=secret, body_limit_bytes=LIMIT, clock=lambda: NOW)
        api = new_api()
        self.webhook.add_to(api)
        self.server = HttpServer(api, host="127.0.0.1", port=0)

    def post(self, body: object, headers: dict[str, str] | None = None, *, chunked: bool = False) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        given = {"Authorization": "Bearer right", **(headers or {})}
        connection.request("POST", "/alertmanager", body, given, encode_chunked=chunked)
        answer = connection.getresponse()
        said = answer.status, answer.read().decode()
        connection.close()
        return said

    def alerts(self):
        with self.store.read() as tx:
            return [d.alert for d in tx.deliveries(10_000)]

    def truncated(self):
        with self.store.read() as tx:
            return [(g.group_key, g.truncated) for g in tx.truncated_groups()]

    def truncated_for(self):
        with self.store.read() as tx:
            return [g.receiver for g in tx.truncated_groups()]


@contextmanager
def running(store: SqlStore, token: str | None = "right", waiting_limit: int = 2000) -> Iterator[Bot]:
    bot = Bot(store, token, waiting_limit)
    bot.intake.start()
    bot.server.start()
    try:
        yield bot
    finally:
        bot.server.stop()
        bot.intake.stop()


@pytest.fixture
def bot(store):
    with running(store) as started:
        yield started


@pytest.fixture
def sqlite_bot(tmp_path):
    """For what does not depend on the database."""
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with running(store) as started:
        yield started
    store.close()


def webhook(*alerts: dict, **changes: object) -> bytes:
    body = json.loads(FIRING)
    return json.dumps({**body, "alerts": alerts or body["alerts"], **changes}).encode()


def alert(**changes: object) -> dict:
    return {**json.loads(FIRING)["alerts"][0], **changes}


# ------------------------------------------------------------------------------------------------------ what is taken


def test_what_alertmanager_posts_is_on_disk_before_the_answer(bot):
    assert bot.post(FIRING) == (200, "")
    (told,) = bot.alerts()
    assert told.name == "VLLMKVCacheHigh"
    assert told.starts_at == "2026-11-23T17:00:15.143Z"
    assert told.received_at == NOW


@pytest.mark.parametrize("payload", sorted(PAYLOADS.glob("am-webhook-*ing-*.json")), ids=lambda p: p.stem)
def test_every_recorded_payload_is_understood(sqlite_bot, payload):
    assert sqlite_bot.post(payload.read_bytes())[0] == 200


def test_a_repeated_post_is_one_delivery(bot):
    bot.post(FIRING)
    bot.post(FIRING)
    assert len(bot.alerts()) == 1
    assert (bot.intake.alerts, bot.intake.repeats) == (2, 1)


def test_a_truncated_group_is_remembered_to_be_asked_for(bot):
    assert bot.post((PAYLOADS / "am-webhook-firing-group-truncated.json").read_bytes())[0] == 200
    assert [truncated for _, truncated in bot.truncated()] == [7]
    assert len(bot.alerts()) == 5


def test_alerts_of_one_group_may_differ_in_status(sqlite_bot):
    sqlite_bot.post(webhook(alert(fingerprint="a"), alert(fingerprint="b", status="resolved")))
    assert [a.status for a in sqlite_bot.alerts()] == [AlertStatus.FIRING, AlertStatus.RESOLVED]


def test_a_group_without_alerts_is_nothing_to_do(sqlite_bot):
    body = json.loads(FIRING)
    assert sqlite_bot.post(json.dumps({**body, "alerts": []})) == (200, "")
    assert sqlite_bot.alerts() == []


def test_older_and_newer_alertmanagers_are_understood(sqlite_bot):
    lean = {k: v for k, v in alert().items() if k in ("status", "labels", "startsAt", "fingerprint")}
    assert sqlite_bot.post(json.dumps({"version": "4", "status": "firing", "alerts": [lean]}))[0] == 200
    assert sqlite_bot.post(webhook(alert(fingerprint="b", new={"a": 1}), routeLabels={}, version="5"))[0] == 200
    assert len(sqlite_bot.alerts()) == 2


def test_thousands_of_alerts_in_one_webhook_are_all_there(store):
    with running(store) as bot:
        bot.webhook._limit = 4 * 1024 * 1024
        body = webhook(*(alert(fingerprint=f"{n:016x}") for n in range(5000)))
        assert bot.post(body)[0] == 200
        assert len({a.fingerprint for a in bot.alerts()}) == 5000


def test_a_huge_label_value_is_taken_in_whole(bot):
    value = "x" * 100_000
    assert bot.post(webhook(alert(labels={"alertname": "A", "huge": value})))[0] == 200
    assert bot.alerts()[0].labels["huge"] == value


def test_a_nul_in_a_label_does_not_lose_the_alert(bot):
    assert bot.post(webhook(alert(labels={"alertname": "A\0B", "k\0": "v"}, generatorURL="u\0")))[0] == 200
    (told,) = bot.alerts()
    assert (told.labels, told.generator_url) == ({"alertname": "A�B", "k�": "v"}, "u�")


def test_text_of_any_script_is_taken_in_as_it_is(bot):
    labels = {"alertname": "延迟 ⚠ é \U0001f6a8 <!channel>", "sneaky": "'; DROP TABLE alert; --"}
    assert bot.post(webhook(alert(labels=labels)))[0] == 200
    assert bot.alerts()[0].labels == labels


def test_a_chunked_body_without_a_length_is_taken_in(sqlite_bot):
    assert sqlite_bot.post(iter([FIRING[:100], FIRING[100:]]), chunked=True)[0] == 200
    assert len(sqlite_bot.alerts()) == 1


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer rightt",
        "Basic right",
        "right",
        "Bearer right right",
        "Bearer é",
    ],
)
def test_without_the_right_token_nothing_is_taken(sqlite_bot, given):
    headers = {"Authorization": given.encode("utf-8").decode("latin-1")}
    status, said = sqlite_bot.post(FIRING, headers)
    assert status == 401
    assert "VLLM_ONCALL_INTAKE__TOKEN" in said
    assert sqlite_bot.alerts() == []


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("given", ["Bearer ", "Bearer right", "Bearer None"])
def test_without_a_configured_token_everything_is_refused_and_says_why(tmp_path, token, given):
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with running(store, token) as bot:
        status, said = bot.post(FIRING, {"Authorization": given})
        assert (status, bot.alerts()) == (401, [])
        assert "No token is configured" in said
    store.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: Invalid JSON"),
        (b"{", "body: Invalid JSON"),
        (b"[]", "body: Input should be an object"),
        (b"null", "body: Input should be an object"),
        (b"{}", "version: Field required; status: Field required; alerts: Field required"),
        (FIRING.replace(b"KV cache", b"\xff\xfe"), "Invalid JSON"),
        (FIRING.replace(b"KV cache", rb"\ud800"), "Invalid JSON"),
        (webhook(alert(status="pending")), "alerts.0.status: Input should be 'firing' or 'resolved'"),
        (webhook(alert(fingerprint="")), "alerts.0.fingerprint"),
        (webhook(alert(fingerprint="f" * 5000)), "alerts.0.fingerprint"),
        (webhook(alert(labels={"a": 1})), "alerts.0.labels.a: Input should be a valid string"),
        (webhook(alert(labels=None)), "alerts.0.labels"),
        (webhook(truncatedAlerts="many"), "truncatedAlerts"),
        (webhook(*[alert(status="x")] * 9), "; and 4 more"),
        (b"[" * 100_000, "Invalid JSON"),
    ],
)
def test_what_is_no_webhook_is_refused_with_the_place_of_the_mistake(sqlite_bot, body, said):
    status, text = sqlite_bot.post(body)
    assert status == 400
    assert said in text
    assert len(text) < 1000
    assert sqlite_bot.alerts() == []


def test_a_truncation_too_large_for_the_database_does_not_take_the_intake_down(bot):
    assert bot.post(webhook(truncatedAlerts=2**40))[0] in (200, 400)
    assert bot.post(webhook(alert(fingerprint="next")))[0] == 200


def test_compressed_bodies_are_refused_in_words(sqlite_bot):
    status, said = sqlite_bot.post(b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert status == 415
    assert "plain JSON" in said


def test_only_post_is_understood(sqlite_bot):
    connection = http.client.HTTPConnection("127.0.0.1", sqlite_bot.server.port, timeout=5)
    connection.request("GET", "/alertmanager")
    assert connection.getresponse().status == 405
    connection.close()


# -------------------------------------------------------------------------------------------------------- too much


def test_a_body_over_the_limit_is_refused_before_it_is_read_and_asked_for_elsewhere(bot):
    with socket.create_connection(("127.0.0.1", bot.server.port), timeout=5) as raw:
        raw.sendall(
            b"POST /alertmanager HTTP/1.1\r\nHost: bot\r\nAuthorization: Bearer right\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")
    assert bot.truncated() == [("", 0)]


TOO_LARGE = webhook(alert(annotations={"summary": "x" * LIMIT}))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("body", "receiver"),
    [
        (TOO_LARGE, "default"),
        (TOO_LARGE.replace(b'"default"', rb'"a \"b\" \u003c\u00e9\u0000"', 1), 'a "b" <é�'),
        (TOO_LARGE.replace(b'"default"', rb'"\ud800"', 1), ""),
        (TOO_LARGE.replace(b'"receiver"', b'"other"', 1), ""),
        (b"x" * (LIMIT + 1), ""),
    ],
    ids=["alertmanager's", "escapes", "no text", "another order", "no JSON"],
)
def test_for_whom_a_webhook_was_is_known_even_if_it_is_too_large(sqlite_bot, body, receiver, chunked):
    given = iter([body[:10], body[10:]]) if chunked else body
    assert sqlite_bot.post(given, chunked=chunked)[0] == 413
    assert sqlite_bot.truncated_for() == [receiver]


def test_a_hundred_megabytes_are_refused_without_being_kept(sqlite_bot):
    chunk = b"x" * 1_000_000
    before = resident_bytes()
    status, said = sqlite_bot.post(iter([chunk] * 100), {"Content-Length": "100000000"})
    assert status == 413
    assert "max_alerts" in said
    assert resident_bytes() - before < 20_000_000


def test_a_hundred_megabytes_in_chunks_are_cut_off_at_the_limit(sqlite_bot):
    before = resident_bytes()
    assert sqlite_bot.post(iter([b"x" * 1_000_000] * 100), chunked=True)[0] == 413
    assert resident_bytes() - before < 20_000_000
    assert sqlite_bot.post(FIRING)[0] == 200


def test_a_large_body_without_a_token_is_not_even_counted(sqlite_bot):
    status, _ = sqlite_bot.post(b"x" * (LIMIT + 1), {"Authorization": "Bearer wrong"})
    assert status == 401
    assert sqlite_bot.truncated() == []


def test_a_sender_that_leaves_in_the_middle_leaves_nothing(sqlite_bot):
    with socket.create_connection(("127.0.0.1", sqlite_bot.server.port), timeout=5) as raw:
        raw.sendall(
            b"POST /alertmanager HTTP/1.1\r\nHost: bot\r\nAuthorization: Bearer right\r\n"
            b"Content-Length: " + str(len(FIRING)).encode() + b"\r\n\r\n" + FIRING[:200]
        )
    assert sqlite_bot.post(webhook(alert(fingerprint="next")))[0] == 200
    assert [a.fingerprint for a in sqlite_bot.alerts()] == ["next"]
    assert sqlite_bot.webhook._reading == 0


def test_a_full_intake_answers_503_so_that_alertmanager_comes_again(tmp_path):
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with running(store, waiting_limit=1) as bot:
        with store.engines.writer.begin():  # the only writing connection
            first = threading.Thread(target=bot.post, args=(FIRING,))
            first.start()
            wait_until(lambda: bot.intake.waiting == 1)
            status, said = bot.post(webhook(alert(fingerprint="b")))
            assert status == 503
            assert "1 webhooks wait" in said
        first.join(10)
        assert bot.post(webhook(alert(fingerprint="b")))[0] == 200
    store.close()


def test_a_database_that_does_not_answer_is_a_503_after_five_seconds_and_nothing_is_lost(store):
    other = SqlStore.open(store.url)
    with running(store) as bot:
        with other.engines.writer.begin() as connection:
            hold(connection)
            started = time.monotonic()
            status, said = bot.post(FIRING)
            took = time.monotonic() - started
        assert (status, 4.5 < took < 7) == (503, True)
        assert "within 5 s" in said
        assert bot.post(FIRING)[0] == 200
        wait_until(lambda: bot.intake.waiting == 0)
        assert len(bot.alerts()) == 1
    other.close()


def hold(connection: sa.Connection) -> None:
    """What the intake needs: SQLite's one lock is held since BEGIN IMMEDIATE."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE delivery"))


def resident_bytes() -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def wait_until(true, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
