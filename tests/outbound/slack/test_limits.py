import pytest

from bot.outbound.slack.limits import validate_message, validate_view


def section(text: str = "x", **more: object) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def button(action: str = "ack", label: str = "Ack", value: str = "inc-1") -> dict:
    return {"type": "button", "text": {"type": "plain_text", "text": label}, "action_id": action, "value": value}


def actions(*elements: dict) -> dict:
    return {"type": "actions", "elements": list(elements)}


def test_a_message_within_all_limits_has_no_problem():
    assert validate_message([section(block_id="m1"), actions(button())], "x") == ()


@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ([], "there is none"),
        ([section()] * 51, "51, 50 are allowed"),
        ([section("x" * 3001)], "3001 characters"),
        ([section("")], "0 characters"),
        ([{"type": "section"}], "neither text nor fields"),
        ([{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}], "11 fields"),
        ([{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}], "field: 2001"),
        ([section("x" * 2900) for _ in range(5)], "characters together"),
        ([section(block_id="a"), section(block_id="a")], "block_id 'a' is there 2 times"),
        ([actions(button(), button())], "action_id 'ack' is there 2 times"),
        ([actions(*(button(f"a{n}") for n in range(26)))], "26 elements"),
        ([actions(button(label="x" * 76))], "button: 76"),
        ([actions(button(value="x" * 2001))], "value: 2001"),
        ([section(block_id="x" * 256)], "block_id: 256"),
        ([{"type": "rich_text"}], "not one that we send"),
    ],
)
def test_what_slack_would_refuse_is_found(blocks: list[dict], problem: str):
    assert problem in "; ".join(validate_message(blocks, "text"))


def test_an_overflow_of_six_and_a_value_too_long_are_found():
    option = {"text": {"type": "plain_text", "text": "x"}, "value": "v" * 151}
    found = "; ".join(
        validate_message([actions({"type": "overflow", "action_id": "m", "options": [option] * 6})], "text")
    )
    assert "6 options" in found and "option's value: 151" in found


def test_a_message_without_text_shows_nothing_on_a_lock_screen():
    assert "lock screen" in validate_message([section()], " ")[0]


def test_a_view_has_its_own_limits():
    view = {
        "title": {"text": "x" * 25},
        "private_metadata": "x" * 3001,
        "callback_id": "c",
        "blocks": [section()] * 101,
    }
    found = "; ".join(validate_view(view))
    assert "title: 25" in found and "private_metadata: 3001" in found and "101, 100 are allowed" in found
