"""Slack's documented limits on Block Kit, and the words in which Slack refuses what is over them. Pure.

Numbers: Slack's reference of blocks, elements and composition objects. `TOTAL_TEXT` is not documented; people measured
about 13,200 characters (slackapi/bolt-js#2509).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TOTAL_TEXT = 13_200
MESSAGE_TEXT = 40_000
MARKDOWN_TEXT = 12_000
VIEW_BYTES = 250_000

_SELECTS = {f"{who}_select" for who in ("static", "external", "users", "conversations", "channels")}
_MULTI_SELECTS = {f"multi_{name}" for name in _SELECTS}
_CHOICES = {"checkboxes", "radio_buttons"}
_TIMES = {"datepicker", "timepicker", "datetimepicker"}
_INPUTS = {"plain_text_input", "email_text_input", "url_text_input", "number_input", "rich_text_input", "file_input"}
_IN_ACTIONS = {"button", "workflow_button", "overflow"} | _SELECTS | _MULTI_SELECTS | _CHOICES | _TIMES
_IN_SECTION = _IN_ACTIONS | {"image"}
_IN_INPUT = _INPUTS | _SELECTS | _MULTI_SELECTS | _CHOICES | _TIMES

_EVERYWHERE = {"section", "header", "divider", "context", "actions", "image", "input", "rich_text", "video"}
# Newer blocks are let through by name; nothing is known here about their insides.
_NEWER = {"card", "carousel", "container", "context_actions", "data_table", "plan", "task_card"}
IN_MESSAGE = frozenset(_EVERYWHERE | {"markdown", "table", "file"} | _NEWER)
IN_VIEW = frozenset(_EVERYWHERE | {"alert"} | _NEWER)


@dataclass
class Problems:
    """Collects every problem, as Slack does, each with a pointer to the place."""

    found: list[str] = field(default_factory=list)

    def add(self, text: str, where: str) -> None:
        self.found.append(f"{text} [json-pointer:{where}]")

    def length(self, value: Any, limit: int, where: str, *, at_least: int = 0) -> None:
        if not isinstance(value, str):
            self.add("must be a string", where)
        elif len(value) < at_least:
            self.add(f"must be more than {at_least - 1} characters", where)
        elif len(value) > limit:
            self.add(f"must be less than {limit + 1} characters", where)

    def optional(self, owner: Mapping[str, Any], name: str, limit: int, where: str) -> None:
        if owner.get(name) is not None:
            self.length(owner[name], limit, f"{where}/{name}")

    def count(self, items: Any, limit: int, where: str, *, at_least: int = 0) -> list[Any]:
        if not isinstance(items, list):
            self.add("must be an array", where)
            return []
        if len(items) < at_least:
            self.add(f"no fewer than {at_least} items allowed", where)
        if len(items) > limit:
            self.add(f"no more than {limit} items allowed", where)
        return items

    def text(self, value: Any, limit: int, where: str, *, plain: bool = False) -> None:
        """A text object; `plain` refuses mrkdwn."""
        if not isinstance(value, dict):
            self.add("must provide an object", where)
            return
        if value.get("type") not in (("plain_text",) if plain else ("plain_text", "mrkdwn")):
            self.add(f"unsupported type: {value.get('type')}", f"{where}/type")
        self.length(value.get("text"), limit, f"{where}/text", at_least=1)

    def required_text(
        self, owner: Mapping[str, Any], name: str, limit: int, where: str, *, plain: bool = False
    ) -> None:
        if owner.get(name) is None:
            self.add(f"missing required field: {name}", where)
        else:
            self.text(owner[name], limit, f"{where}/{name}", plain=plain)

    def optional_text(
        self, owner: Mapping[str, Any], name: str, limit: int, where: str, *, plain: bool = False
    ) -> None:
        if owner.get(name) is not None:
            self.text(owner[name], limit, f"{where}/{name}", plain=plain)


def block_problems(blocks: Any, *, view: bool = False, where: str = "/blocks") -> list[str]:
    """What Slack would answer `invalid_blocks` (in a view: `invalid_arguments`) to; empty if it would take them."""
    problems = Problems()
    block_ids: set[str] = set()
    tables = 0
    for position, block in enumerate(problems.count(blocks, 100 if view else 50, where)):
        at = f"{where}/{position}"
        if not isinstance(block, dict):
            problems.add("must provide an object", at)
            continue
        kind = block.get("type")
        if kind not in (IN_VIEW if view else IN_MESSAGE):
            problems.add(f"unsupported type: {kind}" if kind else "missing required field: type", f"{at}/type")
            continue
        problems.optional(block, "block_id", 255, at)
        if block.get("block_id") in block_ids:
            problems.add(f"`block_id` {block['block_id']!r} already exists", f"{at}/block_id")
        elif block.get("block_id"):
            block_ids.add(block["block_id"])
        tables += kind == "table"
        _block(problems, block, at)
    if tables > 1:
        problems.add("only one table allowed", where)
    if not view and isinstance(blocks, list):
        markdown = sum(len(str(block.get("text", ""))) for block in blocks if _is(block, "markdown"))
        if markdown > MARKDOWN_TEXT:
            problems.add(f"markdown blocks must be less than {MARKDOWN_TEXT + 1} characters together", where)
    return problems.found


def _is(block: Any, kind: str) -> bool:
    return isinstance(block, dict) and block.get("type") == kind


def _block(problems: Problems, block: dict[str, Any], at: str) -> None:
    match block["type"]:
        case "section":
            _section(problems, block, at)
        case "header":
            problems.required_text(block, "text", 150, at, plain=True)
        case "context":
            for position, element in enumerate(problems.count(block.get("elements"), 10, f"{at}/elements", at_least=1)):
                _context_element(problems, element, f"{at}/elements/{position}")
        case "actions":
            elements = problems.count(block.get("elements"), 25, f"{at}/elements", at_least=1)
            _elements(problems, elements, _IN_ACTIONS, f"{at}/elements")
        case "image":
            _image(problems, block, at)
            problems.optional_text(block, "title", 2000, at, plain=True)
        case "input":
            problems.required_text(block, "label", 2000, at, plain=True)
            problems.optional_text(block, "hint", 2000, at, plain=True)
            if block.get("element") is None:
                problems.add("missing required field: element", at)
            else:
                _element(problems, block["element"], _IN_INPUT, f"{at}/element")
        case "table":
            for position, row in enumerate(problems.count(block.get("rows"), 100, f"{at}/rows", at_least=1)):
                problems.count(row, 20, f"{at}/rows/{position}")


def _section(problems: Problems, block: dict[str, Any], at: str) -> None:
    if block.get("text") is None and block.get("fields") is None:
        problems.add("must have either `text` or `fields`", at)
    problems.optional_text(block, "text", 3000, at)
    if block.get("fields") is not None:
        for position, value in enumerate(problems.count(block["fields"], 10, f"{at}/fields", at_least=1)):
            problems.text(value, 2000, f"{at}/fields/{position}")
    if block.get("accessory") is not None:
        _element(problems, block["accessory"], _IN_SECTION, f"{at}/accessory")


def _context_element(problems: Problems, element: Any, at: str) -> None:
    if _is(element, "image"):
        _image(problems, element, at)
    else:
        problems.text(element, 3000, at)


def _image(problems: Problems, image: dict[str, Any], at: str) -> None:
    if image.get("image_url") is None and image.get("slack_file") is None:
        problems.add("must define one of `image_url` or `slack_file`", at)
    problems.optional(image, "image_url", 3000, at)
    if image.get("alt_text") is None:
        problems.add("missing required field: alt_text", at)
    else:
        problems.length(image["alt_text"], 2000, f"{at}/alt_text")


def _elements(problems: Problems, elements: list[Any], allowed: set[str], at: str) -> None:
    action_ids: set[str] = set()
    for position, element in enumerate(elements):
        here = f"{at}/{position}"
        _element(problems, element, allowed, here)
        action_id = element.get("action_id") if isinstance(element, dict) else None
        if action_id in action_ids:
            problems.add(f"`action_id` {action_id!r} already exists in this block", f"{here}/action_id")
        elif action_id:
            action_ids.add(action_id)


def _element(problems: Problems, element: Any, allowed: set[str], at: str) -> None:
    if not isinstance(element, dict) or element.get("type") not in allowed:
        kind = element.get("type") if isinstance(element, dict) else element
        problems.add(f"unsupported type: {kind}", f"{at}/type")
        return
    kind = element["type"]
    problems.optional(element, "action_id", 255, at)
    problems.optional_text(element, "placeholder", 150, at, plain=True)
    if element.get("confirm") is not None:
        _confirm(problems, element["confirm"], f"{at}/confirm")
    if kind == "button":
        _button(problems, element, at)
    elif kind == "image":
        _image(problems, element, at)
    elif kind == "overflow":
        _options(problems, element.get("options"), 5, f"{at}/options")
    elif kind in _CHOICES:
        _options(problems, element.get("options"), 10, f"{at}/options")
    elif kind in ("static_select", "multi_static_select"):
        _static_select(problems, element, at)
    elif kind == "plain_text_input":
        problems.optional(element, "initial_value", 3000, at)


def _button(problems: Problems, button: dict[str, Any], at: str) -> None:
    problems.required_text(button, "text", 75, at, plain=True)
    problems.optional(button, "value", 2000, at)
    problems.optional(button, "url", 3000, at)
    problems.optional(button, "accessibility_label", 75, at)
    if button.get("style") not in (None, "primary", "danger"):
        problems.add("must be one of `primary`, `danger`", f"{at}/style")


def _static_select(problems: Problems, select: dict[str, Any], at: str) -> None:
    if select.get("option_groups") is None:
        _options(problems, select.get("options"), 100, f"{at}/options")
        return
    for position, group in enumerate(problems.count(select["option_groups"], 100, f"{at}/option_groups", at_least=1)):
        here = f"{at}/option_groups/{position}"
        problems.required_text(group, "label", 75, here, plain=True)
        _options(problems, group.get("options"), 100, f"{here}/options")


def _options(problems: Problems, options: Any, limit: int, at: str) -> None:
    values: set[str] = set()
    for position, option in enumerate(problems.count(options, limit, at, at_least=1)):
        here = f"{at}/{position}"
        if not isinstance(option, dict):
            problems.add("must provide an object", here)
            continue
        problems.required_text(option, "text", 75, here)
        # Slack's pages disagree (150, or 2,000); what keeps to the smaller is right under both.
        problems.length(option.get("value"), 150, f"{here}/value")
        problems.optional_text(option, "description", 75, here)
        if option.get("value") in values:
            problems.add(f"duplicate option value {option['value']!r}", f"{here}/value")
        values.add(str(option.get("value")))


def _confirm(problems: Problems, confirm: Any, at: str) -> None:
    if not isinstance(confirm, dict):
        problems.add("must provide an object", at)
        return
    problems.optional_text(confirm, "title", 100, at, plain=True)
    problems.optional_text(confirm, "text", 300, at)
    problems.optional_text(confirm, "confirm", 30, at, plain=True)
    problems.optional_text(confirm, "deny", 30, at, plain=True)


def view_problems(view: Any) -> list[str]:
    """What Slack would answer `invalid_arguments` to; empty if it would take the view."""
    problems = Problems()
    if not isinstance(view, dict) or view.get("type") not in ("modal", "home"):
        kind = view.get("type") if isinstance(view, dict) else None
        problems.add(f"unsupported type: {kind}", "/view/type")
        return problems.found
    problems.optional(view, "private_metadata", 3000, "/view")
    problems.optional(view, "callback_id", 255, "/view")
    problems.optional(view, "external_id", 255, "/view")
    if view["type"] == "modal":
        problems.required_text(view, "title", 24, "/view", plain=True)
        problems.optional_text(view, "submit", 24, "/view", plain=True)
        problems.optional_text(view, "close", 24, "/view", plain=True)
        if not view.get("submit") and any(_is(block, "input") for block in view.get("blocks") or []):
            problems.add("must define `submit` to use an `input` block in modals", "/view")
    return problems.found + block_problems(view.get("blocks"), view=True, where="/view/blocks")


def total_text(blocks: Any) -> int:
    """Characters of all texts that a reader would see."""
    return sum(len(text) for text in _texts(blocks))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from _texts(child)
    elif isinstance(node, dict):
        for name, child in node.items():
            if name == "text" and isinstance(child, str):
                yield child
            else:
                yield from _texts(child)
