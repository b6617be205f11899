"""People in a real local-slack, behind the strict rules; and Slack's requests over HTTP, signed."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from bot.commands.request import RequestKind
from bot.inbound.server import new_api
from bot.inbound.slack import SlackInbound, inputs, meant
from bot.outbound.slack.chat import SlackChat, web_client
from bot.outbound.slack.people import People
from bot.outbound.store import SqlStore
from bot.ports import Input, Modal, SourceError
from bot.report import Button, Buttons, Menu, Report, Text
from sandbox.faults import Outage
from sandbox.slack_rules.part import SlackRules
from tests.fake_chat import FakeChat
from tests.fixtures_slack import ALICE, BOB, CHANNEL

CARD = Report(
    "chat-70b slow",
    (
        Text("chat-70b is slow"),
        Buttons(
            (
                Button("Review: scale 3 → 4…", "review", "inc-142-p2"),
                Button("Ack", "ack", "inc-142"),
                Menu((Button("Diagnose again", "rerun", "inc-142"), Button("Resolve", "resolve", "inc-142"))),
            )
        ),
    ),
)


def contract(click: str, subject: str, user: str, now: datetime) -> Modal:
    reason = Input("break_glass_reason", "Reason", optional=True)
    return Modal("Review change", Report(f"{click} {subject} for {user}"), subject, "review", "Scale 3 → 4", (reason,))


class Taken:
    """An inbound side on a store of its own, and what it wrote down."""

    def __init__(self, store: SqlStore, slack: SlackRules) -> None:
        self.store = store
        self.woken = threading.Event()
        registered = slack.workspace.apps[0]
        client = web_client(registered.bot_token, api_url=slack.api_url, timeout_seconds=3)
        self.chat = SlackChat(client, People(client))
        self.contract = contract
        self.inbound = SlackInbound(
            store,
            self.chat,
            lambda *arguments: self.contract(*arguments),
            bot_token=registered.bot_token,
            app_token=registered.app_token,
            signing_secret=None,
            api_url=slack.api_url,
            timeout_seconds=3,
            clock=lambda: datetime.now(UTC),
            wake=self.woken.set,
        )

    def connected(self, slack: SlackRules) -> "Taken":
        self.inbound.connect()
        slack.control.wait_connected(1)
        wait_for(self.inbound.is_connected)
        return self

    def requests(self, count: int = 1):
        def there() -> bool:
            with self.store.read() as tx:
                return len(tx.requests(100)) >= count

        wait_for(there)
        with self.store.read() as tx:
            return tx.requests(100)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def taken(store: SqlStore, slack: SlackRules):
    made = Taken(store, slack)
    yield made
    made.inbound.close()
    slack.control.wait_connected(0)


def card_in(slack: SlackRules, taken: Taken) -> str:
    return taken.chat.post(CHANNEL, CARD, marker="card-inc-142")


def press(slack: SlackRules, ts: str, action_id: str, *, user: str = BOB, **more: object) -> None:
    blocks = next(m for m in slack.control.messages(CHANNEL) if m["ts"] == ts)["blocks"]
    block = next(b for b in blocks if b["type"] == "actions")
    element = next(e for e in block["elements"] if e["action_id"] == action_id)
    action = {"block_id": block["block_id"], "action_id": action_id, "type": element["type"], **more}
    if "value" in element:
        action["value"] = element["value"]
    slack.control.click(user, CHANNEL, ts, action)


# ---------------------------------------------------------------------------------------------- Socket Mode


def test_a_command_is_written_down_and_the_leader_woken(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    slack.control.command(BOB, CHANNEL, "/vllm", "diagnose high_latency")
    (request,) = taken.requests()
    assert (request.kind, request.user, request.channel) == (RequestKind.COMMAND, BOB, CHANNEL)
    assert request.payload == {"text": "diagnose high_latency"}
    assert taken.woken.wait(5)


def test_a_click_is_written_down_with_what_it_means(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    ts = card_in(slack, taken)
    press(slack, ts, "ack")
    (request,) = taken.requests()
    assert (request.kind, request.user, request.channel) == (RequestKind.CLICK, BOB, CHANNEL)
    assert request.payload == {"action": "ack", "value": "inc-142"}


def test_a_menus_choice_is_a_click_too(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    ts = card_in(slack, taken)
    option = {"text": {"type": "plain_text", "text": "Resolve"}, "value": "resolve inc-142"}
    press(slack, ts, "menu", selected_option=option)
    (request,) = taken.requests()
    assert request.payload == {"action": "resolve", "value": "inc-142"}


def test_a_review_opens_at_once_and_is_filled_in_when_the_cluster_has_answered(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    go = threading.Event()

    def slow(*arguments: object) -> Modal:
        go.wait(10)
        return contract(*arguments)  # type: ignore[arg-type]

    taken.contract = slow
    ts = card_in(slack, taken)
    press(slack, ts, "review")
    wait_for(lambda: len(slack.control.modals(BOB)) == 1)
    assert "Checking the cluster" in json.dumps(slack.control.modals(BOB), ensure_ascii=False)
    go.set()
    wait_for(lambda: "review inc-142-p2 for U02BOB" in json.dumps(slack.control.modals(BOB)))
    with taken.store.read() as tx:
        assert not tx.requests(10), "reading asks for nothing"


def test_the_submitted_review_is_written_down_with_its_inputs(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    press(slack, card_in(slack, taken), "review")
    wait_for(lambda: "Scale 3" in json.dumps(slack.control.modals(BOB), ensure_ascii=False))
    values = {"break_glass_reason": {"value": {"type": "plain_text_input", "value": "customers are down"}}}
    slack.control.submit(BOB, values)
    (request,) = taken.requests()
    assert (request.kind, request.user) == (RequestKind.SUBMISSION, BOB)
    assert request.payload == {
        "callback": "review",
        "token": "inc-142-p2",
        "inputs": {"break_glass_reason": "customers are down"},
    }
    wait_for(lambda: not slack.control.modals(BOB))


def test_a_review_that_fails_tells_who_pressed(taken: Taken, slack: SlackRules):
    taken.connected(slack)

    def fails(*arguments: object) -> Modal:
        raise SourceError("Kubernetes", "did not answer within 10 s")

    taken.contract = fails
    press(slack, card_in(slack, taken), "review")
    wait_for(lambda: any("Kubernetes: did not answer" in m["text"] for m in slack.control.messages(CHANNEL)))


def test_the_same_press_delivered_twice_is_one_request(store: SqlStore, slack: SlackRules, taken: Taken):
    with store.write() as tx:
        asked = {"kind": RequestKind.CLICK, "user": BOB, "channel": CHANNEL, "payload": {}, "at": datetime.now(UTC)}
        assert tx.ask(key="trigger-1", **asked) and not tx.ask(key="trigger-1", **asked)


def test_a_store_that_is_down_is_told_and_nothing_is_left_hanging(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    ts = card_in(slack, taken)
    taken.store.close()

    class Down:
        def write(self):
            raise SourceError("Database", "did not answer")

    taken.inbound._store = Down()  # type: ignore[assignment]
    begun = time.monotonic()
    press(slack, ts, "ack")
    assert time.monotonic() - begun < 3, "acknowledged within Slack's time"
    wait_for(lambda: any("was not taken, and nothing was done" in m["text"] for m in slack.control.messages(CHANNEL)))


def test_many_people_press_at_once_and_every_press_is_taken(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    ts = card_in(slack, taken)
    threads = [
        threading.Thread(target=press, args=(slack, ts, "ack"), kwargs={"user": ALICE if n % 2 else BOB})
        for n in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken.requests(30)) == 30


def test_a_slack_that_is_down_at_the_start_is_connected_to_when_it_is_back(taken: Taken, slack: SlackRules):
    with slack.control.down(Outage.REFUSE):
        taken.inbound.connect()
        assert not taken.inbound.is_connected()
    slack.control.wait_connected(1, seconds=20)
    slack.control.command(BOB, CHANNEL, "/vllm", "help")
    taken.requests()


def test_after_an_outage_clicks_arrive_again(taken: Taken, slack: SlackRules):
    taken.connected(slack)
    with slack.control.down(Outage.REFUSE):
        wait_for(lambda: not taken.inbound.is_connected(), seconds=15)
    slack.control.wait_connected(1, seconds=25)
    slack.control.command(BOB, CHANNEL, "/vllm", "help")
    taken.requests()


# ---------------------------------------------------------------------------------------------- HTTP


SECRET = "the-signing-secret"


class Http:
    def __init__(self, store: SqlStore) -> None:
        self.chat = FakeChat()
        self.inbound = SlackInbound(
            store,
            self.chat,
            contract,
            bot_token="xoxb-1",
            app_token=None,
            signing_secret=SECRET,
            api_url="http://127.0.0.1:9/api/",
            timeout_seconds=1,
            clock=lambda: datetime.now(UTC),
            wake=lambda: None,
        )
        api = new_api()
        api.include_router(self.inbound.routes())
        self.client = TestClient(api)

    def send(self, form: dict[str, str], *, secret: str = SECRET, age: float = 0) -> int:
        body = urlencode(form)
        at = str(int(time.time() - age))
        signature = hmac.new(secret.encode(), f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": at,
            "X-Slack-Signature": f"v0={signature}",
        }
        return int(self.client.post("/slack/events", content=body, headers=headers).status_code)


@pytest.fixture
def http(store: SqlStore):
    made = Http(store)
    yield made
    made.inbound.close()


COMMAND = {"command": "/vllm", "text": "status", "user_id": BOB, "channel_id": CHANNEL, "trigger_id": "1.2.3"}


def test_over_http_a_signed_command_is_taken(http: Http, store: SqlStore):
    assert http.send(COMMAND) == 200
    with store.read() as tx:
        (request,) = tx.requests(10)
    assert request.payload == {"text": "status"} and http.inbound.is_connected()


@pytest.mark.parametrize("wrong", [{"secret": "another"}, {"age": 3600}])
def test_over_http_what_is_not_signed_by_slack_now_is_refused(http: Http, store: SqlStore, wrong: dict):
    assert http.send(COMMAND, **wrong) == 401
    with store.read() as tx:
        assert not tx.requests(10)


def test_over_http_a_click_opens_the_review(http: Http):
    payload = {
        "type": "block_actions",
        "trigger_id": "9.9.9",
        "user": {"id": BOB},
        "channel": {"id": CHANNEL},
        "actions": [{"action_id": "review:2", "block_id": "b", "type": "button", "value": "inc-142-p2"}],
    }
    assert http.send({"payload": json.dumps(payload)}) == 200
    wait_for(lambda: len(http.chat.modals.get("V9.9.9", ())) == 2)
    assert http.chat.modals["V9.9.9"][1].token == "inc-142-p2"


def test_neither_a_socket_nor_a_secret_is_a_mistake_of_the_settings(store: SqlStore):
    with pytest.raises(ValueError, match="signing secret"):
        SlackInbound(
            store,
            FakeChat(),
            contract,
            bot_token="x",
            app_token=None,
            signing_secret=None,
            api_url="http://127.0.0.1:9/api/",
            timeout_seconds=1,
            clock=lambda: datetime.now(UTC),
            wake=lambda: None,
        )


# ---------------------------------------------------------------------------------------------- words


def test_what_a_click_means():
    assert meant({"action_id": "ack", "value": "inc-1"}) == ("ack", "inc-1")
    assert meant({"action_id": "review:2", "value": "inc-1-p2"}) == ("review", "inc-1-p2")
    assert meant({"action_id": "menu", "selected_option": {"value": "rerun inc-1"}}) == ("rerun", "inc-1")


def test_inputs_are_what_was_typed_or_chosen_and_empty_ones_are_not_there():
    state = {
        "reason": {"value": {"type": "plain_text_input", "value": "why"}},
        "empty": {"value": {"type": "plain_text_input", "value": None}},
        "size": {"value": {"type": "static_select", "selected_option": {"value": "b"}}},
        "untouched": {"value": {"type": "static_select", "selected_option": None}},
    }
    assert inputs({"state": {"values": state}}) == {"reason": "why", "size": "b"}
    assert inputs({"state": None}) == {}
