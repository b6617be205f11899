"""Our values as JSON and back, led by their types: what a dataclass declares is what is stored.

A union of dataclasses is stored with the class's name, since the parts of a Report differ in nothing else. Fields that
a newer version added take their defaults when an older row is read, and fields that are gone are left out.
"""

import enum
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal, Union

from pydantic import BaseModel

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CLASS = "$"  # no field of ours can have this name


def microseconds(at: datetime) -> int:
    """Raises ValueError for a naive time: whose clock was it?"""
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {at}")
    return (at - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    return _EPOCH + value * _MICROSECOND


@dataclass(frozen=True, slots=True)
class Coder:
    encode: Callable[[Any], Any]  # to what json.dumps takes
    decode: Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


AS_IT_IS = Coder(same, same)


@cache
def coder(hint: Any) -> Coder:
    """Raises TypeError for a type that cannot be stored: when the tables are declared, not at 2 AM."""
    if hint is Any:
        return Coder(_encode_any, _decode_any)
    if hint is float:
        return Coder(_encode_float, _decode_float)
    if hint in (str, int, bool, type(None)):
        return AS_IT_IS
    if hint is datetime:
        return Coder(microseconds, moment)
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return _class_coder(hint)
    return _generic_coder(hint)


def _class_coder(hint: type[Any]) -> Coder:
    if issubclass(hint, enum.Enum):
        return Coder(lambda value: value.value, hint)
    if issubclass(hint, BaseModel):
        return Coder(lambda value: value.model_dump(mode="json", by_alias=True), hint.model_validate)
    if is_dataclass(hint):
        return _dataclass_coder(hint)
    raise TypeError(f"no way to store a {hint.__name__}")


def _generic_coder(hint: Any) -> Coder:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _union_coder(arguments)
    if origin is Literal:
        return AS_IT_IS
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        item = coder(arguments[0])
        return Coder(lambda v: [item.encode(i) for i in v], lambda v: tuple(item.decode(i) for i in v))
    if origin is tuple:
        items = [coder(a) for a in arguments]
        return Coder(
            lambda v: [c.encode(i) for c, i in zip(items, v, strict=True)],
            lambda v: tuple(c.decode(i) for c, i in zip(items, v, strict=True)),
        )
    if origin is Mapping and arguments[0] is str:
        value = coder(arguments[1])
        if value == AS_IT_IS:
            return Coder(dict, same)
        return Coder(
            lambda v: {k: value.encode(i) for k, i in v.items()},
            lambda v: {k: value.decode(i) for k, i in v.items()},
        )
    raise TypeError(f"no way to store a {hint}")


def _dataclass_coder(cls: type[Any]) -> Coder:
    hints = typing.get_type_hints(cls)
    coders = {f.name: coder(hints[f.name]) for f in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}

    def encode(value: Any) -> Mapping[str, Any]:
        return {name: c.encode(getattr(value, name)) for name, c in coders.items()}

    def decode(stored: Mapping[str, Any]) -> Any:
        if lacking := required - stored.keys():
            raise ValueError(f"a stored {cls.__name__} lacks {', '.join(sorted(lacking))}")
        return cls(**{name: c.decode(stored[name]) for name, c in coders.items() if name in stored})

    return Coder(encode, decode)


def _union_coder(arguments: Sequence[Any]) -> Coder:
    rest = [a for a in arguments if a is not type(None)]
    if len(rest) == 1:
        return _optional(coder(rest[0]))
    if all(isinstance(a, type) and is_dataclass(a) for a in rest):
        return _tagged({a.__name__: coder(a) for a in rest})
    if set(rest) <= {str, int, float, bool}:
        return Coder(_encode_any, _decode_any)
    raise TypeError(f"no way to tell the members of {' | '.join(map(str, rest))} apart in JSON")


def _optional(one: Coder) -> Coder:
    if one == AS_IT_IS:
        return one
    return Coder(
        lambda value: None if value is None else one.encode(value),
        lambda value: None if value is None else one.decode(value),
    )


def _tagged(members: Mapping[str, Coder]) -> Coder:
    def encode(value: Any) -> Any:
        if value is None:
            return None
        name = type(value).__name__
        return {_CLASS: name, **members[name].encode(value)}

    def decode(stored: Any) -> Any:
        return None if stored is None else members[stored[_CLASS]].decode(stored)

    return Coder(encode, decode)


def _encode_float(value: float) -> Any:
    # JSON knows neither NaN nor infinity; an idle quantile is one of them.
    return value if math.isfinite(value) else {_CLASS: str(float(value))}


def _decode_float(stored: Any) -> float:
    return float(stored[_CLASS]) if isinstance(stored, Mapping) else float(stored)


def _encode_any(value: Any) -> Any:
    """What was JSON-like already. Raises TypeError for the rest: it would not come back as it went."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return _encode_float(value)
    if isinstance(value, Mapping):
        encoded = {_key(k): _encode_any(v) for k, v in value.items()}
        # Foreign keys may be anything: one that looks like ours is wrapped.
        return {_CLASS: [encoded[_CLASS]]} if encoded.keys() == {_CLASS} else encoded
    if isinstance(value, list | tuple):
        return [_encode_any(v) for v in value]
    raise TypeError(f"not JSON-like, so it cannot be stored: {type(value).__name__} {value!r}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys in stored JSON are text, not {type(key).__name__} {key!r}")
    return key


def _decode_any(stored: Any) -> Any:
    if isinstance(stored, dict):
        if stored.keys() == {_CLASS}:
            own = stored[_CLASS]
            return {_CLASS: _decode_any(own[0])} if isinstance(own, list) else float(own)
        return {k: _decode_any(v) for k, v in stored.items()}
    if isinstance(stored, list):
        return [_decode_any(v) for v in stored]
    return stored
