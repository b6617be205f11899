"""Report and Modal in Block Kit. The only place that makes blocks.

What is over Slack's limits is split; what still does not fit is left out with a line that says how much and where it
is. Buttons always stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bot.outbound.slack.limits import LABEL, MESSAGE_BLOCKS, SECTION, VIEW_BLOCKS
from bot.outbound.slack.mrkdwn import Naming, label, lock_screen, mrkdwn, verbatim
from bot.ports import Input, Modal
from bot.report import Button, Buttons, Code, Fields, Menu, Note, Report, Text

Block = dict[str, Any]

# Slack refuses somewhere above 13,200 characters of text in blocks; that limit is measured, not documented.
TOTAL_TEXT = 12_000
LOCK_SCREEN = 1_000
CONTEXT = 2_000
FIELD = 2_000
FIELDS = 10
CHOICES = 5
ELEMENTS = 25
TITLE = 24
OPTION = 75


@dataclass(frozen=True, slots=True)
class Message:
    text: str
    blocks: list[Block]


def message(report: Report, *, marker: str, naming: Naming, rest: str, call: str | None = None) -> Message:
    """`rest`: where to find what did not fit ("in the thread"). `call`: the mention that must be there, if any."""
    blocks = _fitted(list(_blocks(report, naming)), MESSAGE_BLOCKS - 1, rest)
    text = lock_screen(report.text, naming)
    text = text if len(text) <= LOCK_SCREEN else text[: _cut(text, LOCK_SCREEN)] + "…"
    if call is not None:
        text = text if call in text else f"{text} {call}"
        if not any(call in _text_of(block) for block in blocks):
            blocks.insert(_before_the_buttons(blocks), _context(call))
    blocks[0] = {**blocks[0], "block_id": marker}
    return Message(text, _with_unique_actions(blocks))


def view(modal: Modal, *, naming: Naming) -> dict[str, Any]:
    room = VIEW_BLOCKS - len(modal.inputs) - 1
    shown = _fitted(list(_blocks(modal.report, naming)), room, "here")
    made: dict[str, Any] = {
        "type": "modal",
        "callback_id": modal.callback,
        "private_metadata": modal.token,
        "title": _plain(modal.title, TITLE),
        "close": _plain("Cancel" if modal.submit else "Close", TITLE),
        "blocks": [*_with_unique_actions(shown), *(_input(i) for i in modal.inputs)],
    }
    if modal.submit is not None:
        made["submit"] = _plain(modal.submit, TITLE)
    return made


def _blocks(report: Report, naming: Naming) -> Iterator[Block]:
    empty = True
    for part in report.parts or (Text(report.text),):
        for block in _part(part, naming):
            empty = False
            yield block
    if empty:
        yield _section("(nothing to say)")


def _part(part: object, naming: Naming) -> Iterator[Block]:
    match part:
        case Text(text):
            yield from (_section(piece) for piece in _split(mrkdwn(text, naming), SECTION))
        case Note(text):
            yield from (_context(piece) for piece in _split(mrkdwn(text, naming), CONTEXT))
        case Code(text):
            room = SECTION - len("```\n\n```")
            yield from (_section(f"```\n{piece}\n```") for piece in _split(verbatim(text), room))
        case Fields(fields):
            yield from _fields([mrkdwn(field, naming) for field in fields if field.strip()])
        case Buttons(buttons):
            elements = [element for button in buttons for element in _elements(button)]
            for start in range(0, len(elements), ELEMENTS):
                yield {"type": "actions", "elements": elements[start : start + ELEMENTS]}
        case _:
            raise TypeError(f"a report has no such part: {part!r}")


def _fields(texts: Sequence[str]) -> Iterator[Block]:
    short = [text for text in texts if len(text) <= FIELD]
    for start in range(0, len(short), FIELDS):
        yield {"type": "section", "fields": [_mrkdwn(text) for text in short[start : start + FIELDS]]}
    for text in texts:
        if len(text) > FIELD:
            yield from (_section(piece) for piece in _split(text, SECTION))


def _elements(button: Button | Menu) -> Iterator[Block]:
    if isinstance(button, Button):
        yield _button(button)
        return
    for start in range(0, len(button.choices), CHOICES):
        choices = button.choices[start : start + CHOICES]
        if len(choices) == 1:  # a menu of one was long refused by Slack, and is a button with one click more
            yield _button(choices[0])
        else:
            options = [{"text": _plain(c.label, OPTION), "value": f"{c.action} {c.value}"} for c in choices]
            yield {"type": "overflow", "action_id": "menu", "options": options}


def _button(button: Button) -> Block:
    made: Block = {
        "type": "button",
        "text": _plain(button.label, LABEL),
        "action_id": button.action,
        "value": button.value,
    }
    return {**made, "style": button.style.value} if button.style.value else made


def _input(asked: Input) -> Block:
    if asked.choices:
        options = [{"text": _plain(choice, OPTION), "value": choice} for choice in asked.choices]
        element: Block = {"type": "static_select", "action_id": "value", "options": options}
        if asked.initial in asked.choices:
            element["initial_option"] = options[asked.choices.index(asked.initial)]
    else:
        element = {"type": "plain_text_input", "action_id": "value", "multiline": asked.multiline}
        if asked.initial:
            element["initial_value"] = asked.initial
    return {
        "type": "input",
        "block_id": asked.name,
        "label": _plain(asked.label, 2_000),
        "optional": asked.optional,
        "element": element,
    }


def _fitted(blocks: list[Block], room: int, rest: str) -> list[Block]:
    """Leaves out text from the end until the message fits, and says so where it was cut."""
    spent, count, cut = 0, 0, len(blocks)
    buttons = sum(_is_buttons(block) for block in blocks)
    for position, block in enumerate(blocks):
        if _is_buttons(block):
            continue
        spent, count = spent + len(_text_of(block)), count + 1
        if spent > TOTAL_TEXT or count + buttons > room:
            cut = position
            break
    if cut == len(blocks):
        return blocks
    lost = [block for block in blocks[cut:] if not _is_buttons(block)]
    lines = sum(_lines(block) for block in lost)
    note = _context(f"… {lines} more line{'' if lines == 1 else 's'} {rest}")
    return [*blocks[:cut], note, *(block for block in blocks[cut:] if _is_buttons(block))]


def _split(text: str, limit: int) -> Iterator[str]:
    """Pieces of whole lines where lines are short enough; nothing is lost."""
    piece = ""
    for line in text.strip("\n").split("\n"):
        while len(line) > limit:
            if piece:
                yield piece
                piece = ""
            end = _cut(line, limit)
            yield line[:end]
            line = line[end:]
        joined = f"{piece}\n{line}" if piece else line
        if len(joined) > limit:
            yield piece
            piece = line
        else:
            piece = joined
    if piece.strip():
        yield piece


def _cut(line: str, limit: int) -> int:
    """Where a line that is too long may be cut: not inside `<…>` or `&…;`, at a space if there is one near."""
    head = line[:limit]
    for opening, closing in (("<", ">"), ("&", ";")):
        at = head.rfind(opening)
        if at > head.rfind(closing) and at > limit // 2:
            head = head[:at]
    space = head.rfind(" ", len(head) // 2)
    return space + 1 if space > 0 else len(head)


def _with_unique_actions(blocks: list[Block]) -> list[Block]:
    """Slack wants each action_id once in a message. What is meant stands before the colon."""
    seen: dict[str, int] = {}
    made = []
    for block in blocks:
        if not _is_buttons(block):
            made.append(block)
            continue
        elements = []
        for element in block["elements"]:
            action = element["action_id"]
            seen[action] = seen.get(action, 0) + 1
            elements.append({**element, "action_id": action if seen[action] == 1 else f"{action}:{seen[action]}"})
        made.append({**block, "elements": elements})
    return made


def _is_buttons(block: Block) -> bool:
    return bool(block["type"] == "actions")


def _before_the_buttons(blocks: Sequence[Block]) -> int:
    return next((position for position, block in enumerate(blocks) if position and _is_buttons(block)), len(blocks))


def _text_of(block: Block) -> str:
    texts = [block["text"]] if "text" in block else [*block.get("fields", ()), *block.get("elements", ())]
    return "\n".join(str(t["text"]) for t in texts if isinstance(t.get("text"), str))


def _lines(block: Block) -> int:
    return len(block["fields"]) if "fields" in block else _text_of(block).replace("```", "").strip("\n").count("\n") + 1


def _section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text)}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [_mrkdwn(text)]}


def _mrkdwn(text: str) -> Block:
    return {"type": "mrkdwn", "text": text}


def _plain(text: str, limit: int) -> Block:
    return {"type": "plain_text", "text": label(text, limit)}
