"""From the word in a runbook, or after `/vllm propose`, to the action: the word is the file's name."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from pydantic import BaseModel

from bot import actions
from bot.actions.contract import Action


@dataclass(frozen=True, slots=True)
class WayBack:
    """The change that takes another one back."""

    action: str
    params: BaseModel


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


def way_back(name: str, params: BaseModel, before: Mapping[str, Any]) -> WayBack | None:
    """None: there is none."""
    action = find(name)
    back = action.undo(params, before)
    return None if back is None else WayBack(getattr(action, "UNDO", name), back)
