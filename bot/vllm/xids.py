"""What an Xid means, and what several on one GPU mean together. The knowledge itself is data: `xids.yaml`."""

import enum
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

_FILE = Path(__file__).with_name("xids.yaml")
_NEW_ACTION = re.compile(r"recovery action changed from .* to 0x(?P<code>[0-9a-f]+)", re.IGNORECASE)


class XidClass(enum.Enum):
    """In rising order of what it costs to put right. UNKNOWN stands above what is known to be harmless."""

    WATCH = "watch"
    UNKNOWN = "unknown"
    APPLICATION = "application"
    COMPANIONS = "companions"
    RESET = "reset"
    REBOOT = "reboot"
    RMA = "rma"

    @property
    def rank(self) -> int:
        return list(XidClass).index(self)

    @property
    def hardware(self) -> bool:
        """The GPU itself must be seen to before it can be trusted again."""
        return self in (XidClass.RESET, XidClass.REBOOT, XidClass.RMA)


_DO = {
    XidClass.WATCH: "Nothing to do now.",
    XidClass.UNKNOWN: "It stands in no catalogue the bot knows. Read the kernel's log; follow the recovery action.",
    XidClass.APPLICATION: "Restart the pod; the GPU is usable.",
    XidClass.COMPANIONS: "Read the other Xids of this GPU and its recovery action.",
    XidClass.RESET: "Drain the GPU, then reset it.",
    XidClass.REBOOT: "Drain the node, then reboot it.",
    XidClass.RMA: "Ask for a replacement.",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Row(_Strict):
    xids: Annotated[tuple[int, ...], Field(min_length=1)]
    name: str
    class_: Annotated[XidClass, Field(alias="class")]
    do: str | None = None
    nvidia: str
    source: str
    disagreement: str | None = None


class _Action(_Strict):
    action: str
    code: int
    says: str  # the driver's own words in Xid 154
    class_: Annotated[XidClass, Field(alias="class")]
    do: str


class _Catalogue(_Strict):
    xids: tuple[_Row, ...]
    recovery: tuple[_Action, ...]

    @model_validator(mode="after")
    def _each_once(self) -> "_Catalogue":
        numbers = [number for row in self.xids for number in row.xids]
        if twice := sorted({n for n in numbers if numbers.count(n) > 1}):
            raise ValueError(f"Xids that stand there twice: {twice}")
        return self


@dataclass(frozen=True, slots=True)
class Xid:
    number: int
    name: str
    class_: XidClass
    do: str
    nvidia: str  # "" if its catalogue names no action
    source: str
    disagreement: str | None


@dataclass(frozen=True, slots=True)
class RecoveryAction:
    """In the file's order, which is that of what they cost."""

    name: str
    code: int
    rank: int
    class_: XidClass
    do: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One Xid on one GPU; `message` is the driver's text after the number, if the kernel's log was read."""

    number: int
    message: str | None = None
    rebooted_since: bool = False  # the node has been started anew, so that the GPU was reset


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the Xids of one GPU mean together. `number` is the one that decides."""

    number: int
    class_: XidClass
    do: str
    because: str


@functools.cache
def catalogue() -> Mapping[int, Xid]:
    return {
        number: Xid(number, row.name, row.class_, row.do or _DO[row.class_], row.nvidia, row.source, row.disagreement)
        for row in _read().xids
        for number in row.xids
    }


@functools.cache
def recovery_actions() -> Mapping[str, RecoveryAction]:
    """By name, as the agent tells it: "none", "gpu_reset" …"""
    return {
        row.action: RecoveryAction(row.action, row.code, rank, row.class_, row.do)
        for rank, row in enumerate(_read().recovery)
    }


def xid(number: int) -> Xid:
    """An Xid that is in no catalogue is of class UNKNOWN."""
    unknown = Xid(number, "not in NVIDIA's catalogue", XidClass.UNKNOWN, _DO[XidClass.UNKNOWN], "", "", None)
    return catalogue().get(number, unknown)


def recovery_action(code: int) -> str:
    """The name of NVML's number. One that a newer driver added keeps its number: it must not read as "none"."""
    return next((a.name for a in recovery_actions().values() if a.code == code), f"unknown_{code}")


def resolve(seen: Sequence[Seen], *, recovery: str | None = None) -> Resolution | None:
    """`seen` on one GPU, oldest first; `recovery` is what its recovery action says now. None: nothing was seen."""
    if not seen:
        return None
    # What only a replacement mends outlives a reboot. A GPU that is still ill says so anew.
    past, seen = seen, [one for one in seen if not one.rebooted_since or xid(one.number).class_ is XidClass.RMA]
    if not seen:
        return Resolution(past[-1].number, XidClass.WATCH, _DO[XidClass.WATCH], "the node has been started anew since")
    asked = [(place, code) for place, one in enumerate(seen) if (code := _new_action(one)) is not None]
    if asked and asked[-1][1] != 0:
        return _asked_for(asked[-1][1])
    if asked:
        seen = seen[asked[-1][0] + 1 :]
    if not seen:
        return Resolution(154, XidClass.WATCH, _DO[XidClass.WATCH], "the driver asks for no recovery any more")
    numbers = [one.number for one in seen]
    judged = [_judged(one, numbers, recovery) for one in seen]
    return max(reversed(judged), key=lambda one: one.class_.rank)  # of equals the newest


def _new_action(one: Seen) -> int | None:
    """What Xid 154 says that the driver asks for now; that overrides the catalogue."""
    match = _NEW_ACTION.search(one.message or "") if one.number == 154 else None
    return int(match["code"], 16) if match else None


def _asked_for(code: int) -> Resolution:
    action = recovery_actions().get(recovery_action(code))
    if action is None:
        do = "The driver asks for a recovery that the bot does not know. Read the kernel's log."
        return Resolution(154, XidClass.RESET, do, f"the driver asks for recovery action {code}")
    return Resolution(154, action.class_, action.do, f"the driver asks for {action.name.replace('_', ' ')}")


def _judged(one: Seen, numbers: Sequence[int], recovery: str | None) -> Resolution:
    known = xid(one.number)
    if one.number == 48:
        return _double_bit_error(numbers, recovery)
    if one.number == 45:
        others = [n for n in numbers if n not in (43, 45)]
        because = f"it follows Xid {others[-1]}" if others else "no other Xid is beside it: a program was ended"
        return Resolution(45, XidClass.WATCH if others else XidClass.APPLICATION, known.do, because)
    if 144 <= one.number <= 150:
        return _nvlink5(one, known)
    return Resolution(one.number, known.class_, known.do, known.name)


def _double_bit_error(numbers: Sequence[int], recovery: str | None) -> Resolution:
    beside = [n for n in (63, 64, 94, 95) if n in numbers]
    if 94 in beside and 95 not in beside and 64 not in beside and recovery == "none":
        because = "it was contained (Xid 94), and the driver asks for no recovery"
        return Resolution(48, XidClass.APPLICATION, xid(94).do, because)
    with_ = f"with Xid {' and '.join(map(str, beside))}" if beside else "with no other memory Xid beside it"
    return Resolution(48, XidClass.RESET, xid(48).do, with_)


def _nvlink5(one: Seen, known: Xid) -> Resolution:
    words = (one.message or "").split()
    if "Fatal" in words:
        return Resolution(one.number, XidClass.RESET, known.do, "the driver calls it fatal")
    if "Nonfatal" in words:
        return Resolution(one.number, XidClass.WATCH, known.do, "the driver calls it nonfatal")
    return Resolution(one.number, XidClass.COMPANIONS, known.do, "the driver's line was not read")


@functools.cache
def _read() -> _Catalogue:
    return _Catalogue.model_validate(YAML(typ="safe").load(_FILE))
