"""The word in the YAML is the file's name: probes are found by looking into this folder."""

import dataclasses
import functools
import importlib
import pkgutil
from typing import Any, Protocol

from pydantic import BaseModel

import bot.probes
from bot.ports import Sources


class Probe(Protocol):
    """A module of this package, seen as a value."""

    @property
    def Params(self) -> type[BaseModel]: ...
    @property
    def Reading(self) -> type[Any]: ...
    def observe(self, params: Any, sources: Sources) -> Any: ...


@functools.cache
def probe_names() -> tuple[str, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(bot.probes.__path__))
    return tuple(name for name in names if hasattr(_module(name), "observe"))


def probe(name: str) -> Probe:
    """Raises LookupError."""
    if name not in probe_names():
        raise LookupError(f"no probe {name}")
    return _module(name)


def fields_of(name: str) -> dict[str, Any]:
    """The reading's fields: name to type."""
    return {field.name: field.type for field in dataclasses.fields(probe(name).Reading)}


def _module(name: str) -> Probe:
    module: Any = importlib.import_module(f"bot.probes.{name}")
    found: Probe = module
    return found
