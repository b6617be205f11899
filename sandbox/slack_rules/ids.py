"""Fills in what Slack makes up when an app leaves it out: `block_id` of blocks, `action_id` of elements. Pure."""

import secrets
import string
from collections.abc import Iterator
from typing import Any

_ALPHABET = string.ascii_letters + string.digits
_NO_ACTION = {"image", "mrkdwn", "plain_text"}


def with_ids(blocks: Any) -> Any:
    """A copy in which every block has a block_id and every interactive element an action_id."""
    if not isinstance(blocks, list):
        return blocks
    return [_block(block) if isinstance(block, dict) else block for block in blocks]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    filled = {**block, "block_id": block.get("block_id") or made_up()}
    if isinstance(filled.get("elements"), list) and filled.get("type") == "actions":
        filled["elements"] = [_element(element) for element in filled["elements"]]
    for name in ("accessory", "element"):
        if isinstance(filled.get(name), dict):
            filled[name] = _element(filled[name])
    return filled


def _element(element: Any) -> Any:
    if not isinstance(element, dict) or element.get("type") in _NO_ACTION:
        return element
    return {**element, "action_id": element.get("action_id") or made_up()}


def made_up(length: int = 5) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def elements_of(blocks: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each interactive element with the id of its block."""
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        inside = [*(block.get("elements") or ()), block.get("accessory"), block.get("element")]
        for element in inside:
            if isinstance(element, dict) and element.get("action_id"):
                yield str(block.get("block_id")), element
