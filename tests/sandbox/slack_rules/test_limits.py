import pytest

from sandbox.slack_rules.limits import block_problems, total_text, view_problems
from tests.fixtures_slack import button, modal, section, text_input


def plain(text: str) -> dict:
    return {"type": "plain_text", "text": text}


def option(value: str = "a", text: str = "A") -> dict:
    return {"value": value, "text": plain(text)}


def in_actions(*elements: dict) -> list[dict]:
    return [{"type": "actions", "elements": list(elements)}]


def press(**more: object) -> dict:
    return {"type": "button", "action_id": "go", "text": plain("Go"), **more}


def menu(kind: str, *options: dict) -> dict:
    return {"type": kind, "action_id": "menu", "placeholder": plain("Pick"), "options": list(options)}


def options(count: int) -> list[dict]:
    return [option(str(number)) for number in range(count)]


# What is just within the limit, what is just over it, and how Slack names the place.
LIMITS = {
    "blocks of a message": ([section("x")] * 50, [section("x")] * 51, "no more than 50 items allowed", "/blocks"),
    "text of a section": ([section("x" * 3000)], [section("x" * 3001)], "less than 3001", "/blocks/0/text/text"),
    "fields of a section": (
        [{"type": "section", "fields": [plain("x")] * 10}],
        [{"type": "section", "fields": [plain("x")] * 11}],
        "no more than 10",
        "/blocks/0/fields",
    ),
    "text of a field": (
        [{"type": "section", "fields": [plain("x" * 2000)]}],
        [{"type": "section", "fields": [plain("x" * 2001)]}],
        "less than 2001",
        "/blocks/0/fields/0/text",
    ),
    "header": (
        [{"type": "header", "text": plain("x" * 150)}],
        [{"type": "header", "text": plain("x" * 151)}],
        "less than 151",
        "/blocks/0/text/text",
    ),
    "elements of a context": (
        [{"type": "context", "elements": [plain("x")] * 10}],
        [{"type": "context", "elements": [plain("x")] * 11}],
        "no more than 10",
        "/blocks/0/elements",
    ),
    "elements of actions": (
        in_actions(*[press(action_id=str(number)) for number in range(25)]),
        in_actions(*[press(action_id=str(number)) for number in range(26)]),
        "no more than 25",
        "/blocks/0/elements",
    ),
    "label of a button": (
        in_actions(press(text=plain("x" * 75))),
        in_actions(press(text=plain("x" * 76))),
        "less than 76",
        "/blocks/0/elements/0/text/text",
    ),
    "value of a button": (
        in_actions(press(value="x" * 2000)),
        in_actions(press(value="x" * 2001)),
        "less than 2001",
        "/blocks/0/elements/0/value",
    ),
    "action_id": (
        in_actions(press(action_id="x" * 255)),
        in_actions(press(action_id="x" * 256)),
        "less than 256",
        "/blocks/0/elements/0/action_id",
    ),
    "block_id": (
        [section("x", block_id="x" * 255)],
        [section("x", block_id="x" * 256)],
        "less than 256",
        "/blocks/0/block_id",
    ),
    "overflow": (
        in_actions(menu("overflow", *options(5))),
        in_actions(menu("overflow", *options(6))),
        "no more than 5",
        "/blocks/0/elements/0/options",
    ),
    "static select": (
        in_actions(menu("static_select", *options(100))),
        in_actions(menu("static_select", *options(101))),
        "no more than 100",
        "/blocks/0/elements/0/options",
    ),
    "text of an option": (
        in_actions(menu("overflow", option(text="x" * 75))),
        in_actions(menu("overflow", option(text="x" * 76))),
        "less than 76",
        "/options/0/text/text",
    ),
    "value of an option": (
        in_actions(menu("overflow", option(value="x" * 150))),
        in_actions(menu("overflow", option(value="x" * 151))),
        "less than 151",
        "/options/0/value",
    ),
    "confirmation": (
        in_actions(press(confirm={"title": plain("x" * 100), "text": plain("x" * 300)})),
        in_actions(press(confirm={"title": plain("x" * 100), "text": plain("x" * 301)})),
        "less than 301",
        "/confirm/text/text",
    ),
    "alternative text": (
        [{"type": "image", "image_url": "http://127.0.0.1/p.png", "alt_text": "x" * 2000}],
        [{"type": "image", "image_url": "http://127.0.0.1/p.png", "alt_text": "x" * 2001}],
        "less than 2001",
        "/blocks/0/alt_text",
    ),
    "markdown of a message": (
        [{"type": "markdown", "text": "x" * 12_000}],
        [{"type": "markdown", "text": "x" * 12_001}],
        "less than 12001",
        "/blocks",
    ),
    "table": (
        [{"type": "table", "rows": [[plain("x")] * 20] * 100}],
        [{"type": "table", "rows": [[plain("x")] * 21] * 100}],
        "no more than 20",
        "/blocks/0/rows/0",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_within_a_limit_passes_and_what_is_over_it_is_named(name):
    within, over, words, place = LIMITS[name]
    assert block_problems(within) == []
    problems = block_problems(over)
    assert any(words in problem and place in problem for problem in problems), problems


WRONG = {
    "a block without type": ([{"text": plain("x")}], "missing required field: type"),
    "a block of no known type": ([{"type": "headline"}], "unsupported type: headline"),
    "a header in mrkdwn": ([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}], "unsupported type: mrkdwn"),
    "an empty section": ([{"type": "section"}], "must have either `text` or `fields`"),
    "an empty text": ([section("")], "must be more than 0 characters"),
    "no elements": ([{"type": "actions", "elements": []}], "no fewer than 1"),
    "an input among actions": (in_actions({"type": "plain_text_input"}), "unsupported type: plain_text_input"),
    "a strange style": (in_actions(press(style="warning")), "must be one of `primary`, `danger`"),
    "the same block_id twice": ([section("x", block_id="b"), section("y", block_id="b")], "'b' already exists"),
    "the same action_id twice": (in_actions(press(), press()), "'go' already exists"),
    "the same option value twice": (in_actions(menu("overflow", option(), option())), "duplicate option value"),
    "an image without text": ([{"type": "image", "image_url": "http://127.0.0.1"}], "missing required field: alt_text"),
    "an image of nothing": ([{"type": "image", "alt_text": "x"}], "must define one of `image_url`"),
    "two tables": ([{"type": "table", "rows": [[plain("x")]]}] * 2, "only one table"),
    "something that is no list": ({"type": "section"}, "must be an array"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_slack_does_not_understand_is_named(name):
    blocks, words = WRONG[name]
    problems = block_problems(blocks)
    assert any(words in problem for problem in problems), problems


def test_the_same_action_id_in_two_blocks_is_fine():
    assert block_problems(button("go", block_id="one") + button("go", block_id="two")) == []


def test_every_problem_is_named_not_only_the_first():
    assert len(block_problems([section("x" * 3001), section("")])) == 2


def test_a_view_takes_100_blocks():
    assert view_problems(modal(*[section("x")] * 100)) == []
    assert any("no more than 100" in problem for problem in view_problems(modal(*[section("x")] * 101)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": plain("x" * 25)}, "/view/title/text"),
        ({"submit": plain("x" * 25)}, "/view/submit/text"),
        ({"private_metadata": "x" * 3001}, "/view/private_metadata"),
        ({"callback_id": "x" * 256}, "/view/callback_id"),
        ({"title": None}, "missing required field: title"),
        ({"type": "dialog"}, "unsupported type: dialog"),
        ({"blocks": [{"type": "markdown", "text": "x"}]}, "unsupported type: markdown"),
    ],
)
def test_a_view_over_a_limit_is_named(change, words):
    problems = view_problems(modal(section("x")) | change)
    assert any(words in problem for problem in problems), problems


def test_a_view_at_its_limits_passes():
    view = modal(section("x"), title="x" * 24, private_metadata="x" * 3000, callback_id="x" * 255)
    assert view_problems(view) == []


def test_an_input_needs_a_submit_button():
    view = modal(text_input("why", "Why"))
    assert view_problems(view) == []
    assert any("must define `submit`" in problem for problem in view_problems(view | {"submit": None}))


def test_total_text_counts_what_a_reader_sees():
    assert (
        total_text([section("abc"), {"type": "section", "fields": [plain("de")]}, *button("go", "f", value="xx")]) == 6
    )
