"""One line of a rule's `when`: a CEL expression over readings, which may come out true, false, or not known.

CEL itself keeps an unknown to its part of the expression: `a || b` is true if b is, whatever may be known of a.
"""

import difflib
import itertools
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

# The package brings its own command line, and that a terminal library: 150 ms at every start, and 7 MiB.
sys.modules.setdefault("cel.cli", types.ModuleType("cel.cli"))
import cel  # noqa: E402

LENGTH_LIMIT = 400
# Each level multiplies the work: five levels of ten elements took 0.4 s.
MACRO_DEPTH_LIMIT = 2

Kind = Literal["number", "bool", "text", "list"]
Readings = Mapping[str, Mapping[str, Any]]

_MACROS = {"all", "exists", "exists_one", "map", "filter"}
_FUNCTIONS = {"size", "contains", "startsWith", "endsWith", "matches", "double", "string", "has", *_MACROS}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_WORDS = {"true", "false", "null", "in"}
_TOKEN = re.compile(
    r"""(?P<text>[rR]?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))
      | (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?P<unsigned>[uU])?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>&&|\|\||[=!<>]=|[^\s\w])""",
    re.VERBOSE,
)


class ConditionError(ValueError):
    """The expression cannot be used. The text says why, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Reference:
    step: str
    field: str

    def __str__(self) -> str:
        return f"{self.step}.{self.field}"


@dataclass(frozen=True, slots=True)
class Truth:
    """value None: not known, and `unknown` are the readings that lack."""

    value: bool | None
    unknown: tuple[Reference, ...] = ()
    error: str | None = None  # it could not be evaluated for another reason


@dataclass(frozen=True, slots=True)
class Condition:
    source: str
    references: tuple[Reference, ...]
    divisors: tuple[Reference, ...]
    program: Any  # cel.Program

    def truth(self, readings: Readings) -> Truth:
        """A step without readings, and a field that is None, are unknown."""
        return _run(self, {step: _known(fields) for step, fields in readings.items()})


def compiled(source: str) -> Condition:
    """Raises ConditionError. Names are checked by `mistakes`, which knows the steps."""
    if len(source) > LENGTH_LIMIT:
        raise ConditionError(f"is {len(source)} characters long; {LENGTH_LIMIT} are allowed: make two lines of it")
    tokens = list(_tokens(source))
    if _macro_depth(tokens) > MACRO_DEPTH_LIMIT:
        raise ConditionError(f"nests more than {MACRO_DEPTH_LIMIT} of {', '.join(sorted(_MACROS))}")
    try:
        # All numbers of readings are doubles, and CEL does not mix them with whole numbers in arithmetic.
        program = cel.compile(_with_doubles(source, tokens))
    except ValueError as error:
        raise ConditionError(f"is not valid CEL{_meant(tokens) or ': ' + _first_line(error)}") from error
    return Condition(source, _references(tokens), tuple(_divisors(tokens)), program)


def mistakes(condition: Condition, steps: Mapping[str, Mapping[str, Kind]]) -> tuple[str, ...]:
    """What is wrong with it, given each step's fields and what kind they are. In words, with the nearest name."""
    tokens = list(_tokens(condition.source))
    found = [*_unknown_names(condition, tokens, steps), *_unknown_functions(tokens), *_wrong_divisors(tokens)]
    found = found or [*_wrong_literals(tokens, steps), *_wrong_units(tokens, steps)]
    return tuple(found or _tried(condition, steps))


def nearest(word: str, among: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or the whole list if it is short, or nothing."""
    close = difflib.get_close_matches(word, among, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there is {', '.join(sorted(among))}" if 0 < len(among) <= 12 else ""


# ---------------------------------------------------------------------------------------------- evaluation


def _run(condition: Condition, known: Mapping[str, Mapping[str, Any]]) -> Truth:
    # A step that is not there at all would be an undefined name; empty, its fields are what lacks.
    names = {reference.step for reference in condition.references}
    context = {**{name: {} for name in names}, **known}
    lacking = tuple(r for r in condition.references if r.field not in context[r.step])
    # CEL's doubles divide by zero to infinity, which is above every threshold.
    zeros = [str(r) for r in condition.divisors if context[r.step].get(r.field) == 0]
    if zeros:
        return Truth(None, (), f"`{condition.source}` divides by {' and '.join(zeros)}, which is 0")
    try:
        result = condition.program.execute(context)
    except KeyError:
        return Truth(None, lacking)
    except (ValueError, RuntimeError, TypeError) as error:
        return Truth(None, lacking, f"`{condition.source}` could not be evaluated: {_first_line(error)}")
    if not isinstance(result, bool):
        return Truth(None, (), f"`{condition.source}` gives {result!r}, not true or false")
    return Truth(result)


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None: `x == false` must not be false because x is not known."""
    return {name: _value(value) for name, value in fields.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        return list(value) if isinstance(value, tuple) else value
    return float(value)


# ---------------------------------------------------------------------------------------------- reading the text


def _tokens(source: str) -> Iterator[re.Match[str]]:
    return _TOKEN.finditer(source)


def _with_doubles(source: str, tokens: Sequence[re.Match[str]]) -> str:
    parts, end = [], 0
    for token in tokens:
        text = token["number"]
        if text is not None and token["unsigned"] is None and text.isdecimal():
            parts += [source[end : token.start()], f"{text}.0"]
            end = token.end()
    return "".join([*parts, source[end:]])


def _macro_depth(tokens: Sequence[re.Match[str]]) -> int:
    """How many macros stand within one another."""
    open_brackets: list[bool] = []
    deepest = 0
    before = ""
    for token in tokens:
        if token[0] == "(":
            open_brackets.append(before in _MACROS)
            deepest = max(deepest, sum(open_brackets))
        elif token[0] == ")" and open_brackets:
            open_brackets.pop()
        before = token[0]
    return deepest


_MEANT = {"and": "&&", "or": "||", "not": "!", "=": "==", "<>": "!=", "is": "=="}


def _meant(tokens: Sequence[re.Match[str]]) -> str:
    """What people write from other languages; nothing if it is not that."""
    for token, following in itertools.pairwise(tokens):
        if token["number"] is not None and following["name"] is not None and token.end() == following.start():
            return (
                f": {token[0]}{following[0]} has a unit; the reading's name says which (…_seconds), so write the number"
            )
        if token["number"] is not None and following[0] == "%":
            return f": {token[0]}% is {float(token[0]) / 100:g} of a …_ratio"
    words = [f"{_MEANT[token[0]]} for {token[0]}" for token in tokens if token[0] in _MEANT]
    return f": write {', '.join(dict.fromkeys(words))}" if words else ""


def _names(tokens: Sequence[re.Match[str]]) -> Iterator[tuple[str, str | None, str]]:
    """(name, the field after its dot if there is one, what comes next) of every name that starts a chain."""
    texts = [token[0] for token in tokens] + ["", "", ""]
    for index, token in enumerate(tokens):
        if token["name"] is None or (index and texts[index - 1] == "."):
            continue
        dotted = texts[index + 1] == "."
        yield token[0], texts[index + 2] if dotted else None, texts[index + 3] if dotted else texts[index + 1]


def _bound(tokens: Sequence[re.Match[str]]) -> set[str]:
    """Names that a macro gives to the elements: the `p` of `pods.exists(p, …)`."""
    texts = [token[0] for token in tokens]
    return {texts[i + 2] for i, text in enumerate(texts[:-2]) if text in _MACROS and texts[i + 1] == "("}


def _references(tokens: Sequence[re.Match[str]]) -> tuple[Reference, ...]:
    bound = _bound(tokens)
    found = [
        Reference(name, field)
        for name, field, following in _names(tokens)
        if field is not None and following != "(" and name not in bound and name not in _WORDS
    ]
    return tuple(dict.fromkeys(found))


def _divisors(tokens: Sequence[re.Match[str]]) -> Iterator[Reference]:
    texts = [token[0] for token in tokens] + ["", "", ""]
    for index, text in enumerate(texts):
        if text == "/" and texts[index + 2] == ".":
            yield Reference(texts[index + 1], texts[index + 3])


# ---------------------------------------------------------------------------------------------- what is wrong


def _unknown_names(
    condition: Condition, tokens: Sequence[re.Match[str]], steps: Mapping[str, Mapping[str, Kind]]
) -> Iterator[str]:
    bound = _bound(tokens)
    for name, field, following in _names(tokens):
        if name in bound or name in _WORDS or (following == "(" and field is None):
            continue
        if name not in steps:
            yield f"no step '{name}'{nearest(name, list(steps))}"
        elif following == "[":
            continue  # said by _unknown_functions
        elif field is None or following == "(":
            yield f"'{name}' is a step: name one of its readings, {name}.…{nearest('', list(steps[name]))}"
        elif field not in steps[name]:
            yield f"no reading '{name}.{field}'{_nearest_field(name, field, steps)}"


def _nearest_field(step: str, field: str, steps: Mapping[str, Mapping[str, Kind]]) -> str:
    close = difflib.get_close_matches(field, list(steps[step]), n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{step}.{close[0]}'?"
    elsewhere = [other for other, fields in steps.items() if field in fields]
    if elsewhere:
        return f"; did you mean '{elsewhere[0]}.{field}'?"
    return f"; it has {', '.join(sorted(steps[step]))}"


def _unknown_functions(tokens: Sequence[re.Match[str]]) -> Iterator[str]:
    for token, following in itertools.pairwise(tokens):
        if token["name"] is not None and following[0] == "(" and token[0] not in _FUNCTIONS | _WORDS:
            yield f"no function '{token[0]}'{nearest(token[0], sorted(_FUNCTIONS))}"
        if token["name"] is not None and following[0] == "[" and token[0] != "in":
            yield f"write {token[0]}.field, not {token[0]}[…]"


def _wrong_divisors(tokens: Sequence[re.Match[str]]) -> Iterator[str]:
    for token, following in itertools.pairwise(tokens):
        number = following["number"]
        if token[0] == "/" and following["name"] is None and (number is None or not float(number.rstrip("uU"))):
            yield "divides by something that may be zero unseen; divide by a reading, or a number"


def _wrong_literals(tokens: Sequence[re.Match[str]], steps: Mapping[str, Mapping[str, Kind]]) -> Iterator[str]:
    """`==` between different kinds is no error in CEL, only never true."""
    for index, token in enumerate(tokens):
        if token[0] not in _COMPARISONS:
            continue
        before, after = tokens[max(0, index - 3) : index], tokens[index + 1 : index + 4]
        for chain, literal in ((before, after[:1]), (after, before[-1:])):
            kind = _kind_of_chain(chain, steps)
            other = _kind_of_literal(literal[0]) if literal else None
            if kind is not None and other is not None and kind != other:
                name = "".join(t[0] for t in chain)
                never = "never equal" if token[0] in ("==", "!=") else "never more or less"
                yield f"{name} is a {kind}, and {literal[0][0]} is a {other}: that is {never}"


def _wrong_units(tokens: Sequence[re.Match[str]], steps: Mapping[str, Mapping[str, Kind]]) -> Iterator[str]:
    """A share of a whole is between 0 and 1, and nothing is ten times what it is compared with for long."""
    for index, token in enumerate(tokens):
        if token[0] not in _COMPARISONS:
            continue
        before, after = tokens[max(0, index - 3) : index], tokens[index + 1 : index + 4]
        for chain, literal in ((before, after[:1]), (after, before[-1:])):
            is_number = _kind_of_chain(chain, steps) == "number" and literal and literal[0]["number"] is not None
            if is_number and "ratio" in chain[2][0].split("_") and float(literal[0][0].rstrip("uU")) >= 10:
                number, name = literal[0][0].rstrip("uU"), f"{chain[0][0]}.{chain[2][0]}"
                yield f"{name} is a ratio: {number} % is {float(number) / 100:g}"


def _kind_of_chain(chain: Sequence[re.Match[str]], steps: Mapping[str, Mapping[str, Kind]]) -> Kind | None:
    if len(chain) != 3 or chain[1][0] != ".":
        return None
    return steps.get(chain[0][0], {}).get(chain[2][0])


def _kind_of_literal(token: re.Match[str]) -> Kind | None:
    if token["text"] is not None:
        return "text"
    if token["number"] is not None:
        return "number"
    return "bool" if token[0] in ("true", "false") else None


# Tried with, so that both sides of every `&&` and `||` are reached.
_SAMPLES: Mapping[Kind, tuple[Any, ...]] = {
    "number": (1e9, -1e9, 1.0),
    "bool": (True, False),
    "text": ("x", ""),
    "list": (["x"], []),
}


def _tried(condition: Condition, steps: Mapping[str, Mapping[str, Kind]]) -> Iterator[str]:
    # Only what it may speak of: handing CEL every field of every step made the check most of the bot's start.
    source = condition.source
    spoken = {
        step: {name: kind for name, kind in fields.items() if name in source}
        for step, fields in steps.items()
        if step in source
    }
    kinds: list[Kind] = sorted({kind for fields in spoken.values() for kind in fields.values()})
    for values in itertools.product(*(_SAMPLES[kind] for kind in kinds)):
        sample = dict(zip(kinds, values, strict=True))
        context = {step: {name: sample[kind] for name, kind in fields.items()} for step, fields in spoken.items()}
        try:
            result = condition.program.execute(context)
        except TypeError as error:
            yield f"mixes kinds that do not go together: {_first_line(error)}"
            return
        except (ValueError, RuntimeError, KeyError) as error:
            yield f"cannot be evaluated: {_first_line(error)}"
            return
        if not isinstance(result, bool):
            yield "gives a value that is neither true nor false; compare it with something"
            return


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split("\n|")[0].split())
    return text.partition(". Convert explicitly")[0].partition(": ERROR:")[2].strip() or text.partition(". CEL does")[0]
