"""YAML files into runbooks. All mistakes of all files are told at once, each with its place; what is right is loaded.

ruamel.yaml keeps the places, refuses a key given twice, and leaves `on` and `12:30:00` the texts that they are.
"""

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

import bot
from bot.runbook.conditions import nearest
from bot.runbook.schema import Runbook

LONGEST_BYTES = 2**20
MOST_VALUES = 100_000
MOST_BRACKETS = 100
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>ms|s|sec|seconds|m|min|minutes|h|hours)")
_UNIT_SECONDS = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minutes"), 60.0),
    **dict.fromkeys(("h", "hours"), 3600.0),
}

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
        paths = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
        if not paths:
            mistakes.append(Mistake(folder, 1, 1, "holds no runbook: they are files named <name>.yaml"))
        for path in paths:
            found = _misnamed(path, paths) or load_file(path)
            files += [found] if isinstance(found, RunbookFile) else []
            mistakes += [] if isinstance(found, RunbookFile) else found
    return Loaded(tuple(files), tuple(mistakes))


def _misnamed(path: Path, beside: Sequence[Path]) -> list[Mistake]:
    """The file's name is the runbook's, which people type."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", path.stem) is None:
        close = re.sub(r"[^a-z0-9_]+", "_", path.stem.lower()).strip("_")
        return [Mistake(path, 1, 1, f"'{path.stem}' cannot be typed as one word; name the file {close}.yaml")]
    twin = path.with_suffix(".yaml")
    if path != twin and twin in beside:
        return [Mistake(path, 1, 1, f"is the same runbook as {twin.name} beside it; one of them has to go")]
    return []


def load_file(path: Path) -> RunbookFile | list[Mistake]:
    document = read_yaml(path)
    if isinstance(document, Mistake):
        return [document]
    if not isinstance(document, Mapping):
        form = "is empty" if document is None else "holds a list" if isinstance(document, list) else "holds one value"
        keys = ", ".join(_keys_at(Runbook, ()))
        return [Mistake(path, 1, 1, f"{form}; a runbook is a mapping with the keys {keys}")]
    try:
        runbook = Runbook.model_validate({**_plain(document), "name": path.stem})
    except pydantic.ValidationError as error:
        return all_told(path, document, error)
    return RunbookFile(path, runbook, document)


def read_yaml(path: Path) -> Any:
    """The document with its places, or a Mistake."""
    try:
        there = path.stat()
        if not path.is_file():  # a pipe would be waited for
            return Mistake(path, 1, 1, "is no file")
        # Parsing takes a second for each MiB.
        if (size := there.st_size) > LONGEST_BYTES:
            return Mistake(path, 1, 1, f"is {size / 2**20:.0f} MiB large; {LONGEST_BYTES // 2**20} MiB is the most")
        content = path.read_bytes()
        text = content.decode()
    except UnicodeDecodeError as error:
        line, column = _place_of(content[: error.start].decode())
        byte = f"0x{content[error.start]:02x}"
        return Mistake(path, line, column, f"is not UTF-8: the byte {byte} stands here; save the file as UTF-8")
    except OSError as error:
        return Mistake(path, 1, 1, f"cannot be read: {error.strerror}")
    if _brackets_deep(text) > MOST_BRACKETS:  # the parser takes minutes for them
        return Mistake(path, 1, 1, f"nests more than {MOST_BRACKETS} brackets")
    try:
        document = YAML(typ="rt", pure=True).load(text)
        values = _expanded(document, {})
    except ReaderError as error:
        line, column = _place_of(text[: error.position])
        return Mistake(path, line, column, f"the character U+{ord(text[error.position]):04X} may not stand in YAML")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Mistake(path, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, _yaml_words(error, text))
    except YAMLError as error:
        return Mistake(path, 1, 1, f"is not valid YAML: {error}")
    except RecursionError:
        return Mistake(path, 1, 1, "nests too deeply, or refers to itself")
    if values > MOST_VALUES:
        return Mistake(path, 1, 1, f"means {values:,} values once its aliases are put in; {MOST_VALUES:,} is the most")
    return document


def _brackets_deep(text: str) -> int:
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", text):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _place_of(before: str) -> tuple[int, int]:
    """Line and column of what follows this text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _yaml_words(error: MarkedYAMLError, text: str) -> str:
    """ruamel's own, without its advice for programmers."""
    if isinstance(error, DuplicateKeyError):
        return (error.problem or "found duplicate key").partition(" with value")[0] + ": a key may be given once"
    problem = " ".join(f"{error.context or ''} {error.problem or ''}".split()) or "is not valid YAML"
    mark, begin = error.problem_mark, error.context_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return "a tab stands here; YAML is indented with spaces"
    if "expected a single document" in problem:
        return "a second document begins here (---); a file holds one"
    begun = f" (it begins on line {begin.line + 1})" if begin and mark and begin.line != mark.line else ""
    if "block end" in problem:
        return f"is indented otherwise than what it belongs to{begun}"
    if "flow sequence" in problem or "flow mapping" in problem:
        bracket = "[" if "flow sequence" in problem else "{"
        return f"a {bracket} is not closed{begun}, or a comma is missing: {error.problem}"
    return f"{problem}{begun}"


def _expanded(node: Any, known: dict[int, int]) -> int:
    """How many values it means, when each alias is what it stands for. Few lines can mean billions."""
    if not isinstance(node, Mapping | list):
        return 1
    if id(node) not in known:
        items = node.values() if isinstance(node, Mapping) else node
        known[id(node)] = 1 + sum(_expanded(item, known) for item in items)
    return known[id(node)]


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


def all_told(
    path: Path,
    document: Any,
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel] = Runbook,
    at: Place = (),
) -> list[Mistake]:
    """All that pydantic finds wrong with the part of the document that stands `at`."""
    errors = error.errors(include_url=False)
    places = [tuple(one["loc"]) for one in errors]
    # An item that is wrong is left out, and its list then is too short.
    real = [
        one
        for one in errors
        if one["type"] != "too_short"
        or not any(len(p) > len(one["loc"]) and p[: len(one["loc"])] == tuple(one["loc"]) for p in places)
    ]
    return [told(path, document, one, model, at) for one in real]


def told(path: Path, document: Any, error: Any, model: type[pydantic.BaseModel] = Runbook, at: Place = ()) -> Mistake:
    """One of pydantic's errors about `model`, in words."""
    place = tuple(error["loc"])
    line, column = position(document, (*at, *place))
    where = ".".join(str(part) for part in place if not str(part).startswith(("function-", "union")))
    message = in_words(error)
    if error["type"] == "extra_forbidden":
        message += nearest(str(place[-1]), _keys_at(model, place[:-1]))
    return Mistake(path, line, column, f"{where}: {message}" if where else message)


def in_words(error: Any) -> str:
    """What is wrong with a value, and how it would be right."""
    kind, given = error["type"], error["input"]
    message = str(error["msg"]).removeprefix("Value error, ")
    match kind:
        case "extra_forbidden":
            return "is not a key that is known here"
        case "missing":
            return "is missing"
        case "too_short":
            return "is empty, and needs at least one"
        case "tuple_type" | "list_type":
            shown = given if isinstance(given, str) and len(given) < 60 else "…"
            return (
                f"is to be a list: [{shown}]" if not isinstance(given, Mapping) else "is to be a list: a - before each"
            )
        case "string_type" if isinstance(given, int | float):
            return f'is to be a text: "{given}"'
        case "string_pattern_mismatch":
            close = re.sub(r"[^a-z0-9_]+", "_", str(given).lower()).strip("_")
            return f"'{given}' is to be of small letters, digits and _" + (f": {close}" if close != given else "")
        case "literal_error" | "enum":
            words = re.findall(r"'([^']+)'", str(error["ctx"]["expected"]))
            return f"'{given}' is none of {', '.join(words)}{_near(str(given), words)}"
        case "float_parsing" | "int_parsing":
            return f"'{given}' is no number{_in_units(str(error['loc'][-1]) if error['loc'] else '', given)}"
    return message


def _near(given: str, words: Sequence[str]) -> str:
    """The nearest alone: the words themselves are named already."""
    found = nearest(given, words)
    return found if "did you mean" in found else ""


def _keys_at(model: Any, place: Place) -> list[str]:
    """What may stand there; nothing if it is no mapping of ours."""
    if not place:
        is_ours = isinstance(model, type) and issubclass(model, pydantic.BaseModel)
        # `name` is ours to fill in.
        fields = model.model_fields if is_ours else {}
        return [f.alias or n for n, f in fields.items() if n != "name" or model is not Runbook]  # `name` is the file's
    first, *rest = place
    if isinstance(model, type) and issubclass(model, pydantic.BaseModel):
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        return _keys_at(fields[str(first)].annotation, tuple(rest)) if first in fields else []
    inner = [argument for argument in typing.get_args(model) if argument not in (type(None), Ellipsis)]
    inside = tuple(rest) if isinstance(first, int) or typing.get_origin(model) not in (tuple, list) else place
    return next((keys for one in inner if (keys := _keys_at(one, inside) or _keys_at(one, place))), [])


def _in_units(name: str, given: Any) -> str:
    """`; in seconds: 0.3` for a field of seconds that got "300ms"."""
    found = _DURATION.fullmatch(str(given).strip())
    unit = name.rpartition("_")[2]
    if found is None or unit not in _UNIT_SECONDS:
        return ""
    return f"; in {unit}: {float(found['number']) * _UNIT_SECONDS[found['unit']] / _UNIT_SECONDS[unit]:g}"


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
