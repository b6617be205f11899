"""Why a container ended, as its exit code, its reason and the kubelet's events tell it.

An exit code of 0 may be a crash, too: vLLM's process returns cleanly after its engine has died. It does the same when
it is told to end (SIGTERM): where the kubelet told it, an event says so; where somebody else did, only the log tells.
"""

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bot.ports import Container, ContainerState, Event

# The kubelet says which probe made it kill a container; the end follows within the pod's grace period.
_GRACE = timedelta(minutes=15)


class Crash(enum.Enum):
    OOM_KILLED = "out of host memory"
    STARTUP_PROBE = "killed by its startup probe"
    LIVENESS_PROBE = "killed by its liveness probe"
    ENGINE_DIED = "exit code 0, with which vLLM ends when its engine dies, or when it is told to end"
    BAD_ARGUMENTS = "exit code 2: an argument that vLLM does not know"
    FAILED = "exit code 1"
    ABORTED = "exit code 134: aborted, as NCCL does"
    KILLED = "exit code 137: killed, not for memory"
    SEGMENTATION_FAULT = "exit code 139: segmentation fault"
    TERMINATED = "exit code 143: ended on request"
    STOPPED = "ended by Kubernetes, which was asked to"  # a changed definition, a resize, a pod that goes
    NODE_LOST = "its node was lost, or started anew"
    CANNOT_START = "it could not be started"
    OTHER = "ended"


_BY_CODE = {
    0: Crash.ENGINE_DIED,
    1: Crash.FAILED,
    2: Crash.BAD_ARGUMENTS,
    128: Crash.CANNOT_START,
    134: Crash.ABORTED,
    137: Crash.KILLED,
    139: Crash.SEGMENTATION_FAULT,
    143: Crash.TERMINATED,
}
_BY_REASON = {
    # Whatever the code: with one process of several killed, the first ends with 0.
    "OOMKilled": Crash.OOM_KILLED,
    "ContainerStatusUnknown": Crash.NODE_LOST,
    "Unknown": Crash.NODE_LOST,  # found dead when the machine had come back, with 255
    "StartError": Crash.CANNOT_START,
    "ContainerCannotRun": Crash.CANNOT_START,
}


@dataclass(frozen=True, slots=True)
class Ending:
    crash: Crash
    state: ContainerState

    @property
    def lived_seconds(self) -> float | None:
        if self.state.at is None or self.state.started_at is None:
            return None
        return (self.state.at - self.state.started_at).total_seconds()


def endings(container: Container, events: Sequence[Event]) -> tuple[Ending, ...]:
    """Of the last run, and of the present one if it has ended; the latest first. `events` are the pod's."""
    ended = [s for s in (container.state, container.last_state) if s is not None and s.phase == "terminated"]
    return tuple(Ending(_crash(state, events, container.name), state) for state in ended)


def _crash(state: ContainerState, events: Iterable[Event], name: str) -> Crash:
    if state.reason in _BY_REASON:
        return _BY_REASON[state.reason]
    of_container = re.compile(rf"[Cc]ontainer {re.escape(name)}(?![\w.-])")
    for event in events:
        if event.reason == "Killing" and of_container.search(event.message) and _in_run(event, state):
            if "failed startup probe" in event.message:
                return Crash.STARTUP_PROBE
            if "failed liveness probe" in event.message:
                return Crash.LIVENESS_PROBE
            return Crash.STOPPED
    return _BY_CODE.get(state.exit_code if state.exit_code is not None else -1, Crash.OTHER)


def _in_run(event: Event, state: ContainerState) -> bool:
    """Was it the run that ended in `state` which the kubelet killed then?"""
    if event.at is None or state.at is None:
        return True
    early = state.started_at is not None and event.at < state.started_at
    return not early and event.at - timedelta(seconds=5) <= state.at <= event.at + _GRACE
