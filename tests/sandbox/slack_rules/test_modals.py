import pytest

from sandbox.slack_rules.modals import Modals, check_view
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_workspace import SlackApp, demo_workspace
from tests.fixtures_slack import ALICE, BOB, modal, section, text_input

WORKSPACE = demo_workspace()
APP = WORKSPACE.apps[0]


@pytest.fixture
def modals() -> Modals:
    return Modals(WORKSPACE)


def error_of(call) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def update(modals: Modals, view: dict, **which: str) -> dict:
    wanted = {"view_id": None, "external_id": None, "view_hash": None} | which
    return modals.update(APP, view, **wanted)[1]


def test_a_view_keeps_its_id_through_an_update_and_gets_a_new_hash(modals):
    opened = modals.open(APP, ALICE, modal(section("checking")))
    updated = update(modals, modal(section("done")), view_id=opened["id"], view_hash=opened["hash"])
    assert updated["id"] == opened["id"]
    assert updated["hash"] != opened["hash"]
    assert modals.stack(ALICE) == [updated]


def test_a_stale_hash_is_a_conflict(modals):
    opened = modals.open(APP, ALICE, modal(section("x")))
    update(modals, modal(section("y")), view_id=opened["id"])
    stale = error_of(lambda: update(modals, modal(section("z")), view_id=opened["id"], view_hash=opened["hash"]))
    assert stale.error == "hash_conflict"


def test_a_view_that_was_closed_is_not_found(modals):
    opened = modals.open(APP, ALICE, modal(section("x")))
    modals.close_top(ALICE)
    assert error_of(lambda: update(modals, modal(section("y")), view_id=opened["id"])).error == "not_found"


def test_another_apps_view_is_not_found(modals):
    opened = modals.open(SlackApp(app_id="A9"), ALICE, modal(section("x")))
    assert error_of(lambda: update(modals, modal(section("y")), view_id=opened["id"])).error == "not_found"


def test_each_person_has_a_stack_of_their_own(modals):
    modals.open(APP, ALICE, modal(section("for alice")))
    modals.open(APP, BOB, modal(section("for bob")))
    modals.close_top(BOB)
    assert len(modals.stack(ALICE)) == 1
    assert modals.stack(BOB) == []


def test_an_external_id_finds_its_view_and_is_good_once(modals):
    modals.open(APP, ALICE, modal(section("x"), external_id="inc-1"))
    assert update(modals, modal(section("y"), external_id="inc-1"), external_id="inc-1")["external_id"] == "inc-1"
    again = error_of(lambda: modals.open(APP, BOB, modal(section("x"), external_id="inc-1")))
    assert again.error == "duplicate_external_id"


def test_three_views_make_a_stack_and_no_more(modals):
    first = modals.open(APP, ALICE, modal(section("1")))
    second = modals.push(APP, ALICE, modal(section("2")))
    third = modals.push(APP, ALICE, modal(section("3")))
    assert second["root_view_id"] == third["root_view_id"] == first["id"]
    assert third["previous_view_id"] == second["id"]
    assert error_of(lambda: modals.push(APP, ALICE, modal(section("4")))).error == "push_limit_reached"


def test_pushing_needs_an_open_modal(modals):
    assert error_of(lambda: modals.push(APP, ALICE, modal(section("x")))).error == "not_found"


def test_a_submission_carries_every_input_and_names_what_is_missing(modals):
    modals.open(APP, ALICE, modal(text_input("why", "Why"), text_input("who", "Who", initial_value="me")))
    view, missing = modals.submitted(ALICE, {})
    assert view["state"]["values"]["who"]["value"]["value"] == "me"
    assert list(missing) == ["why"]


@pytest.mark.parametrize(
    ("answer", "left"),
    [(None, 1), ({}, 1), ({"response_action": "clear"}, 0), ({"response_action": "errors", "errors": {"a": "b"}}, 2)],
)
def test_what_an_app_answers_to_a_submission_decides_what_stays_open(modals, answer, left):
    modals.open(APP, ALICE, modal(section("1")))
    top = modals.push(APP, ALICE, modal(section("2")))
    errors = modals.answer(APP, ALICE, top["id"], answer)
    assert len(modals.stack(ALICE)) == left
    assert errors == ((answer or {}).get("errors") or {})


def test_an_answer_can_update_or_push(modals):
    opened = modals.open(APP, ALICE, modal(section("1")))
    modals.answer(APP, ALICE, opened["id"], {"response_action": "update", "view": modal(section("2"))})
    assert modals.stack(ALICE)[0]["id"] == opened["id"]
    modals.answer(APP, ALICE, opened["id"], {"response_action": "push", "view": modal(section("3"))})
    assert len(modals.stack(ALICE)) == 2


def test_an_answer_with_a_wrong_view_is_refused(modals):
    opened = modals.open(APP, ALICE, modal(section("1")))
    wrong = {"response_action": "update", "view": modal(section("x"), title="x" * 25)}
    assert error_of(lambda: modals.answer(APP, ALICE, opened["id"], wrong)).error == "invalid_arguments"


def test_closing_the_top_uncovers_the_one_below_unless_it_clears_all(modals):
    modals.open(APP, ALICE, modal(section("1")))
    modals.push(APP, ALICE, modal(section("2")))
    assert modals.close_top(ALICE)[1] is False
    assert len(modals.stack(ALICE)) == 1
    modals.push(APP, ALICE, modal(section("2"), clear_on_close=True))
    assert modals.close_top(ALICE)[1] is True
    assert modals.close_top(ALICE) is None


def test_a_home_tab_keeps_its_id_and_minds_the_hash(modals):
    home = {"type": "home", "blocks": [section("x")]}
    first = modals.publish(APP, ALICE, home, None)
    second = modals.publish(APP, ALICE, home, first["hash"])
    assert second["id"] == first["id"]
    assert error_of(lambda: modals.publish(APP, ALICE, home, first["hash"])).error == "hash_conflict"
    assert modals.homes()[ALICE][APP.app_id] == second


def test_a_view_of_the_wrong_type_or_size_is_refused():
    check_view(modal(section("x")), "modal")
    assert error_of(lambda: check_view(modal(section("x")), "home")).error == "invalid_arguments"
    assert error_of(lambda: check_view(modal(section("x" * 250_001)), "modal")).error == "view_too_large"
    refused = error_of(lambda: check_view(modal(section("x"), title="x" * 25), "modal"))
    assert refused.body["response_metadata"]["messages"] == [
        "[ERROR] must be less than 25 characters [json-pointer:/view/title/text]"
    ]
