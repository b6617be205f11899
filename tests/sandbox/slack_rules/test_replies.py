"""Response addresses, used over HTTP as Bolt's `respond` does."""

import pytest
import requests

from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from tests.fixtures_slack import ALICE, CHANNEL, Bot, button, section


@pytest.fixture
def address(slack: SlackRules, bot: Bot) -> str:
    """That of a click by Alice on a message of the bot's."""

    @bot.app.action("go")
    def action(ack, body):
        ack()
        bot.note(url=body["response_url"])

    bot.connect()
    slack.control.wait_connected(1)
    ts = bot.client.chat_postMessage(channel=CHANNEL, text="original", blocks=button("go"))["ts"]
    slack.control.click(ALICE, CHANNEL, ts, {"type": "button", "block_id": "b", "action_id": "go"})
    return bot.received[0]["url"]


def post(address: str, **body: object) -> requests.Response:
    return requests.post(address, json=body, timeout=5)


def test_a_reply_is_for_one_pair_of_eyes_unless_it_says_otherwise(slack: SlackRules, address: str):
    assert post(address, text="for you").text == "ok"
    assert post(address, text="for all", response_type="in_channel").ok
    _, private, public = slack.control.messages(CHANNEL)
    assert (private["subtype"], private["ephemeral_to"]) == ("ephemeral", ALICE)
    assert "subtype" not in public


def test_the_original_is_replaced_or_deleted(slack: SlackRules, address: str):
    post(address, replace_original=True, text="replaced")
    assert [message["text"] for message in slack.control.messages(CHANNEL)] == ["replaced"]
    post(address, delete_original=True)
    assert slack.control.messages(CHANNEL) == []


def test_five_uses_and_no_more(slack: SlackRules, address: str):
    for number in range(5):
        assert post(address, text=str(number)).ok
    sixth = post(address, text="6")
    assert (sixth.status_code, sixth.json()["error"]) == (404, "used_url")
    with slack.control.without(Rule.RESPONSE_URLS):
        assert post(address, text="6").ok


def test_limits_hold_here_too(slack: SlackRules, address: str):
    assert post(address, text="x", blocks=[section("x" * 3001)]).json()["error"] == "invalid_blocks"
    assert post(address).json()["error"] == "no_text"
    with slack.control.without(Rule.LIMITS):
        assert post(address, text="x", blocks=[section("x" * 3001)]).ok


def test_each_use_is_logged(slack: SlackRules, address: str):
    before = slack.control.mark()
    post(address, text="for you")
    [entry] = slack.control.log(before, kind="response_url")
    assert (entry["ok"], entry["channel"], entry["user"], entry["text"]) == (True, CHANNEL, ALICE, "for you")


def test_an_address_that_was_never_given_out(slack: SlackRules):
    unknown = post(slack.api_url.replace("/api/", "/actions/no-such"), text="x")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "expired_url")
