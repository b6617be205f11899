from sandbox.slack_rules import payloads
from sandbox.slack_workspace import demo_workspace
from tests.fixtures_slack import ALICE, CHANNEL, button, section

WORKSPACE = demo_workspace()
APP = WORKSPACE.apps[0]
MENU = {
    "type": "static_select",
    "action_id": "pick",
    "options": [{"value": "a", "text": {"type": "plain_text", "text": ":fire: A"}}],
}


def click(message: dict, action: dict) -> dict:
    return payloads.message_action(
        WORKSPACE,
        APP,
        ALICE,
        channel={"id": CHANNEL, "name": "inc-chat"},
        message=message,
        action=action,
        trigger_id="t",
        response_url="http://127.0.0.1/actions/x",
    )


def test_a_click_names_person_place_and_what_was_pressed():
    message = {"ts": "1.2", "thread_ts": "1.1", "blocks": button("go", value="inc-1-p1")}
    payload = click(message, {"block_id": "b", "action_id": "go", "type": "button"})
    assert payload["user"] == {"id": ALICE, "username": "alice", "name": "alice", "team_id": WORKSPACE.team_id}
    assert payload["container"] == {
        "type": "message",
        "message_ts": "1.2",
        "thread_ts": "1.1",
        "channel_id": CHANNEL,
        "is_ephemeral": False,
    }
    assert payload["actions"][0]["value"] == "inc-1-p1"
    assert payload["message"] == message


def test_the_page_cannot_change_a_buttons_value():
    payload = click(
        {"ts": "1.2", "blocks": button("go", value="real")},
        {"block_id": "b", "action_id": "go", "type": "button", "value": "forged"},
    )
    assert payload["actions"][0]["value"] == "real"


def test_a_click_on_what_was_edited_away_goes_through_as_it_was_made():
    sent = {"block_id": "gone", "action_id": "go", "type": "button", "value": "old"}
    assert click({"ts": "1.2", "blocks": [section("x")]}, sent)["actions"][0]["value"] == "old"


def test_a_choice_is_in_the_action_and_in_the_state():
    blocks = [{"type": "actions", "block_id": "b", "elements": [MENU]}]
    shown = {"value": "a", "text": {"type": "plain_text", "text": "🔥 A"}}
    payload = click(
        {"ts": "1.2", "blocks": blocks},
        {"block_id": "b", "action_id": "pick", "type": "static_select", "selected_option": shown},
    )
    assert payload["actions"][0]["selected_option"] == MENU["options"][0]
    assert payload["state"]["values"]["b"]["pick"]["selected_option"] == MENU["options"][0]


def test_a_click_in_a_home_tab_is_contained_in_a_view():
    view = {"id": "V1", "type": "home", "hash": "h", "blocks": button("go")}
    action = {"block_id": "b", "action_id": "go", "type": "button"}
    payload = payloads.home_action(WORKSPACE, APP, ALICE, view=view, action=action, trigger_id="t")
    assert payload["container"] == {"type": "view", "view_id": "V1"}
    assert payload["view"]["hash"] == "h"
    assert "message" not in payload and "channel" not in payload and "response_url" not in payload


def test_a_command_is_flat_text():
    payload = payloads.slash_command(
        WORKSPACE,
        APP,
        ALICE,
        channel={"id": CHANNEL, "name": "inc-chat"},
        command="/vllm",
        text="status",
        trigger_id="t",
        response_url="u",
    )
    assert all(isinstance(value, str) for value in payload.values())
    assert (payload["user_name"], payload["channel_name"]) == ("alice", "inc-chat")


def test_submitting_and_closing_carry_the_view():
    view = {"id": "V1", "state": {"values": {}}}
    submitted = payloads.view_submission(WORKSPACE, APP, ALICE, view=view, trigger_id="t")
    closed = payloads.view_closed(WORKSPACE, APP, ALICE, view=view, is_cleared=True)
    assert (submitted["type"], submitted["view"]) == ("view_submission", view)
    assert (closed["type"], closed["is_cleared"]) == ("view_closed", True)
