"""A stretch of the past as moments to look at, and what was seen at them as stretches again. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stretch(Generic[T]):
    """From the first look that saw `what` to the last one in a row. Between two looks nobody looked."""

    start: datetime
    end: datetime
    what: T
    looks: int


def moments(start: datetime, end: datetime, every: timedelta) -> Iterator[datetime]:
    """`end` is the last one, whether or not the steps meet it."""
    at = start
    while at < end:
        yield at
        at += every
    yield end


def stretches(seen: Iterable[tuple[datetime, T]]) -> tuple[Stretch[T], ...]:
    """`seen` in the order of time."""
    found: list[Stretch[T]] = []
    for at, what in seen:
        last = found[-1] if found else None
        if last is not None and last.what == what:
            found[-1] = Stretch(last.start, at, what, last.looks + 1)
        else:
            found.append(Stretch(at, at, what, 1))
    return tuple(found)


def of(what: T, found: Sequence[Stretch[T]]) -> tuple[Stretch[T], ...]:
    return tuple(one for one in found if one.what == what)
