import pytest

from sandbox.slack_rules.messages import Messages, check_content, edited, json_args, page
from sandbox.slack_rules.refused import RefusedError
from tests.fixtures_slack import section


def error_of(call) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.error


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, "no_text"),
        ({"blocks": []}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "blocks": "[{"}, "invalid_blocks_format"),
        ({"text": "x", "blocks": [section("")]}, "invalid_blocks"),
        ({"text": "x", "blocks": [section("x" * 3000)] * 4 + [section("x" * 1201)]}, "msg_blocks_too_long"),
        ({"text": "x", "markdown_text": "x"}, "markdown_text_conflict"),
        ({"markdown_text": "x" * 12_001}, "msg_too_long"),
        ({"attachments": [{}] * 101}, "too_many_attachments"),
        ({"attachments": [{"blocks": [section("")]}]}, "invalid_attachments"),
    ],
)
def test_what_slack_would_not_take_is_refused(args, error):
    assert error_of(lambda: check_content(args)) == error


@pytest.mark.parametrize(
    "args",
    [
        {"text": "x" * 40_000},
        {"blocks": [section("x")]},
        {"text": "x", "blocks": [section("x" * 3000)] * 4 + [section("x" * 1200)]},
        {"markdown_text": "x" * 12_000},
        {"attachments": [{"text": "x"}] * 100},
    ],
)
def test_what_slack_takes_passes(args):
    check_content(args)


def test_an_edit_that_names_nothing_is_no_mistake():
    check_content({}, edit=True)


STORED = {"text": "old", "blocks": [section("old")], "app_id": "A"}


def test_an_edit_keeps_what_it_does_not_name_only_if_it_names_nothing():
    assert edited({}, STORED) == {"text": "old", "blocks": [section("old")]}
    assert edited({"text": "new"}, STORED) == {"text": "new"}
    assert edited({"blocks": [section("new")]}, STORED) == {"text": "", "blocks": [section("new")]}


def test_only_ones_own_messages_that_are_no_ephemeral_ones():
    messages = Messages()
    messages.posted("C", "1.2", "A", ephemeral=True)
    messages.check_own("C", "1.1", "A", STORED, "cant_update_message")
    assert error_of(lambda: messages.check_own("C", "1.1", "B", STORED, "cant_update_message")) == "cant_update_message"
    assert error_of(lambda: messages.check_own("C", "1.2", "A", STORED, "cant_update_message")) == "message_not_found"
    assert error_of(lambda: messages.check_own("C", "1.3", "A", None, "cant_update_message")) == "message_not_found"


LISTED = [{"ts": f"{number}.0"} for number in (5, 4, 3, 2, 1)] + [{"ts": "0.5", "subtype": "ephemeral"}]


def read(**args: object) -> list[str]:
    return [message["ts"] for message in page(LISTED, args, default_limit=100)["messages"]]


def test_history_comes_in_pages_and_leaves_ephemeral_messages_out():
    first = page(LISTED, {"limit": 2}, default_limit=100)
    assert [message["ts"] for message in first["messages"]] == ["5.0", "4.0"]
    assert first["has_more"]
    cursor = first["response_metadata"]["next_cursor"]
    assert read(limit=2, cursor=cursor) == ["3.0", "2.0"]
    assert read() == ["5.0", "4.0", "3.0", "2.0", "1.0"]


def test_history_can_be_asked_between_two_times():
    assert read(oldest="2.0", latest="4.0") == ["3.0"]
    assert read(oldest="2.0", latest="4.0", inclusive="true") == ["4.0", "3.0", "2.0"]
    assert read(oldest="4.0") == ["5.0"]


def test_a_cursor_that_was_never_given_out_is_refused():
    assert error_of(lambda: page(LISTED, {"cursor": "dXNlcjpVMDYx"}, default_limit=100)) == "invalid_cursor"


def test_fields_of_a_form_that_hold_json_are_parsed():
    assert json_args({"blocks": '[{"type": "divider"}]', "text": "[1]"}) == {
        "blocks": [{"type": "divider"}],
        "text": "[1]",
    }
    assert json_args({"blocks": "[{"}) == {"blocks": "[{"}
