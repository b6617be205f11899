import pytest

from sandbox.slack_rules.inputs import missing_inputs, option_of, state_values
from tests.fixtures_slack import section, text_input


def select(kind: str = "static_select", **more: object) -> dict:
    options = [{"value": value, "text": {"type": "plain_text", "text": value.upper()}} for value in ("a", "b")]
    return {"type": kind, "action_id": "value", "options": options, **more}


def an_input(element: dict, **more: object) -> dict:
    return {"type": "input", "block_id": "b", "label": {}, "element": element, **more}


A = {"value": "a", "text": {"type": "plain_text", "text": "A"}}


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ({"type": "plain_text_input", "initial_value": "why"}, {"value": "why"}),
        ({"type": "plain_text_input"}, {"value": None}),
        ({"type": "number_input", "initial_value": "4"}, {"value": "4"}),
        (select(initial_option=A), {"selected_option": A}),
        (select(), {"selected_option": None}),
        (select("checkboxes", initial_options=[A]), {"selected_options": [A]}),
        (select("checkboxes"), {"selected_options": []}),
        ({"type": "datepicker", "initial_date": "2026-01-01"}, {"selected_date": "2026-01-01"}),
        ({"type": "users_select", "initial_user": "U1"}, {"selected_user": "U1"}),
    ],
)
def test_an_untouched_input_holds_its_initial_value(element, expected):
    values = state_values([an_input(element | {"action_id": "value"})], {})
    assert values == {"b": {"value": {"type": element["type"], **expected}}}


def test_what_was_typed_wins_and_what_was_emptied_is_null():
    blocks = [text_input("why", "Why", initial_value="old")]
    typed = state_values(blocks, {"why": {"value": {"type": "plain_text_input", "value": "new"}}})
    emptied = state_values(blocks, {"why": {"value": {"type": "plain_text_input", "value": ""}}})
    assert typed["why"]["value"]["value"] == "new"
    assert emptied["why"]["value"]["value"] is None


def test_buttons_and_texts_have_no_state():
    blocks = [section("x", accessory={"type": "button", "action_id": "go"})]
    assert state_values(blocks, {}) == {}


def test_a_person_is_reported_by_id():
    chosen = {"type": "static_select", "selected_option": {"value": "U2"}}
    element = {"type": "users_select", "action_id": "value"}
    assert state_values([an_input(element)], {"b": {"value": chosen}})["b"]["value"] == {
        "type": "users_select",
        "selected_user": "U2",
    }


def test_an_option_is_reported_as_the_app_posted_it():
    shown = {"value": "a", "text": {"type": "plain_text", "text": "as the page drew it"}}
    assert option_of(select(), shown) == A
    assert option_of(select(), None) is None


def test_a_required_input_that_is_empty_is_missing():
    blocks = [text_input("why", "Why"), {**text_input("note", "Note"), "optional": True}, section("x")]
    values = state_values(blocks, {})
    assert list(missing_inputs(blocks, values)) == ["why"]
    typed = state_values(blocks, {"why": {"value": {"value": "because"}}})
    assert missing_inputs(blocks, typed) == {}


def test_required_checkboxes_need_one_tick():
    blocks = [an_input(select("checkboxes"))]
    assert list(missing_inputs(blocks, state_values(blocks, {}))) == ["b"]
    ticked = state_values(blocks, {"b": {"value": {"selected_options": [A]}}})
    assert missing_inputs(blocks, ticked) == {}
