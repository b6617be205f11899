"""What Slack would refuse, asked before it is sent. `slack_sdk` checks some of it; none of it checks a plain dict.

Numbers: Slack's reference of blocks, elements and views. The limit of all text together is not documented; people
measured about 13,200 characters.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
SECTION = 3_000
LABEL = 75
ID = 255
TOTAL_TEXT = 13_200
TEXT = 40_000

_TEXTS = {"section": SECTION, "header": 150, "context": SECTION}


def validate_message(blocks: Sequence[Mapping[str, Any]], text: str) -> tuple[str, ...]:
    """The reasons for which Slack would refuse it; empty if it would take it."""
    found = list(_block_problems(blocks, MESSAGE_BLOCKS))
    if not text.strip():
        found.append("text: a message without it shows nothing on a lock screen")
    if len(text) > TEXT:
        found.append(f"text: {len(text)} characters, {TEXT} are allowed")
    return tuple(found)


def validate_view(view: Mapping[str, Any]) -> tuple[str, ...]:
    found = list(_block_problems(view["blocks"], VIEW_BLOCKS))
    for name in ("title", "submit", "close"):
        if name in view:
            found += _length(name, view[name]["text"], 24)
    found += _length("private_metadata", view["private_metadata"], 3_000, at_least=0)
    found += _length("callback_id", view["callback_id"], ID)
    return tuple(found)


def _block_problems(blocks: Sequence[Mapping[str, Any]], most: int) -> Iterator[str]:
    if not blocks:
        yield "blocks: there is none"
    if len(blocks) > most:
        yield f"blocks: {len(blocks)}, {most} are allowed"
    total = sum(len(text) for block in blocks for text in _all_texts(block))
    if total > TOTAL_TEXT:
        yield f"blocks: {total} characters together, about {TOTAL_TEXT} are allowed"
    yield from _twice("block_id", [b["block_id"] for b in blocks if "block_id" in b])
    yield from _twice("action_id", [e["action_id"] for b in blocks for e in _interactive(b) if b["type"] == "actions"])
    for position, block in enumerate(blocks):
        yield from (f"block {position}: {problem}" for problem in _one_block(block))


def _one_block(block: Mapping[str, Any]) -> Iterator[str]:
    kind = block["type"]
    if kind not in ("section", "header", "context", "actions", "divider", "input", "image"):
        yield f"type {kind} is not one that we send"
    if "block_id" in block:
        yield from _length("block_id", block["block_id"], ID)
    if "text" in block:
        yield from _length("text", block["text"]["text"], _TEXTS.get(kind, SECTION))
    elif kind in ("section", "header") and not block.get("fields"):
        yield "it has neither text nor fields"
    if len(block.get("fields", ())) > 10:
        yield f"{len(block['fields'])} fields, 10 are allowed"
    for field in block.get("fields", ()):
        yield from _length("field", field["text"], 2_000)
    if kind == "context":
        yield from _counted("elements", block["elements"], 10)
        for element in block["elements"]:
            yield from _length("context", element["text"], _TEXTS["context"])
    if kind == "actions":
        yield from _counted("elements", block["elements"], 25)
    if kind == "input":
        yield from _length("label", block["label"]["text"], 2_000)
    for element in _interactive(block):
        yield from _one_element(element)


def _one_element(element: Mapping[str, Any]) -> Iterator[str]:
    yield from _length("action_id", element["action_id"], ID)
    kind = element["type"]
    if kind == "button":
        yield from _length("button", element["text"]["text"], LABEL)
        yield from _length("value", element.get("value", ""), 2_000, at_least=0)
        if element.get("style", "primary") not in ("primary", "danger"):
            yield f"style {element['style']} is none"
    if "options" in element:
        yield from _counted("options", element["options"], 5 if kind == "overflow" else 100)
        for option in element["options"]:
            yield from _length("option", option["text"]["text"], 75)
            yield from _length("option's value", option["value"], 150)
    yield from _length("initial_value", element.get("initial_value", ""), 3_000, at_least=0)


def _interactive(block: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if block["type"] == "actions":
        return tuple(block["elements"])
    return (block["element"],) if "element" in block else ()


def _all_texts(block: Mapping[str, Any]) -> Iterator[str]:
    owners = [block.get("text"), *block.get("fields", ())]
    owners += [e for e in block.get("elements", ()) if block["type"] == "context"]
    for owner in owners:
        if owner is not None:
            yield owner["text"]


def _twice(name: str, values: Sequence[str]) -> Iterator[str]:
    yield from (f"{name} {value!r} is there {n} times" for value, n in Counter(values).items() if n > 1)


def _counted(name: str, items: Sequence[Any], most: int) -> Iterator[str]:
    if not 1 <= len(items) <= most:
        yield f"{len(items)} {name}, 1 to {most} are allowed"


def _length(name: str, text: str, most: int, *, at_least: int = 1) -> Iterator[str]:
    if not at_least <= len(text) <= most:
        yield f"{name}: {len(text)} characters, {at_least} to {most} are allowed"
