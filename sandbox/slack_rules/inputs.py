"""What an input element holds: its initial value, what the page sent for it, and whether a required one is empty. Pure.

Local-slack's page reports only what was touched and leaves initial values out; Slack reports every element.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.slack_rules.ids import elements_of

Json = dict[str, Any]

# element type -> (the field of its value, the field of its initial value)
_FIELDS = {
    "plain_text_input": ("value", "initial_value"),
    "email_text_input": ("value", "initial_value"),
    "url_text_input": ("value", "initial_value"),
    "number_input": ("value", "initial_value"),
    "rich_text_input": ("rich_text_value", "initial_value"),
    "static_select": ("selected_option", "initial_option"),
    "external_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "users_select": ("selected_user", "initial_user"),
    "channels_select": ("selected_channel", "initial_channel"),
    "conversations_select": ("selected_conversation", "initial_conversation"),
    "checkboxes": ("selected_options", "initial_options"),
    "multi_static_select": ("selected_options", "initial_options"),
    "multi_external_select": ("selected_options", "initial_options"),
    "multi_users_select": ("selected_users", "initial_users"),
    "multi_channels_select": ("selected_channels", "initial_channels"),
    "multi_conversations_select": ("selected_conversations", "initial_conversations"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
    "file_input": ("files", "initial_files"),
}
_LISTS = {"selected_options", "selected_users", "selected_channels", "selected_conversations", "files"}
_BY_ID = {"selected_user", "selected_channel", "selected_conversation"}

Values = Mapping[str, Mapping[str, Json]]


def state_values(blocks: Any, touched: Values) -> dict[str, dict[str, Json]]:
    """`state.values` as Slack sends it: every stateful element, touched or not."""
    values: dict[str, dict[str, Json]] = {}
    for block_id, element in elements_of(blocks):
        if element.get("type") in _FIELDS:
            got = touched.get(block_id, {}).get(element["action_id"])
            values.setdefault(block_id, {})[element["action_id"]] = _value(element, got)
    return values


def _value(element: Json, got: Json | None) -> Json:
    kind = element["type"]
    name, initial = _FIELDS[kind]
    if got is None:
        held = element.get(initial)
    elif name in _BY_ID and name not in got:
        held = (got.get("selected_option") or {}).get("value")  # the page offers these as a plain select
    else:
        held = got.get(name)
    if name == "selected_option":
        held = option_of(element, held)
    if name in _LISTS:
        held = [option_of(element, one) if name == "selected_options" else one for one in held or []]
    return {"type": kind, name: None if held == "" else held}


def option_of(element: Json, chosen: Any) -> Any:
    """The option as the app posted it; the page may show, and so send, another text."""
    if not isinstance(chosen, dict):
        return chosen
    groups = element.get("option_groups") or [element]
    options = [option for group in groups for option in group.get("options") or ()]
    return next((option for option in options if option.get("value") == chosen.get("value")), chosen)


def missing_inputs(blocks: Any, values: Values) -> dict[str, str]:
    """Block id -> complaint, for required inputs that are empty: Slack's client does not submit then."""
    missing: dict[str, str] = {}
    for block in blocks if isinstance(blocks, list) else ():
        if block.get("type") != "input" or block.get("optional"):
            continue
        element = block["element"]
        held = values[block["block_id"]][element["action_id"]].get(_FIELDS[element["type"]][0])
        if held in (None, []):
            missing[block["block_id"]] = "Please complete this required field."
    return missing
