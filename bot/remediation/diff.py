"""What a change changes, as lines a person reads on a phone: only fields that somebody decides about.

Containers and the like are compared by name, and vLLM's arguments by option. Values of variables are not shown: they
may be secrets.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bot.ports import Change, Container
from bot.remediation.proposal import DiffLine
from bot.vllm.arguments import Arguments, arguments_of

# What the API server and the controllers write themselves.
_NOISE = {
    "status",
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.uid",
    "metadata.selfLink",
    "metadata.creationTimestamp",
    "metadata.annotations[deployment.kubernetes.io/revision]",
    "metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
    "spec.template.metadata.creationTimestamp",
    "spec.template.metadata.labels[pod-template-hash]",
}
_SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
_POD = "spec.template.spec."
_HIDDEN, _CHANGED = "(a value, not shown)", "(another value, not shown)"


def diff(change: Change) -> tuple[DiffLine, ...]:
    return tuple(_shortened(line) for line in _compared("", change.before, change.after))


def rendered(lines: Iterable[DiffLine]) -> str:
    """As text, one field after the other; "" for no lines."""
    blocks = []
    for line in lines:
        block = [line.path]
        block += [f"- {_text(line.before)}"] if line.before is not None else []
        block += [f"+ {_text(line.after)}"] if line.after is not None else []
        blocks.append("\n".join(block))
    return "\n".join(blocks)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(part)}" for key, part in value.items()) or "{}"
    if isinstance(value, list | tuple):
        return " ".join(_text(part) for part in value) or "[]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _compared(path: str, before: Any, after: Any) -> list[DiffLine]:
    if path in _NOISE or before == after or (_empty(before) and _empty(after)):
        return []
    if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
        return _mappings(path, before or {}, after or {})
    if _is_list(before) and _is_list(after) and (key := _identity(before, after)):
        return _named_items(path, key, before or (), after or ())
    return [DiffLine(path, _value(path, before, _HIDDEN), _value(path, after, _CHANGED))]


def _empty(value: Any) -> bool:
    return value is None or value == {} or value == [] or value == ()


def _is_list(value: Any) -> bool:
    return value is None or isinstance(value, list | tuple)


def _value(path: str, value: Any, instead: str) -> Any:
    return instead if value is not None and _SECRET.search(path.rsplit(".", 1)[-1]) else value


def _mappings(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DiffLine]:
    if _is_container(path):
        return _containers(path, before, after)
    lines: list[DiffLine] = []
    for key in _keys(before, after):
        lines += _compared(_below(path, key), before.get(key), after.get(key))
    return lines


def _below(path: str, key: str) -> str:
    if path.endswith(("labels", "annotations")):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [*before, *(key for key in after if key not in before)]


def _identity(before: Sequence[Any] | None, after: Sequence[Any] | None) -> str | None:
    """The field that tells the items of both lists apart; None if there is none."""
    sides = [list(side or ()) for side in (before, after)]
    for key in ("name", "mountPath", "containerPort", "key"):
        if all(isinstance(item, Mapping) and key in item for side in sides for item in side) and all(
            len({item[key] for item in side}) == len(side) for side in sides
        ):
            return key
    return None


def _named_items(path: str, key: str, before: Sequence[Any], after: Sequence[Any]) -> list[DiffLine]:
    old, new = ({str(item[key]): item for item in side} for side in (before, after))
    lines: list[DiffLine] = []
    for name in _keys(old, new):
        where = f"{path}[{name}]"
        if name in old and name in new:
            lines += _variable(where, old[name], new[name]) if path.endswith(".env") else []
            lines += _compared(where, old[name], new[name]) if not path.endswith(".env") else []
        elif path.endswith(".env"):
            lines.append(DiffLine(where, *((_HIDDEN, None) if name in old else (None, _HIDDEN))))
        else:
            lines.append(DiffLine(where, _summary(old.get(name)), _summary(new.get(name))))
    return lines


def _variable(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DiffLine]:
    return [] if before == after else [DiffLine(path, _HIDDEN, _CHANGED)]


def _summary(item: Mapping[str, Any] | None) -> Any:
    """A whole container or volume would fill the screen: what it is suffices."""
    if item is None:
        return None
    return item.get("image") or {key: part for key, part in item.items() if key != "name"} or item


def _is_container(path: str) -> bool:
    return re.search(r"\.(initContainers|containers)\[[^\]]*\]$", path) is not None


def _containers(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DiffLine]:
    lines: list[DiffLine] = []
    for key in _keys(before, after):
        if key not in ("command", "args"):
            lines += _compared(f"{path}.{key}", before.get(key), after.get(key))
    if any(list(before.get(key) or ()) != list(after.get(key) or ()) for key in ("command", "args")):
        lines += _options(path, before, after)
    return lines


def _options(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[DiffLine]:
    old, new = (_arguments(container) for container in (before, after))
    lines = [] if old.model == new.model else [DiffLine(f"{path} model", old.model, new.model)]
    for name in _keys(old.given, new.given):
        was, will = old.given.get(name), new.given.get(name)
        if was != will:
            option = f"--{name}"
            lines.append(DiffLine(f"{path} {option}", _value(option, was, _HIDDEN), _value(option, will, _CHANGED)))
    if lines and not (old.hidden or new.hidden):
        return lines
    # What vLLM would read cannot be told apart from the words alone, so the words themselves are shown.
    words = [[_unsecret(w) for w in (*(c.get("command") or ()), *(c.get("args") or ()))] for c in (before, after)]
    return [*lines, DiffLine(f"{path} command line", *words)]


def _unsecret(word: str) -> str:
    name, equals, _ = word.partition("=")
    return f"{name}={_HIDDEN}" if equals and _SECRET.search(name) else word


def _arguments(raw: Mapping[str, Any]) -> Arguments:
    env = {str(e.get("name", "")): None if "valueFrom" in e else e.get("value", "") for e in raw.get("env") or ()}
    command, args = (tuple(str(word) for word in raw.get(key) or ()) for key in ("command", "args"))
    image = str(raw.get("image", ""))
    return arguments_of(Container(str(raw.get("name", "")), image, command, args, env, {}, 0, False, 0, None, None))


def _shortened(line: DiffLine) -> DiffLine:
    path = line.path.replace("spec.template.metadata.", "pod's ").removeprefix(_POD)
    return DiffLine(re.sub(r"^(?:initContainers|containers)\[([^\]]*)\][. ]", r"\1: ", path), line.before, line.after)
