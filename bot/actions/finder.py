"""From the word in a runbook, or after `/vllm propose`, to the action: the word is the file's name."""

import difflib
import importlib
import pkgutil
from functools import cache
from typing import cast

from bot import actions
from bot.actions.contract import Action


class UnknownActionError(LookupError):
    """There is no such file. The message names the nearest one."""


@cache
def names() -> tuple[str, ...]:
    """Every action there is. What several actions share is no action: it lacks the contract's `RISK`."""
    found = (module.name for module in pkgutil.iter_modules(actions.__path__))
    return tuple(sorted(n for n in found if hasattr(importlib.import_module(f"{actions.__name__}.{n}"), "RISK")))


def find(name: str) -> Action:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        guess = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names())}"
        raise UnknownActionError(f"there is no action {name!r}; {guess}")
    return cast(Action, importlib.import_module(f"{actions.__name__}.{name}"))
