"""Chromium on the real page, a Bolt app behind it: what a person does arrives, what the app posts is seen."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.browser import Chromium, SlackBrowser
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from tests.fixtures_slack import ALICE, CHANNEL, Bot, eventually, modal, section, text_input


def plain(text: str) -> dict:
    return {"type": "plain_text", "text": text}


def card(title: str) -> list[dict]:
    menu = {
        "type": "overflow",
        "action_id": "more",
        "options": [{"text": plain("Silence 2 h"), "value": "silence"}, {"text": plain("Resolve"), "value": "resolve"}],
    }
    review = {"type": "button", "action_id": "review", "text": plain("Review: scale 3 → 4…"), "value": "inc-1-p1"}
    ack = {"type": "button", "action_id": "ack", "text": plain("Ack"), "value": "inc-1"}
    return [
        {"type": "header", "text": plain(f":red_circle: {title}")},
        section("*Under-provisioned*: 138 requests wait &lt;!here&gt;\n```\n-  replicas: 3\n+  replicas: 4\n```"),
        {"type": "actions", "block_id": "inc-1", "elements": [review, ack, menu]},
    ]


def picture() -> bytes:
    """A red square of 8 × 8, as PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + b"\xff\0\0" * 8 for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def alice(slack: SlackRules, chromium: Chromium) -> Iterator[SlackBrowser]:
    browser = chromium.open(slack.page_url, "alice")
    browser.open_channel("inc-chat")
    yield browser
    browser.close()


@pytest.fixture
def acting(slack: SlackRules, bot: Bot) -> Bot:
    """Opens a modal on `review`, fills it in, notes everything else."""
    form = [section("3 → 4"), text_input("why", "Reason"), choice("how", "Pace", "slow", "fast")]

    @bot.app.action("review")
    def review(ack, body, client):
        ack()
        view = client.views_open(trigger_id=body["trigger_id"], view=modal(section("Checking the cluster…")))["view"]
        client.views_update(view_id=view["id"], view=modal(*form))
        bot.note(user=body["user"]["id"], value=body["actions"][0]["value"])

    @bot.app.view("review")
    def submitted(ack, view):
        values = view["state"]["values"]
        if values["why"]["value"]["value"] == "no reason":
            return ack(response_action="errors", errors={"why": "A better reason, please"})
        ack()
        bot.note(why=values["why"]["value"]["value"], how=values["how"]["value"]["selected_option"]["value"])

    @bot.app.action("ack")
    @bot.app.action("more")
    def others(ack, action):
        ack()
        bot.note(action=action["action_id"], value=action.get("value") or action["selected_option"]["value"])

    @bot.app.command("/vllm")
    def command(ack, command):
        ack(f"you asked for {command['text']}")

    bot.connect()
    slack.control.wait_connected(1)
    return bot


def choice(block_id: str, label: str, *values: str) -> dict:
    options = [{"text": plain(value), "value": value} for value in values]
    element = {"type": "static_select", "action_id": "value", "options": options, "initial_option": options[0]}
    return {"type": "input", "block_id": block_id, "label": plain(label), "element": element}


def test_a_button_is_pressed_and_the_modal_submitted(slack: SlackRules, acting: Bot, alice: SlackBrowser):
    acting.client.chat_postMessage(channel=CHANNEL, text="fallback", blocks=card("chat-70b"))
    shown = alice.wait_message("chat-70b")
    assert "🔴 chat-70b" in shown and "Under-provisioned" in shown
    assert "-  replicas: 3" in shown and "<!here>" in shown
    assert alice.buttons("chat-70b") == ["Review: scale 3 → 4…", "Ack"]
    alice.click("Review: scale 3 → 4…", message="chat-70b")
    assert "3 → 4" in alice.wait_modal("Reason")
    assert alice.submit_label() == "Approve"
    alice.submit()
    alice.wait_modal("Please complete this required field.")
    alice.fill("Reason", "no reason")
    alice.submit()
    alice.wait_modal("A better reason, please")
    alice.fill("Reason", "queue")
    alice.submit()
    alice.wait_modal_closed()
    assert acting.received == [{"user": ALICE, "value": "inc-1-p1"}, {"why": "queue", "how": "slow"}]


def test_menus_commands_and_a_choice_in_a_modal(slack: SlackRules, acting: Bot, alice: SlackBrowser):
    acting.client.chat_postMessage(channel=CHANNEL, text="fallback", blocks=card("chat-70b"))
    alice.choose("Resolve", message="chat-70b")
    assert eventually(lambda: acting.received == [{"action": "more", "value": "resolve"}])
    alice.choose("Resolve", message="chat-70b")  # a second time: the page must notice it
    assert eventually(lambda: len(acting.received) == 2)
    alice.type("/vllm status chat-70b")
    alice.wait_message("you asked for status chat-70b")
    alice.click("Review: scale 3 → 4…")
    alice.wait_modal("Reason")
    alice.fill("Reason", "queue")
    alice.fill("Pace", "fast")
    alice.submit()
    assert eventually(lambda: acting.received[-1] == {"why": "queue", "how": "fast"})


def test_an_edit_is_seen_and_its_buttons_go(slack: SlackRules, acting: Bot, alice: SlackBrowser):
    ts = acting.client.chat_postMessage(channel=CHANNEL, text="fallback", blocks=card("chat-70b"))["ts"]
    alice.wait_message("Under-provisioned")
    acting.client.chat_update(channel=CHANNEL, ts=ts, text="x", blocks=[section("*chat-70b* resolved")])
    alice.wait_message("resolved")
    assert alice.buttons("resolved") == []
    assert len(alice.messages()) == 1


def test_a_thread_with_a_picture_is_read_and_photographed(
    slack: SlackRules, acting: Bot, alice: SlackBrowser, tmp_path: Path
):
    root = acting.client.chat_postMessage(channel=CHANNEL, text="chat-70b is slow")["ts"]
    acting.client.files_upload_v2(
        channel=CHANNEL, thread_ts=root, content=picture(), filename="graph.png", initial_comment="round 1"
    )
    alice.open_thread("chat-70b is slow")
    alice.wait_reply("round 1")
    assert alice.thread_messages()[0].endswith("chat-70b is slow")
    assert alice.page.locator(".thread-pane img").evaluate("image => image.naturalWidth") == 8
    desk, phone = tmp_path / "desk.png", tmp_path / "phone.png"
    alice.screenshot(desk)
    alice.screenshot(phone, phone=True)
    assert width(desk) == 1280 and width(phone) == 390
    alice.close_thread()


def test_a_reply_above_what_it_must_follow_does_not_count(slack: SlackRules, acting: Bot, alice: SlackBrowser):
    slack.control.switch(Rule.CHANNEL_PACE, on=False)
    root = acting.client.chat_postMessage(channel=CHANNEL, text="chat-70b is slow")["ts"]
    for text in ("Approved: scale", "Helped", "Approved: roll back"):
        acting.client.chat_postMessage(channel=CHANNEL, thread_ts=root, text=text)
    alice.open_thread("chat-70b is slow")
    alice.wait_reply("Helped", after="scale")
    for after in ("roll back", "restart"):
        with pytest.raises(TimeoutError):
            alice.wait_reply("Helped", after=after, seconds=0.3)
    acting.client.chat_postMessage(channel=CHANNEL, thread_ts=root, text="Helped again")
    assert "Helped again" in alice.wait_reply("Helped", after="roll back")


def width(image: Path) -> int:
    return int(struct.unpack(">I", image.read_bytes()[16:20])[0])


def test_the_home_tab_is_opened_and_its_button_pressed(slack: SlackRules, acting: Bot, alice: SlackBrowser):
    @acting.app.event("app_home_opened")
    def home(event, client):
        client.views_publish(user_id=event["user"], view={"type": "home", "blocks": card("your incidents")})

    alice.open_home("vllm-oncall")
    assert "🔴 your incidents" in alice.wait_home("your incidents")
    alice.click_home("Ack")
    assert eventually(lambda: acting.received == [{"action": "ack", "value": "inc-1"}])


def test_two_people_see_their_own_modals_only(slack: SlackRules, acting: Bot, alice: SlackBrowser, chromium: Chromium):
    acting.client.chat_postMessage(channel=CHANNEL, text="fallback", blocks=card("chat-70b"))
    bob = chromium.open(slack.page_url, "bob")
    bob.open_channel("inc-chat")
    alice.click("Review: scale 3 → 4…")
    alice.wait_modal("Reason")
    assert not bob.modal_open()
    bob.click("Review: scale 3 → 4…")
    bob.wait_modal("Reason")
    assert [received["user"] for received in acting.received] == [ALICE, "U02BOB"]
    bob.close_modal()
    bob.wait_modal_closed()
    assert alice.modal_open()
    bob.close()


def test_what_never_comes_is_an_error_that_shows_the_page(alice: SlackBrowser):
    with pytest.raises(TimeoutError, match="No messages yet"):
        alice.wait_message("never", seconds=0.3)
