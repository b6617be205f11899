"""What a browser's socket is told, frame by frame. The page itself is driven in `test_browser`."""

import json
from collections.abc import Callable, Iterator

import pytest
import requests
import websocket
from slack_sdk import WebClient

from sandbox.slack_rules.part import SlackRules
from tests.fixtures_slack import ALICE, BOB, CHANNEL, Bot, button, eventually, modal, section


class Page:
    def __init__(self, slack: SlackRules, user: str) -> None:
        self.user = user
        opened = requests.get(slack.page_url, params={"as": user}, timeout=5)
        cookies = "; ".join(f"{name}={value}" for name, value in opened.cookies.items())
        address = slack.page_url.replace("http://", "ws://") + "ui"
        self._socket = websocket.create_connection(address, timeout=5, cookie=cookies)
        self.state = self.next("init")["state"]

    def next(self, kind: str) -> dict:
        """The next frame of this kind; others are passed over."""
        while True:
            frame = json.loads(self._socket.recv())
            if frame["t"] == kind:
                return frame

    def send(self, **frame: object) -> None:
        self._socket.send(json.dumps({"user": self.user, **frame}))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def browse(slack: SlackRules) -> Iterator[Callable[[str], Page]]:
    pages: list[Page] = []

    def one(user: str) -> Page:
        pages.append(Page(slack, user))
        return pages[-1]

    yield one
    for page in pages:
        page.close()


def test_the_page_acts_as_the_person_it_was_opened_for(browse):
    assert browse(BOB).state["users"][0]["id"] == BOB
    assert browse("carol").state["users"][0]["name"] == "carol"


def test_an_ephemeral_message_is_shown_to_its_reader_only(client: WebClient, browse):
    alice, bob = browse(ALICE), browse(BOB)
    client.chat_postEphemeral(channel=CHANNEL, user=ALICE, text="psst")
    client.chat_postMessage(channel=CHANNEL, text="for all")
    assert alice.next("message")["message"]["text"] == "psst"
    assert bob.next("message")["message"]["text"] == "for all"
    assert [message["text"] for message in browse(BOB).state["messages"][CHANNEL]] == ["for all"]


def test_a_modal_is_shown_to_the_person_who_opened_it(slack: SlackRules, bot: Bot, browse):
    @bot.app.action("go")
    def opens(ack, body, client):
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=modal(section("x")))
        client.chat_postMessage(channel=CHANNEL, text="opened")

    bot.connect()
    slack.control.wait_connected(1)
    ts = bot.client.chat_postMessage(channel=CHANNEL, text="x", blocks=button("go"))["ts"]
    alice, bob = browse(ALICE), browse(BOB)
    action = {"type": "button", "block_id": "b", "action_id": "go"}
    alice.send(t="block_action", channel=CHANNEL, messageTs=ts, action=action)
    assert alice.next("view")["stack"][0]["title"]["text"] == "Review"
    assert bob.next("message")["message"]["text"] == "opened"  # and no view before it
    assert browse(BOB).state["modalStack"] == []
    assert len(browse(ALICE).state["modalStack"]) == 1


def test_the_page_tells_whether_the_bot_is_connected(slack: SlackRules, bot: Bot, browse):
    page = browse(ALICE)
    assert page.state["apps"][0]["connected"] is False
    bot.connect()
    assert page.next("socket_status")["connected"] is True
    bot.close()
    assert page.next("socket_status")["connected"] is False


def test_a_command_that_fails_is_a_notice_for_the_person(browse):
    page = browse(ALICE)
    page.send(t="slash_command", channel=CHANNEL, command="/vllm", text="status", appId="A01ONCALL")
    notice = page.next("message")["message"]
    assert notice["username"] == "Slackbot"
    assert "dispatch_failed" in notice["text"]
    page.send(t="slash_command", channel=CHANNEL, command="/nope", text="", appId="A01ONCALL")
    assert "not a valid command" in page.next("message")["message"]["text"]


def test_messages_are_shown_as_slack_shows_them(client: WebClient, browse):
    page = browse(ALICE)
    client.chat_postMessage(channel=CHANNEL, text="<!subteam^S01ONCALL> look")
    assert page.next("message")["message"]["text"] == "@ml-oncall look"


def test_a_reply_sent_to_the_channel_too_is_shown_in_both_places(slack: SlackRules, bot: Bot, browse):
    @bot.app.action("go")
    def action(ack, body):
        ack()
        bot.note(ts=body["message"]["ts"])

    bot.connect()
    slack.control.wait_connected(1)
    page = browse(ALICE)
    root = bot.client.chat_postMessage(channel=CHANNEL, text="root")["ts"]
    ts = bot.client.chat_postMessage(
        channel=CHANNEL, text="worse", blocks=button("go"), thread_ts=root, reply_broadcast=True
    )["ts"]
    shown = [page.next("message")["message"] for _ in range(3)]
    copy = next(message for message in shown if message["ts"] not in (root, ts))
    assert "thread_ts" not in copy and "replied to a thread" in copy["blocks"][0]["elements"][0]["text"]
    assert len(browse(ALICE).state["messages"][CHANNEL]) == 3
    page.send(
        t="block_action",
        channel=CHANNEL,
        messageTs=copy["ts"],
        action={"type": "button", "block_id": "b", "action_id": "go"},
    )
    assert eventually(lambda: bot.received == [{"ts": ts}])


def test_a_home_tab_is_shown_when_it_is_published(client: WebClient, browse):
    page = browse(ALICE)
    client.views_publish(user_id=ALICE, view={"type": "home", "blocks": [section("fleet")]})
    assert page.next("home")["view"]["blocks"][0]["text"]["text"] == "fleet"
    assert list(browse(ALICE).state["homeViews"][ALICE]) == ["A01ONCALL"]


def test_what_a_person_says_goes_to_local_slack(slack: SlackRules, browse):
    page = browse(ALICE)
    page.send(t="post_message", channel=CHANNEL, text="hello")
    assert page.next("message")["message"]["text"] == "hello"
    assert slack.control.messages(CHANNEL)[0]["user"] == ALICE
