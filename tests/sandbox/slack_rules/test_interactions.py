"""What a person does, seen by a Bolt app: payloads, modals, errors. The control API stands in for the page."""

import time

from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from tests.fixtures_slack import (
    ALICE,
    BOB,
    CHANNEL,
    Bot,
    button,
    eventually,
    modal,
    refusal,
    section,
    text_input,
)

PRESS = {"type": "button", "block_id": "b", "action_id": "go"}


def opening(bot: Bot, view: dict) -> None:
    """A click on `go` opens the view."""

    @bot.app.action("go")
    def opens(ack, body, client):
        ack()
        bot.note(opened=client.views_open(trigger_id=body["trigger_id"], view=view)["view"])


def pressed(slack: SlackRules, bot: Bot, user: str = ALICE) -> None:
    bot.connect()
    slack.control.wait_connected(1)
    ts = bot.client.chat_postMessage(channel=CHANNEL, text="x", blocks=button("go"))["ts"]
    slack.control.click(user, CHANNEL, ts, PRESS)


def test_a_click_reaches_the_app_as_slack_writes_it(slack: SlackRules, bot: Bot):
    @bot.app.action("go")
    def action(ack, body):
        ack()
        bot.note(**body)

    pressed(slack, bot)
    [body] = bot.received
    assert body["user"]["id"] == ALICE
    assert body["container"]["channel_id"] == CHANNEL
    assert body["actions"][0]["value"] == "v"
    assert body["response_url"].startswith(slack.api_url.removesuffix("/api/"))


def test_a_modal_opens_is_updated_and_its_submission_arrives(slack: SlackRules, bot: Bot):
    opening(bot, modal(section("Checking the cluster…")))

    @bot.app.view("review")
    def submission(ack, view):
        ack()
        bot.note(submitted=view)

    pressed(slack, bot)
    assert eventually(lambda: bot.received)
    opened = bot.received[0]["opened"]
    filled = modal(section("3 → 4"), text_input("why", "Why"))
    bot.client.views_update(view_id=opened["id"], hash=opened["hash"], view=filled)
    stale = refusal(lambda: bot.client.views_update(view_id=opened["id"], hash=opened["hash"], view=filled))
    assert stale["error"] == "hash_conflict"
    slack.control.submit(ALICE, {"why": {"value": {"type": "plain_text_input", "value": "queue"}}})
    assert eventually(lambda: len(bot.received) == 2)
    submitted = bot.received[1]["submitted"]
    assert submitted["id"] == opened["id"]
    assert submitted["state"]["values"]["why"]["value"]["value"] == "queue"
    assert slack.control.modals(ALICE) == []


def test_a_trigger_opens_one_modal(slack: SlackRules, bot: Bot):
    errors = []

    @bot.app.action("go")
    def twice(ack, body, client):
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=modal(section("1")))
        again = refusal(lambda: client.views_open(trigger_id=body["trigger_id"], view=modal(section("2"))))
        errors.append(again["error"])

    pressed(slack, bot)
    assert eventually(lambda: errors == ["exchanged_trigger_id"])


def test_a_trigger_is_too_old_after_three_seconds(slack: SlackRules, bot: Bot):
    errors = []

    @bot.app.action("go")
    def slow(ack, body, client):
        ack()
        time.sleep(3.1)
        late = refusal(lambda: client.views_open(trigger_id=body["trigger_id"], view=modal(section("1"))))
        errors.append(late["error"])
        with slack.control.without(Rule.TRIGGERS):
            client.views_open(trigger_id=body["trigger_id"], view=modal(section("1")))
            errors.append(None)

    pressed(slack, bot)
    assert eventually(lambda: errors == ["expired_trigger_id", None], seconds=6)


def test_a_required_input_keeps_the_modal_open(slack: SlackRules, bot: Bot):
    opening(bot, modal(text_input("why", "Why")))
    pressed(slack, bot)
    assert eventually(lambda: slack.control.modals(ALICE))
    before = slack.control.mark()
    slack.control.submit(ALICE)
    assert list(slack.control.log(before, kind="not_submitted")[0]["errors"]) == ["why"]
    assert slack.control.log(before, kind="envelope") == []
    assert slack.control.modals(ALICE)


def test_a_submission_nobody_acknowledges_keeps_the_modal_open(slack: SlackRules, bot: Bot):
    opening(bot, modal(section("x")))
    pressed(slack, bot)
    assert eventually(lambda: slack.control.modals(ALICE))
    before = slack.control.mark()
    bot.close()
    slack.control.wait_connected(0)
    slack.control.submit(ALICE)
    assert slack.control.log(before, kind="operation_timeout")[0]["method"] == "view_submission"
    assert slack.control.modals(ALICE)


def test_two_people_have_modals_of_their_own(slack: SlackRules, bot: Bot):
    opening(bot, modal(section("x"), notify_on_close=True))

    @bot.app.view_closed("review")
    def closed(ack, body):
        ack()
        bot.note(closed=body["user"]["id"])

    pressed(slack, bot, ALICE)
    ts = slack.control.messages(CHANNEL)[0]["ts"]
    slack.control.click(BOB, CHANNEL, ts, PRESS)
    assert eventually(lambda: slack.control.modals(ALICE) and slack.control.modals(BOB))
    slack.control.close(BOB)
    assert eventually(lambda: bot.received[-1] == {"closed": BOB})
    assert slack.control.modals(ALICE)


def test_a_click_in_the_home_tab_comes_from_a_view(slack: SlackRules, bot: Bot):
    @bot.app.action("go")
    def action(ack, body):
        ack()
        bot.note(**body)

    bot.connect()
    slack.control.wait_connected(1)
    home = bot.client.views_publish(user_id=ALICE, view={"type": "home", "blocks": button("go")})["view"]
    slack.control.click_home(ALICE, PRESS)
    [body] = bot.received
    assert body["container"] == {"type": "view", "view_id": home["id"]}
    assert body["view"]["hash"] == home["hash"]


def test_a_command_that_no_app_registered_reaches_nobody(slack: SlackRules, bot: Bot):
    bot.connect()
    slack.control.wait_connected(1)
    before = slack.control.mark()
    slack.control.command(ALICE, CHANNEL, "/nope", "x")
    assert slack.control.log(before, kind="unknown_command")[0]["command"] == "/nope"
    assert slack.control.log(before, kind="envelope") == []


def test_people_named_in_a_command_arrive_as_ids(slack: SlackRules, bot: Bot):
    @bot.app.command("/vllm")
    def command(ack, command):
        ack()
        bot.note(text=command["text"])

    bot.connect()
    slack.control.wait_connected(1)
    slack.control.command(ALICE, CHANNEL, "/vllm", "ack for <@U02BOB>")
    assert bot.received == [{"text": "ack for <@U02BOB|bob>"}]


def test_a_menu_put_back_to_its_first_line_is_no_choice(slack: SlackRules, bot: Bot):
    bot.connect()
    slack.control.wait_connected(1)
    ts = bot.client.chat_postMessage(channel=CHANNEL, text="x", blocks=button("go"))["ts"]
    before = slack.control.mark()
    slack.control.click(ALICE, CHANNEL, ts, {"type": "overflow", "block_id": "b", "action_id": "more"})
    assert slack.control.log(before, kind="envelope") == []
