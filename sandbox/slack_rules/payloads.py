"""The payloads an app receives when somebody clicks, submits, closes or types a command, as Slack writes them. Pure.

Local-slack's own leave out `state`, say `container.type: message` for a Home tab, and take the page's word for a
button's value.
"""

import time
from typing import Any

from sandbox.slack_rules.ids import elements_of
from sandbox.slack_rules.inputs import Json, option_of, state_values
from sandbox.slack_workspace import SlackApp, SlackWorkspace


def _base(workspace: SlackWorkspace, app: SlackApp, user: str, kind: str) -> Json:
    name = next((person.name for person in workspace.users if person.id == user), user)
    return {
        "type": kind,
        "user": {"id": user, "username": name, "name": name, "team_id": workspace.team_id},
        "api_app_id": app.app_id,
        "token": "verification-token",
        "team": {"id": workspace.team_id, "domain": workspace.domain},
        "enterprise": None,
        "is_enterprise_install": False,
    }


def message_action(
    workspace: SlackWorkspace,
    app: SlackApp,
    user: str,
    *,
    channel: Json,
    message: Json,
    action: Json,
    trigger_id: str,
    response_url: str,
) -> Json:
    container = {
        "type": "message",
        "message_ts": message["ts"],
        "channel_id": channel["id"],
        "is_ephemeral": message.get("subtype") == "ephemeral",
    }
    if message.get("thread_ts"):
        container["thread_ts"] = message["thread_ts"]
    done = _action(message.get("blocks"), action)
    return {
        **_base(workspace, app, user, "block_actions"),
        "container": container,
        "trigger_id": trigger_id,
        "channel": channel,
        "message": message,
        "state": {"values": _state(message.get("blocks"), done)},
        "response_url": response_url,
        "actions": [done],
    }


def home_action(
    workspace: SlackWorkspace, app: SlackApp, user: str, *, view: Json, action: Json, trigger_id: str
) -> Json:
    done = _action(view.get("blocks"), action)
    return {
        **_base(workspace, app, user, "block_actions"),
        "container": {"type": "view", "view_id": view["id"]},
        "trigger_id": trigger_id,
        "view": {**view, "state": {"values": _state(view.get("blocks"), done)}},
        "actions": [done],
    }


def view_submission(workspace: SlackWorkspace, app: SlackApp, user: str, *, view: Json, trigger_id: str) -> Json:
    return {
        **_base(workspace, app, user, "view_submission"),
        "trigger_id": trigger_id,
        "view": view,
        "response_urls": [],
    }


def view_closed(workspace: SlackWorkspace, app: SlackApp, user: str, *, view: Json, is_cleared: bool) -> Json:
    return {**_base(workspace, app, user, "view_closed"), "view": view, "is_cleared": is_cleared}


def slash_command(
    workspace: SlackWorkspace,
    app: SlackApp,
    user: str,
    *,
    channel: Json,
    command: str,
    text: str,
    trigger_id: str,
    response_url: str,
) -> Json:
    name = next((person.name for person in workspace.users if person.id == user), user)
    return {
        "token": "verification-token",
        "team_id": workspace.team_id,
        "team_domain": workspace.domain,
        "channel_id": channel["id"],
        "channel_name": channel["name"],
        "user_id": user,
        "user_name": name,
        "command": command,
        "text": text,
        "api_app_id": app.app_id,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }


def _action(blocks: Any, sent: Json) -> Json:
    """What was done, by what the app posted rather than by what the page says: it may not change a button's value.

    A click on an element that the message no longer has (it was edited under the finger) goes through as the page
    sent it; an app must cope with that.
    """
    element = next(
        (
            element
            for block_id, element in elements_of(blocks)
            if block_id == sent.get("block_id") and element["action_id"] == sent.get("action_id")
        ),
        {},
    )
    kept = {name: element[name] for name in ("type", "text", "value", "style", "placeholder") if name in element}
    action = {name: value for name, value in (sent | kept).items() if value is not None}
    if "selected_option" in action:
        action["selected_option"] = option_of(element, action["selected_option"])
    return {**action, "action_ts": f"{time.time():.6f}"}


def _state(blocks: Any, done: Json) -> dict[str, dict[str, Json]]:
    return state_values(blocks, {str(done.get("block_id")): {str(done.get("action_id")): done}})
