import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.outbound.slack.blocks import LOCK_SCREEN, TOTAL_TEXT, message, view
from bot.outbound.slack.limits import validate_message, validate_view
from bot.outbound.slack.mrkdwn import called
from bot.ports import Input, Modal
from bot.report import Button, Buttons, Code, Fields, Menu, Note, Report, Style, Text, link, mention, plain
from sandbox.slack_rules.limits import block_problems


def made(*parts, text="lock screen", call=None, rest="in the thread"):
    return message(Report(text, parts), marker="card-inc-142", naming=called, rest=rest, call=call)


def all_text(blocks: list[dict]) -> str:
    return json.dumps(blocks, ensure_ascii=False)


def test_each_part_becomes_its_block():
    shown = made(
        Text("*Under-provisioned*"),
        Fields(("Queue 138", "KV 91 %")),
        Code("replicas: 3 -> 4"),
        Note("inc-142"),
        Buttons((Button("Review…", "review", "inc-142-p2", Style.PRIMARY), Button("Ack", "ack", "inc-142"))),
    )
    assert [b["type"] for b in shown.blocks] == ["section", "section", "section", "context", "actions"]
    assert shown.blocks[0]["block_id"] == "card-inc-142"
    assert [f["text"] for f in shown.blocks[1]["fields"]] == ["Queue 138", "KV 91 %"]
    assert shown.blocks[2]["text"]["text"] == "```\nreplicas: 3 -&gt; 4\n```"
    review, ack = shown.blocks[4]["elements"]
    assert (review["action_id"], review["value"], review["style"]) == ("review", "inc-142-p2", "primary")
    assert "style" not in ack


def test_a_report_without_parts_shows_its_text():
    assert made(text="Acknowledged.").blocks[0]["text"]["text"] == "Acknowledged."


def test_a_menu_carries_action_and_value_in_each_choice():
    menu = Menu((Button("Diagnose again", "rerun", "inc-142"), Button("Resolve", "resolve", "inc-142")))
    (element,) = made(Text("x"), Buttons((menu,))).blocks[1]["elements"]
    assert element["type"] == "overflow"
    assert [o["value"] for o in element["options"]] == ["rerun inc-142", "resolve inc-142"]


def test_a_menu_of_one_is_a_button_and_one_of_seven_is_two_menus():
    (one,) = made(Text("x"), Buttons((Menu((Button("Resolve", "resolve", "inc-1"),)),))).blocks[1]["elements"]
    assert (one["type"], one["action_id"]) == ("button", "resolve")
    seven = Menu(tuple(Button(f"choice {n}", "rerun", f"inc-{n}") for n in range(7)))
    elements = made(Text("x"), Buttons((seven,))).blocks[1]["elements"]
    assert [len(e["options"]) for e in elements] == [5, 2]


def test_equal_actions_get_ids_of_their_own_and_keep_what_they_mean():
    twice = Buttons((Button("Review: a…", "review", "inc-1-p1"), Button("Review: b…", "review", "inc-1-p2")))
    elements = made(Text("x"), twice).blocks[1]["elements"]
    assert [e["action_id"].partition(":")[0] for e in elements] == ["review", "review"]
    assert len({e["action_id"] for e in elements}) == 2


def test_long_text_is_split_at_lines_and_nothing_of_it_is_lost():
    lines = [f"line {n} " + "x" * 90 for n in range(60)]
    shown = made(Text("\n".join(lines)))
    assert len(shown.blocks) > 1
    assert "\n".join(b["text"]["text"] for b in shown.blocks) == "\n".join(lines)


def test_a_line_too_long_is_not_cut_inside_a_link():
    address = link("http://127.0.0.1/" + "q" * 900, "query")
    shown = made(Text("word " * 500 + address + " tail " * 300))
    joined = [b["text"]["text"] for b in shown.blocks]
    assert any(address in piece for piece in joined)


def test_what_does_not_fit_is_counted_and_says_where_it_is():
    parts = [Code("\n".join(f"log line {n} of part {part}" + "." * 60 for n in range(30))) for part in range(8)]
    shown = made(*parts, Buttons((Button("Ack", "ack", "inc-1"),)))
    assert validate_message(shown.blocks, shown.text) == ()
    kept = all_text(shown.blocks).count("log line")
    assert f"… {240 - kept} more lines in the thread" in all_text(shown.blocks)
    assert shown.blocks[-1]["type"] == "actions"


def test_too_many_blocks_keep_the_buttons_and_say_what_is_missing():
    shown = made(*(Text(f"part {n}") for n in range(70)), Buttons((Button("Ack", "ack", "inc-1"),)))
    assert len(shown.blocks) <= 50
    assert shown.blocks[-1]["type"] == "actions"
    assert "more lines in the thread" in all_text(shown.blocks)


def test_eleven_fields_take_two_blocks_and_a_very_long_one_a_section():
    shown = made(Fields(tuple(f"field {n}" for n in range(11))))
    assert [len(b["fields"]) for b in shown.blocks] == [10, 1]
    assert made(Fields(("x" * 2500,))).blocks[0]["text"]["text"] == "x" * 2500


def test_the_one_who_is_called_is_in_the_text_and_in_the_blocks_once():
    shown = made(Text("no mention here"), Buttons((Button("Ack", "ack", "inc-1"),)), call="<@U01ALICE>")
    assert shown.text == "lock screen <@U01ALICE>"
    assert all_text(shown.blocks).count("<@U01ALICE>") == 1
    assert shown.blocks[-1]["type"] == "actions"
    there = made(Text(f"On call {mention('U01ALICE')}"), call="<@U01ALICE>")
    assert all_text(there.blocks).count("<@U01ALICE>") == 1


def test_a_very_long_lock_screen_text_is_cut_visibly():
    text = made(text="word " * 1000).text
    assert len(text) <= LOCK_SCREEN + 1 and text.endswith("…")


def test_a_dialog_has_its_token_its_verb_and_its_inputs():
    asked = (Input("reason", "Why?", multiline=True, optional=True), Input("size", "Size", "b", choices=("a", "b")))
    modal = Modal("Review", Report("x", (Text("Scale"),)), "inc-1-p2", "review", "Scale 3 → 4", asked)
    shown = view(modal, naming=called)
    assert validate_view(shown) == ()
    assert (shown["private_metadata"], shown["callback_id"]) == ("inc-1-p2", "review")
    assert shown["submit"]["text"] == "Scale 3 → 4"
    assert [b["block_id"] for b in shown["blocks"][1:]] == ["reason", "size"]
    assert shown["blocks"][2]["element"]["initial_option"]["value"] == "b"


def test_a_dialog_with_nothing_to_submit_has_no_submit_button():
    shown = view(Modal("Review", Report("Checking the cluster…"), "inc-1-p2", "review"), naming=called)
    assert "submit" not in shown and shown["close"]["text"] == "Close"


foreign = st.text(max_size=400).map(plain)
words = st.one_of(foreign, st.text("ab <>&*`\n", max_size=6000))
buttons = st.lists(
    st.builds(Button, st.text(max_size=120), st.sampled_from(["review", "ack"]), st.just("inc-1-p1")), max_size=30
)
parts = st.lists(
    st.one_of(
        words.map(Text),
        words.map(Note),
        words.map(Code),
        st.lists(words, max_size=14).map(lambda fields: Fields(tuple(fields))),
    ),
    max_size=60,
)


@given(text=st.text(min_size=1, max_size=3000).map(lambda t: f"x{t}"), parts=parts, last=buttons)
def test_whatever_a_report_says_slack_takes_it(text, parts, last):
    last = [Button(f"b{b.label}", b.action, b.value) for b in last]
    shown = made(*parts, *((Buttons(tuple(last)),) if last else ()), text=text)
    assert validate_message(shown.blocks, shown.text) == ()
    assert block_problems(shown.blocks) == []
    assert sum(len(t) for t in _texts(shown.blocks)) <= TOTAL_TEXT + 200


def _texts(blocks: list[dict]) -> list[str]:
    owners = [o for b in blocks for o in (b.get("text"), *b.get("fields", ()), *b.get("elements", ()))]
    return [o["text"] for o in owners if o and isinstance(o.get("text"), str)]


@pytest.mark.parametrize("part", ["not a part", None])
def test_what_is_no_part_is_an_error_and_not_an_empty_message(part):
    with pytest.raises(TypeError, match="no such part"):
        made(part)
