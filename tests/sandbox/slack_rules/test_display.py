from datetime import UTC, datetime

import pytest

from sandbox.slack_rules.display import Display, emoji
from sandbox.slack_workspace import demo_workspace

THEN = datetime(2026, 3, 4, 2, 7, 9, tzinfo=UTC)


@pytest.fixture
def display() -> Display:
    files = {"F1": "/files/U0BOT/F1/graph.png"}
    return Display(demo_workspace(), now=lambda: THEN, file_path=files.get)


def local(pattern: str) -> str:
    return THEN.astimezone().strftime(pattern)


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("{time}", local("%-I:%M %p")),
        ("{time_secs}", local("%-I:%M:%S %p")),
        ("{date_num} {time}", local("%Y-%m-%d %-I:%M %p")),
        ("since {date_short_pretty}", "since today"),
        ("{ago}", "less than a minute ago"),
    ],
)
def test_a_date_is_shown_in_the_readers_time(display, pattern, shown):
    assert display.mrkdwn(f"<!date^{int(THEN.timestamp())}^{pattern}|02:07>") == shown


def test_groups_and_everybody_are_shown_by_name(display):
    assert display.mrkdwn("<!subteam^S01ONCALL> <!here> <@U01ALICE>") == "@ml-oncall @here <@U01ALICE>"


def test_what_an_app_escaped_is_shown_and_does_not_become_a_mention(display):
    shown = display.mrkdwn("p99 &lt; 1 s &amp; &lt;@U01ALICE&gt;")
    assert shown.replace("\u2060", "") == "p99 < 1 s & <@U01ALICE>"
    assert "<@" not in shown


def test_a_code_block_keeps_its_lines_and_indentation(display):
    assert display.mrkdwn("```\n-  replicas: 3\n\n+  replicas: 4\n```") == (
        "`-\u00a0\u00a0replicas: 3`\n\n`+\u00a0\u00a0replicas: 4`"
    )


def test_emoji_of_headers_and_buttons_are_drawn(display):
    header = {"type": "header", "text": {"type": "plain_text", "text": ":red_circle: chat-70b :no_such:"}}
    assert display.blocks([header])[0]["text"]["text"] == "🔴 chat-70b :no_such:"
    assert emoji("at 10:30:45") == "at 10:30:45"


def test_a_slack_file_gets_an_address_the_page_can_load(display):
    image = {"type": "image", "slack_file": {"id": "F1"}, "alt_text": "x"}
    assert display.blocks([image])[0]["image_url"] == "/files/U0BOT/F1/graph.png"


def test_an_input_that_the_page_cannot_draw_has_a_stand_in(display):
    number = {"type": "number_input", "action_id": "a"}
    people = {"type": "users_select", "action_id": "b"}
    shown = display.view({"type": "modal", "blocks": [{"type": "input", "element": number}, {"element": people}]})
    assert shown["blocks"][0]["element"]["type"] == "plain_text_input"
    assert shown["blocks"][1]["element"]["type"] == "static_select"
    assert shown["blocks"][1]["element"]["options"][0]["value"] == "U01ALICE"


def test_what_is_shown_first_in_a_menu_is_its_placeholder(display):
    text = {"type": "plain_text", "text": "3 replicas"}
    shown = display.blocks([{"type": "input", "element": {"initial_option": {"value": "3", "text": text}}}])
    assert shown[0]["element"]["placeholder"]["text"] == "3 replicas"


def test_the_message_that_came_in_is_not_changed(display):
    message = {"text": "<!here>", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "<!here>"}}]}
    display.message(message)
    assert message["blocks"][0]["text"]["text"] == message["text"] == "<!here>"
