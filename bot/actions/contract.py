"""The values that actions and their callers exchange (`actions/__init__.py` has the contract in words)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from bot.fleet import WorkloadRef
from bot.ports import Change, Controls, Risk, Sources


class Progress(enum.Enum):
    YES = "yes"
    NOT_YET = "not yet"
    PARTLY = "partly"  # it stands still short of what was asked (a Pending pod without GPUs)
    NO = "no"  # somebody undid it, or it never landed


@dataclass(frozen=True, slots=True)
class Effect:
    progress: Progress
    detail: str  # "3 of 4 ready; chat-70b-x2k is Pending: Insufficient nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Preview:
    change: Change
    before: Mapping[str, Any]  # what execute, undo and the click-time test need; JSON-able


@dataclass(frozen=True, slots=True)
class CapacityChange:
    """What a change does to the replicas of one workload, while it runs and afterwards."""

    replicas: int  # desired now
    ready: int  # serving now
    lost: int = 0  # ready replicas missing at the worst moment while it runs
    added: int = 0
    removed: int = 0
    replaced: int = 0  # restarted or exchanged, one group after another
    waves: int = 1  # cold starts that follow one another until it is in place
    gpus_needed: int = 0  # free GPUs it takes at once


# Of `params.ref`, or of several workloads where a change touches more than one.
CapacityChanges = CapacityChange | Mapping[WorkloadRef, CapacityChange]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a suggestion is about, as the incident's target resolved it."""

    service: str | None
    workload: WorkloadRef | None
    pod: str | None
    node: str | None


class Action(Protocol):
    """A module of this package, seen as a value."""

    RISK: Risk

    @property
    def Params(self) -> type[BaseModel]: ...
    @property
    def Words(self) -> type[BaseModel]: ...
    def relative(self, with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Any: ...
    def describe(self, params: Any) -> str: ...
    def button(self, params: Any) -> str: ...
    def preview(self, params: Any, sources: Sources, controls: Controls) -> Preview: ...
    def objections(self, params: Any, sources: Sources) -> tuple[str, ...]: ...
    def execute(self, params: Any, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None: ...
    def took_effect(self, params: Any, sources: Sources) -> Effect: ...
    def undo(self, params: Any, before: Mapping[str, Any]) -> Any: ...
    def capacity_change(self, params: Any, sources: Sources) -> CapacityChanges: ...
    def by_hand(self, params: Any) -> str: ...


@runtime_checkable
class Stepwise(Protocol):
    """An action that one `execute` does not finish: it is pushed on, in short steps, until it is in place."""

    def advance(self, params: Any, before: Mapping[str, Any], sources: Sources, controls: Controls) -> Effect: ...
