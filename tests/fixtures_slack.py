"""A real local-slack behind the strict rules, bots on it (Bolt, Socket Mode), and a browser."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
import websocket
from slack_bolt import App
from slack_bolt.adapter.socket_mode.builtin import SocketModeHandler
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from sandbox.browser import Chromium
from sandbox.faults import Outage
from sandbox.local_slack import LocalSlack
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from sandbox.slack_workspace import SlackApp, SlackWorkspace, demo_workspace

CHANNEL = "C01INCCHAT"
ALICE, BOB, CAROL = "U01ALICE", "U02BOB", "U03CAROL"


@pytest.fixture(scope="session")
def workspace() -> SlackWorkspace:
    """With an app that has a Home tab, too, which is how Slack's events are tested."""
    return demo_workspace(replace(SlackApp.installed(), events=("app_home_opened",)))


@pytest.fixture(scope="session")
def local_slack(workspace: SlackWorkspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlack]:
    with LocalSlack(workspace, tmp_path_factory.mktemp("local-slack")) as local:
        yield local


@pytest.fixture(scope="session")
def shared_slack(local_slack: LocalSlack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackRules]:
    """One for the whole run; tests use `slack`, which cleans it."""
    with SlackRules(local_slack, tmp_path_factory.mktemp("slack")) as rules:
        yield rules


@pytest.fixture
def slack(shared_slack: SlackRules) -> Iterator[SlackRules]:
    """Empty channels, every rule on, no latency, no outage."""
    shared_slack.control.reset()
    yield shared_slack
    shared_slack.control.switch(*Rule, on=True)
    shared_slack.control.outage(Outage.NONE)
    shared_slack.control.latency(0)


@pytest.fixture
def client(slack: SlackRules) -> WebClient:
    return WebClient(slack.workspace.apps[0].bot_token, base_url=slack.api_url, timeout=10)


class Bot:
    """A Bolt app with one Socket Mode connection; `app` takes listeners before `connect`."""

    def __init__(self, slack: SlackRules) -> None:
        registered = slack.workspace.apps[0]
        self.client = WebClient(registered.bot_token, base_url=slack.api_url, timeout=10)
        self.app = App(client=self.client, signing_secret="not used with sockets")
        app_client = WebClient(registered.app_token, base_url=slack.api_url, timeout=10)
        self._handler = SocketModeHandler(self.app, registered.app_token, web_client=app_client)
        self.socket = self._handler.client
        self.received: list[dict] = []

    def note(self, **payload: object) -> None:
        self.received.append(payload)

    def connect(self) -> "Bot":
        self._handler.connect()
        return self

    def close(self) -> None:
        """At once: by itself the client waits seconds for its own threads, which end in the background here."""
        self.socket.auto_reconnect_enabled = False
        session = self.socket.current_session
        if session is not None and session.sock is not None:
            with suppress(OSError):  # closed already
                session.sock.shutdown(socket.SHUT_RDWR)
        threading.Thread(target=self._handler.close).start()


@pytest.fixture
def new_bot(slack: SlackRules) -> Iterator[Callable[[], Bot]]:
    made: list[Bot] = []

    def make() -> Bot:
        made.append(Bot(slack))
        return made[-1]

    yield make
    for bot in made:
        bot.close()
    slack.control.wait_connected(0)


@pytest.fixture
def bot(new_bot: Callable[[], Bot]) -> Bot:
    return new_bot()


class RawSocket:
    """One Socket Mode connection without a library's manners: acknowledges what and when the test says."""

    def __init__(self, slack: SlackRules) -> None:
        registered = slack.workspace.apps[0]
        opened = WebClient(registered.app_token, base_url=slack.api_url).apps_connections_open(
            app_token=registered.app_token
        )
        self._socket = websocket.create_connection(opened["url"], timeout=10)
        self.hello = self.receive()

    def receive(self) -> dict:
        return json.loads(self._socket.recv())

    def ack(self, envelope: dict, payload: dict | None = None) -> None:
        self._socket.send(json.dumps({"envelope_id": envelope["envelope_id"], "payload": payload}))

    def ping(self) -> None:
        self._socket.ping()

    def die(self) -> None:
        """As with kill -9: no goodbye."""
        if self._socket.connected:
            self._socket.shutdown()  # the library's word for closing the connection without a closing frame


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Not for the whole run: while it lives, nothing else in this thread can run an event loop."""
    with Chromium() as browser:
        yield browser


def refusal(call: Callable[[], object]) -> SlackResponse:
    """What Slack answers to a call that it refuses."""
    with pytest.raises(SlackApiError) as caught:
        call()
    return caught.value.response


def eventually(question: Callable[[], object], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.02)
    return False


def button(action_id: str, label: str = "Go", *, value: str = "v", block_id: str = "b") -> list[dict]:
    """One actions block with one button."""
    element = {"type": "button", "action_id": action_id, "value": value, "text": {"type": "plain_text", "text": label}}
    return [{"type": "actions", "block_id": block_id, "elements": [element]}]


def modal(*blocks: dict, title: str = "Review", **more: object) -> dict:
    text = {"type": "plain_text", "text": title}
    submit = {"type": "plain_text", "text": "Approve"}
    return {"type": "modal", "callback_id": "review", "title": text, "submit": submit, "blocks": list(blocks), **more}


def section(text: str, **more: object) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def text_input(block_id: str, label: str, **element: object) -> dict:
    return {
        "type": "input",
        "block_id": block_id,
        "label": {"type": "plain_text", "text": label},
        "element": {"type": "plain_text_input", "action_id": "value", **element},
    }
