"""Latency and outages on the bot's way to Slack; failpoints on uploads and sockets; what an app subscribes to."""

import threading
import time

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from sandbox.faults import Outage, Where
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.server import subscribed
from tests.fixtures_slack import ALICE, CHANNEL, Bot


def test_an_app_hears_what_it_subscribed_to():
    assert subscribed({"type": "app_home_opened"}, ["app_home_opened"])
    assert not subscribed({"type": "reaction_added"}, ["app_home_opened"])
    assert subscribed({"type": "message", "channel": "C1"}, ["message.channels"])
    assert not subscribed({"type": "message", "channel": "D1"}, ["message.channels"])


def test_latency_is_half_before_slack_acts_and_half_after(slack: SlackRules, client: WebClient):
    slack.control.latency(0.5)
    began = time.monotonic()
    posting = threading.Thread(target=lambda: client.chat_postMessage(channel=CHANNEL, text="slow"))
    posting.start()
    while not slack.control.messages(CHANNEL):
        time.sleep(0.01)
    acted = time.monotonic() - began
    posting.join()
    answered = time.monotonic() - began
    assert 0.24 < acted < 0.45
    assert 0.49 < answered < 0.9


def test_a_slack_in_trouble_answers_5xx_and_does_nothing(slack: SlackRules, client: WebClient):
    with slack.control.down(Outage.ERROR, error_status=502):
        with pytest.raises(SlackApiError) as caught:
            client.chat_postMessage(channel=CHANNEL, text="x")
        assert caught.value.response.status_code == 502
    assert slack.control.messages(CHANNEL) == []
    assert client.chat_postMessage(channel=CHANNEL, text="x")["ok"]


def test_a_slack_that_hangs_answers_nobody_and_does_nothing(slack: SlackRules, client: WebClient):
    impatient = WebClient(client.token, base_url=slack.api_url, timeout=1, retry_handlers=[])
    with slack.control.down(Outage.HANG), pytest.raises(TimeoutError):
        impatient.chat_postMessage(channel=CHANNEL, text="x")
    assert client.auth_test()["ok"]
    assert slack.control.messages(CHANNEL) == []


def test_a_slack_that_refuses_is_back_on_the_same_port(slack: SlackRules, client: WebClient):
    with slack.control.down(Outage.REFUSE), pytest.raises(OSError):
        client.auth_test()
    assert client.auth_test()["ok"]


def test_a_person_sees_the_page_while_the_bot_has_no_slack(slack: SlackRules, bot: Bot):
    bot.connect()
    slack.control.wait_connected(1)
    before = slack.control.mark()
    with slack.control.down(Outage.HANG):
        slack.control.command(ALICE, CHANNEL, "/vllm", "status")
        assert slack.control.log(before, kind="operation_timeout")


def test_delivery_can_be_held(slack: SlackRules, bot: Bot):
    @bot.app.command("/vllm")
    def command(ack):
        ack()
        bot.note(done=True)

    bot.connect()
    slack.control.wait_connected(1)
    hold = slack.control.hold_next(Where.BEFORE, method=r"socket\.slash_commands")
    typing = threading.Thread(target=lambda: slack.control.command(ALICE, CHANNEL, "/vllm", "status"))
    typing.start()
    assert hold.wait_reached()["command"] == "/vllm"
    assert bot.received == []
    hold.release()
    typing.join()
    assert bot.received == [{"done": True}]


def test_an_upload_can_be_held(slack: SlackRules, client: WebClient):
    hold = slack.control.hold_next(Where.BEFORE, method="^upload$")
    uploading = threading.Thread(target=lambda: client.files_upload_v2(channel=CHANNEL, content="x", filename="x.txt"))
    uploading.start()
    hold.wait_reached()
    assert slack.control.messages(CHANNEL) == []
    hold.release()
    uploading.join()
    assert slack.control.messages(CHANNEL)[0]["files"][0]["name"] == "x.txt"
