"""YAML files into runbooks. All mistakes of all files are told at once, each with its place; what is right is loaded.

ruamel.yaml keeps the places, refuses a key given twice, and leaves `on` and `12:30:00` the texts that they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

import bot
from bot.runbook.schema import Runbook

Place = tuple[str | int, ...]  # the way into the document: ("rules", 0, "when", 1)


@dataclass(frozen=True, slots=True)
class Mistake:
    path: Path
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"


@dataclass(frozen=True, slots=True)
class RunbookFile:
    """A file that is a runbook in form; whether its names exist is for `checking`."""

    path: Path
    runbook: Runbook
    document: Any = field(repr=False, compare=False)

    def mistake(self, place: Place, text: str) -> Mistake:
        line, column = position(self.document, place)
        return Mistake(self.path, line, column, text)


@dataclass(frozen=True, slots=True)
class Loaded:
    files: tuple[RunbookFile, ...]  # in the order of the folders, so a later one of the same name replaces an earlier
    mistakes: tuple[Mistake, ...]


def our_folder() -> Path:
    """The runbooks that come with the bot: inside the installed package, or at the root of its repository."""
    package = Path(bot.__file__).parent
    installed = package / "_runbooks"
    return installed if installed.is_dir() else package.parent / "runbooks"


def load(folders: Sequence[Path]) -> Loaded:
    files: list[RunbookFile] = []
    mistakes: list[Mistake] = []
    for folder in folders:
        if not folder.is_dir():
            mistakes.append(Mistake(folder, 1, 1, "is no folder"))
            continue
        for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
            found = load_file(path)
            files += [found] if isinstance(found, RunbookFile) else []
            mistakes += [] if isinstance(found, RunbookFile) else found
    return Loaded(tuple(files), tuple(mistakes))


def load_file(path: Path) -> RunbookFile | list[Mistake]:
    document = read_yaml(path)
    if isinstance(document, Mistake):
        return [document]
    if not isinstance(document, Mapping):
        return [Mistake(path, 1, 1, "is no runbook: it holds no keys")]
    try:
        runbook = Runbook.model_validate({**_plain(document), "name": path.stem})
    except pydantic.ValidationError as error:
        return [told(path, document, one) for one in error.errors(include_url=False)]
    return RunbookFile(path, runbook, document)


def read_yaml(path: Path) -> Any:
    """The document with its places, or a Mistake."""
    try:
        return YAML(typ="rt", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = " ".join(f"{error.context or ''} {error.problem or ''}".split()) or "is not valid YAML"
        return Mistake(path, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, text)
    except (YAMLError, UnicodeDecodeError) as error:
        return Mistake(path, 1, 1, f"is not valid YAML: {error}")
    except OSError as error:
        return Mistake(path, 1, 1, f"cannot be read: {error.strerror}")


def position(document: Any, place: Place) -> tuple[int, int]:
    """Line and column of the deepest part of `place` that the document has, counted from 1."""
    node, line, column = document, 0, 0
    for key in place:
        try:
            if isinstance(node, Mapping) and key in node:
                line, column = node.lc.key(key)  # type: ignore[attr-defined]
            elif isinstance(node, list) and isinstance(key, int):
                line, column = node.lc.item(key)  # type: ignore[attr-defined]
            else:
                break
            node = node[key]
        except (KeyError, AttributeError, IndexError, TypeError):
            break
    return line + 1, column + 1


def told(path: Path, document: Any, error: Any) -> Mistake:
    place = tuple(error["loc"])
    line, column = position(document, place)
    where = ".".join(str(part) for part in place if not str(part).startswith(("function-", "union")))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "is not a key that is known here"
    return Mistake(path, line, column, f"{where}: {message}" if where else message)


def _plain(node: Any) -> Any:
    """Without ruamel's own types, which pydantic would keep in `with:`."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
