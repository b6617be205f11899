"""Listens to all GPU agents at once, on the leader: an Xid is handed on within moments of the driver's word."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from bot.gpu_readings import EventPage, GpuEvent
from bot.ports import SourceError

_log = structlog.get_logger(__name__)

_WAIT_SECONDS = 25.0
_PAUSE_SECONDS = 2.0
# An agent that is back may have an Xid to tell: whoever waits half a minute for it is late.
_LONGEST_PAUSE_SECONDS = 8.0


class Agents(Protocol):
    def nodes(self) -> tuple[str, ...]: ...
    def events(self, node: str, *, after: int = 0, ring: str | None = None, wait_seconds: float = 0) -> EventPage: ...


class GpuWatch:
    """Calls `on_event(node, event)` for each new event, from a thread for each node.

    What happened before it started, or while the agent was away (the kernel's log has it), is handed on, too, if it is
    younger than `newest`: whoever takes it must know an event by its id. An event whose hand-over raises is handed
    over again.
    """

    def __init__(
        self,
        agents: Agents,
        on_event: Callable[[str, GpuEvent], None],
        *,
        newest: timedelta = timedelta(minutes=15),
        refresh_seconds: float = 30.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._agents = agents
        self._on_event = on_event
        self._newest = newest
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._listeners: dict[str, _Listener] = {}
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="gpu-watch")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Nothing is handed on after it; threads that wait for an agent end when it answers."""
        self._stopping.set()
        for listener in list(self._listeners.values()):
            listener.stop()

    @property
    def listening(self) -> tuple[str, ...]:
        return tuple(sorted(self._listeners))

    def heard(self) -> Mapping[str, bool]:
        """Node -> would an Xid there be told at once?"""
        return {node: one.ever_heard and one.problem is None for node, one in sorted(self._listeners.items())}

    @property
    def silent(self) -> Mapping[str, str]:
        """Node -> why its agent is not heard; "" stands for all nodes."""
        unheard = {node: one.problem for node, one in sorted(self._listeners.items()) if one.problem is not None}
        return {"": self._problem, **unheard} if self._problem is not None else unheard

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow(self._agents.nodes())
                self._problem = None
            except SourceError as error:
                self._problem = str(error)
            except Exception as error:  # the top of the thread
                self._problem = f"the GPU agents could not be found: {error}"
                _log.exception("the GPU agents could not be found")
            self._stopping.wait(self._refresh_seconds)

    def _follow(self, nodes: tuple[str, ...]) -> None:
        for gone in set(self._listeners) - set(nodes):
            self._listeners.pop(gone).stop()
        for node in nodes:
            if node not in self._listeners and not self._stopping.is_set():
                self._listeners[node] = _Listener(
                    node, self._agents, self._on_event, self._newest, self._clock, self._stopping
                )


class _Listener:
    def __init__(
        self,
        node: str,
        agents: Agents,
        on_event: Callable[[str, GpuEvent], None],
        newest: timedelta,
        clock: Callable[[], datetime],
        all_stopping: threading.Event,
    ) -> None:
        """`all_stopping`: the watch ends, perhaps while this one is being made."""
        self._node = node
        self._agents = agents
        self._on_event = on_event
        self._newest = newest
        self._clock = clock
        self._all_stopping = all_stopping
        self._stopping = threading.Event()
        self._ring: str | None = None
        self._after = 0
        self.problem: str | None = None
        self.ever_heard = False
        threading.Thread(target=self._run, daemon=True, name=f"gpu-watch-{node}").start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        pause = _PAUSE_SECONDS
        while not self._ends():
            try:
                self._listen()
            except SourceError as error:
                self.problem = str(error)
            except Exception as error:  # the top of the thread: what is not taken now is handed over once more
                self.problem = f"what it told could not be handed on: {error}"
                _log.exception("a GPU event could not be handed on", node=self._node)
            else:
                self.problem, pause = None, _PAUSE_SECONDS
                continue
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        page = self._agents.events(self._node, after=self._after, ring=self._ring, wait_seconds=self._wait_seconds())
        self.ever_heard = True
        if page.ring != self._ring:
            first, self._ring, self._after = self._ring is None, page.ring, 0
            if not first:
                return  # its numbers mean something else than those we asked about: once more, from the beginning
        for event in page.events:
            if self._ends():
                return
            if self._clock() - event.last_at <= self._newest:
                self._on_event(self._node, event)
            self._after = event.seq
        self._after = max(self._after, page.last_seq)

    def _ends(self) -> bool:
        return self._stopping.is_set() or self._all_stopping.is_set()

    def _wait_seconds(self) -> float:
        # The first answer comes at once, and so does the first after a silence: it shows that the agent is there.
        return _WAIT_SECONDS if self._ring is not None and self.problem is None else 0
