"""What differs between two pod templates, in the words an on-call engineer would use. Values of variables are not
shown: they may be secrets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.ports import Container
from bot.vllm.arguments import arguments_of

_SHORT = 60
_UNNOTICED = {"pod's labels changed", "pod's annotations changed"}


@dataclass(frozen=True, slots=True)
class Differences:
    lines: tuple[str, ...]  # "image v0.31.0 → v0.32.0", "--max-num-seqs 256 → 64"
    image: bool
    arguments: bool
    restart: bool = False  # nothing that its containers would notice: a label, an annotation

    @property
    def text(self) -> str:
        return "; ".join(self.lines)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Differences:
    old, new = _containers(before), _containers(after)
    lines: list[str] = []
    image = arguments = False
    for name in sorted(old.keys() | new.keys()):
        if name not in new or name not in old:
            lines.append(f"container {name} {'removed' if name in old else 'added'}")
            continue
        images = _image(old[name], new[name])
        options = _options(old[name], new[name])
        image, arguments = image or bool(images), arguments or bool(options)
        lines += [*images, *options, *_rest(old[name], new[name])]
    lines += _outside(before, after)
    return Differences(tuple(lines), image, arguments, restart=set(lines) <= _UNNOTICED)


def _containers(template: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(c.get("name", "")): c for c in (template.get("spec") or {}).get("containers") or ()}


def _image(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    was, now = str(old.get("image", "")), str(new.get("image", ""))
    if was == now:
        return []
    repository, _, tag = was.rpartition(":")
    other, _, other_tag = now.rpartition(":")
    if repository and repository == other:
        return [f"image {repository.rsplit('/', 1)[-1]} {tag} → {other_tag}"]
    return [f"image {was} → {now}"]


def _options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """By vLLM's reading of them; if that is the same though the words are not, they were only written differently."""
    if all(list(old.get(key) or ()) == list(new.get(key) or ()) for key in ("command", "args")):
        return []
    was, now = (arguments_of(as_container(c)) for c in (old, new))
    lines = [
        f"--{name} {_value(was.given.get(name))} → {_value(now.given.get(name))}"
        for name in sorted(was.given.keys() | now.given.keys())
        if was.given.get(name) != now.given.get(name)
    ]
    if was.model != now.model:
        lines.insert(0, f"model {was.model} → {now.model}")
    return lines or ["command line written differently"]


def _value(value: str | None) -> str:
    if value is None:
        return "(not given)"
    return value if len(value) <= _SHORT else value[: _SHORT - 1] + "…"


def _rest(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    was, now = _env(old), _env(new)
    lines = [f"variable {name} changed" for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    told = {"name", "image", "command", "args", "env"}
    for key in sorted((old.keys() | new.keys()) - told):
        if old.get(key) != new.get(key):
            lines.append(f"{key} changed")
    return lines


def _env(container: Mapping[str, Any]) -> dict[str, str]:
    return {str(e.get("name", "")): json.dumps(e, sort_keys=True) for e in container.get("env") or ()}


def _outside(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    was, now = dict(before.get("spec") or {}), dict(after.get("spec") or {})
    lines = [
        f"pod's {key} changed"
        for key in sorted((was.keys() | now.keys()) - {"containers"})
        if was.get(key) != now.get(key)
    ]
    for key in ("labels", "annotations"):
        if _meta(before, key) != _meta(after, key):
            lines.append(f"pod's {key} changed")
    return lines


def _meta(template: Mapping[str, Any], key: str) -> dict[str, str]:
    found = (template.get("metadata") or {}).get(key) or {}
    return {name: value for name, value in found.items() if name != "pod-template-hash"}


def as_container(raw: Mapping[str, Any]) -> Container:
    """The part of a template's container that its arguments depend on."""
    env = {str(e.get("name", "")): e.get("value", "") if "valueFrom" not in e else None for e in raw.get("env") or ()}
    return Container(
        name=str(raw.get("name", "")),
        image=str(raw.get("image", "")),
        command=_texts(raw.get("command")),
        args=_texts(raw.get("args")),
        env=env,
        ports={},
        gpus=0,
        ready=False,
        restart_count=0,
        state=None,
        last_state=None,
    )


def _texts(words: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(str(word) for word in words or ())
