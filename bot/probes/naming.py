"""How several pods or nodes are named in one reading: the first of them, and how many more."""

from collections.abc import Iterable

_NAMED = 3


def names(found: Iterable[str]) -> str | None:
    """`chat-1, chat-2, chat-3 and 2 more`; None for nobody."""
    every = sorted(set(found))
    if not every:
        return None
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def first(found: Iterable[str]) -> str | None:
    """The one that an action takes; the same from round to round."""
    return min(found, default=None)
