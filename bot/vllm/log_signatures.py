"""What is known of the lines that vLLM logs when it fails: which of them a log holds, and what each means.

The catalogue is data (`log_signatures.yaml`). Nothing is concluded from a line that is not there: the two families of
"out of memory" have opposite remedies, so where a log does not tell which one it is, neither is said.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from ruamel.yaml import YAML

from bot.vllm.redaction import redact

CATALOGUE = Path(__file__).with_suffix(".yaml")
_LINE_LIMIT = 400  # vLLM writes its whole configuration into one line


class Family(enum.Enum):
    """What a runbook asks for. Each is a field of probe `pod_logs`."""

    KV_CACHE_TOO_SMALL = "kv_cache_too_small"  # at the start: raise gpu_memory_utilization
    WEIGHTS_TOO_LARGE = "weights_too_large"
    GPU_MEMORY_TAKEN = "gpu_memory_taken"  # by another process
    GPU_OOM_WARMING_UP = "gpu_oom_warming_up"
    GPU_OOM_SERVING = "gpu_oom_serving"  # while it served: lower gpu_memory_utilization
    GPU_FAULTED = "gpu_faulted"
    COMMUNICATION_FAILED = "communication_failed"
    NO_GPU = "no_gpu"
    ARGUMENTS_REFUSED = "arguments_refused"
    MODEL_NOT_AVAILABLE = "model_not_available"
    DISK_FULL = "disk_full"
    INTERRUPTED_WHILE_LOADING = "interrupted_while_loading"
    START_TIMED_OUT = "start_timed_out"
    NUMBERS_BROKEN = "numbers_broken"
    CHAT_TEMPLATE_MISSING = "chat_template_missing"
    ENGINE_STALLED = "engine_stalled"
    WORKER_KILLED = "worker_killed"
    WORKER_DIED = "worker_died"
    ENGINE_DIED = "engine_died"
    BROADCAST_WAITS = "broadcast_waits"


class Phase(enum.Enum):
    LOADING = "loading"
    WARMING_UP = "warming_up"
    SERVING = "serving"


# The same line at three moments of a run, with three remedies.
OUT_OF_MEMORY = (Family.WEIGHTS_TOO_LARGE, Family.GPU_OOM_WARMING_UP, Family.GPU_OOM_SERVING)

# What ends a start, unless it is overcome: starts that try again, or do without, log some of it as well.
BEFORE_SERVING = frozenset(
    {
        Family.KV_CACHE_TOO_SMALL,
        Family.WEIGHTS_TOO_LARGE,
        Family.GPU_MEMORY_TAKEN,
        Family.GPU_OOM_WARMING_UP,
        Family.NO_GPU,
        Family.ARGUMENTS_REFUSED,
        Family.MODEL_NOT_AVAILABLE,
        Family.DISK_FULL,
        Family.INTERRUPTED_WHILE_LOADING,
        Family.START_TIMED_OUT,
    }
)

# With request logging on, anything may stand in a prompt or an answer.
_USERS_WORDS = re.compile(r"Received request \S+|Request \S+ details|Generated response \S+")

# Folded in YAML where it is long: a space in the pattern stands for what a line really has there.
_Pattern = Annotated[re.Pattern[str], BeforeValidator(lambda text: re.compile(str(text).strip()))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Signature(_Strict):
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    family: Family
    pattern: _Pattern
    phase: Phase | None = None
    meaning: str
    remedy: str
    source: str


class Milestone(_Strict):
    id: str
    pattern: _Pattern
    phase: Phase
    title: str  # "loading weights"
    together: bool = False  # only reached once all workers are as far; else one may be, while another fails


class Catalogue(_Strict):
    signatures: tuple[Signature, ...]  # the more specific first
    milestones: tuple[Milestone, ...]  # in the order of a start


@dataclass(frozen=True, slots=True)
class Match:
    signature: Signature
    line: str  # redacted and shortened
    number: int  # of the line, from 0
    told: Mapping[str, str]  # the pattern's named groups
    overcome: Milestone | None = None  # of what ends a start: how far the same run came afterwards


@dataclass(frozen=True, slots=True)
class LogReading:
    """Of one run of one container.

    matches: each signature once, at its first line (what ends a start: after its last milestone); the more specific
    first.
    unclear: families that a line speaks of without telling which one it is.
    """

    matches: tuple[Match, ...]
    reached: Milestone | None  # the last milestone of the start that the log shows
    percent: int | None  # of the weights, while they load
    unclear: tuple[Family, ...] = ()

    @property
    def cause(self) -> Match | None:
        return self.matches[0] if self.matches else None

    def has(self, family: Family) -> bool | None:
        """None: it cannot be told from this log."""
        if any(match.signature.family is family for match in self.matches):
            return True
        return None if family in self.unclear else False


@cache
def catalogue() -> Catalogue:
    return Catalogue.model_validate(YAML(typ="safe", pure=True).load(CATALOGUE.read_text(encoding="utf-8")))


def read(log: str) -> LogReading:
    """`log` may begin in the middle of a run."""
    known = catalogue()
    found: dict[str, tuple[Match, int]] = {}  # and how far the start had come
    start = _Start()
    unclear: list[Family] = []
    for number, line in enumerate(log.splitlines()):
        if _USERS_WORDS.search(line):
            continue
        start.see(line)
        reached = start.reached
        for signature in known.signatures:
            if signature.id in found and (
                signature.family not in BEFORE_SERVING or found[signature.id][1] == start.order
            ):
                continue
            if (match := signature.pattern.search(line)) is None:
                continue
            if signature.phase is not None and reached is None:
                unclear.append(signature.family)
            elif signature.phase is None or (reached is not None and signature.phase is reached.phase):
                told = {name: text for name, text in match.groupdict().items() if text}
                one = Match(signature, shortened(line, signature.pattern), number, told)
                found[signature.id] = one, start.order
    ranked = tuple(_judged(*found[s.id], start) for s in known.signatures if s.id in found)
    return LogReading(ranked, start.reached, start.percent, tuple(dict.fromkeys(unclear)))


def _judged(match: Match, order: int, start: "_Start") -> Match:
    if match.signature.family not in BEFORE_SERVING or start.order <= order:
        return match
    return replace(match, overcome=start.reached)


class _Start:
    """How far it has come. It only goes on: of several workers one is always behind."""

    def __init__(self) -> None:
        self.reached: Milestone | None = None
        self.percent: int | None = None
        self.order = -1

    def see(self, line: str) -> None:
        for order, milestone in enumerate(catalogue().milestones):
            if order < self.order or (match := milestone.pattern.search(line)) is None:
                continue
            self.reached, self.order = milestone, order
            self.percent = int(match["percent"]) if "percent" in match.groupdict() else None


def shortened(line: str, matter: re.Pattern[str] | None = None) -> str:
    """Without secrets, and then at most so long; around what matters, if that is still there."""
    told = redact(line.strip())
    match = matter.search(told) if matter is not None and len(told) > _LINE_LIMIT else None
    start = max(0, match.start() - 80) if match is not None else 0
    end = start + _LINE_LIMIT
    return ("…" if start else "") + told[start:end].strip() + ("…" if end < len(told) else "")


def excerpt(log: str, matches: tuple[Match, ...], *, before: int = 2, after: int = 1, limit: int = 24) -> str:
    """The lines that matched with their neighbours; the end of the log where none did."""
    lines = log.splitlines()
    if not matches:
        return "\n".join(shortened(line) for line in lines[-10:])
    wanted = sorted({n for m in matches for n in range(m.number - before, m.number + after + 1) if 0 <= n < len(lines)})
    told: list[str] = []
    last = wanted[0] if wanted else 0
    for number in wanted[:limit]:
        if number > last + 1:
            told.append("…")
        told.append(shortened(lines[number]))
        last = number
    return "\n".join(told)
