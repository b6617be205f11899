import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bot.gpu_readings import EventPage, GpuEvent
from bot.outbound import gpu_watch
from bot.outbound.gpu_watch import GpuWatch
from bot.ports import SourceError

NOW = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)


def event(seq: int, *, xid: int = 31, age: timedelta = timedelta(0), live: bool = True, ring: str = "r") -> GpuEvent:
    return GpuEvent(f"{ring}-{seq}", seq, NOW - age, NOW - age, xid=xid, live=live)


class Agents:
    """Agents whose events a test adds."""

    def __init__(self, *nodes: str) -> None:
        self.changed = threading.Condition()
        self.events_of: dict[str, list[GpuEvent]] = {node: [] for node in nodes}
        self.ring = "r"
        self.down: dict[str, SourceError] = {}
        self.asked: list[tuple[str, int, float]] = []

    def add(self, node: str, *events: GpuEvent) -> None:
        with self.changed:
            self.events_of[node] += events
            self.changed.notify_all()

    def nodes(self) -> tuple[str, ...]:
        if "" in self.down:
            raise self.down[""]
        return tuple(self.events_of)

    def events(self, node: str, *, after: int = 0, ring: str | None = None, wait_seconds: float = 0) -> EventPage:
        self.asked.append((node, after, wait_seconds))
        if node in self.down:
            raise self.down[node]
        with self.changed:
            since = after if ring in (None, self.ring) else 0
            self.changed.wait_for(lambda: self._newer(node, since), min(wait_seconds, 0.5))
            last = max((e.seq for e in self.events_of.get(node, [])), default=0)
            return EventPage(self.ring, last, self._newer(node, since))

    def _newer(self, node: str, seq: int) -> tuple[GpuEvent, ...]:
        return tuple(e for e in self.events_of.get(node, []) if e.seq > seq)


class Taken:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.at: list[float] = []
        self.fails = 0

    def __call__(self, node: str, event: GpuEvent) -> None:
        if self.fails:
            self.fails -= 1
            raise SourceError("store", "does not answer")
        self.events.append((node, event.id))
        self.at.append(time.monotonic())


@pytest.fixture
def watching(monkeypatch):
    monkeypatch.setattr(gpu_watch, "_PAUSE_SECONDS", 0.05)
    watches: list[GpuWatch] = []

    def watch(agents: Agents, taken: Taken) -> GpuWatch:
        made = GpuWatch(agents, taken, refresh_seconds=0.05, clock=lambda: NOW)
        watches.append(made)
        made.start()
        return made

    yield watch
    for one in watches:
        one.stop()


def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_event_is_handed_on_at_once(watching):
    agents, taken = Agents("gpu-01", "gpu-02"), Taken()
    watching(agents, taken)
    until(lambda: {node for node, _, wait in agents.asked if wait} == {"gpu-01", "gpu-02"})
    began = time.monotonic()
    agents.add("gpu-02", event(1))
    until(lambda: taken.events == [("gpu-02", "r-1")])
    assert taken.at[0] - began < 0.3


def test_each_event_is_handed_on_once_and_in_order(watching):
    agents, taken = Agents("gpu-01"), Taken()
    watching(agents, taken)
    for number in range(1, 20):
        agents.add("gpu-01", event(number))
    until(lambda: len(taken.events) == 19)
    time.sleep(0.2)
    assert taken.events == [("gpu-01", f"r-{number}") for number in range(1, 20)]


def test_what_is_old_is_history(watching):
    agents, taken = Agents("gpu-01"), Taken()
    old = timedelta(hours=2)
    agents.add("gpu-01", event(1, age=old), event(2, age=old, live=False), event(3, age=timedelta(minutes=5)))
    watching(agents, taken)
    until(lambda: bool(taken.events))
    time.sleep(0.1)
    assert taken.events == [("gpu-01", "r-3")]


def test_what_happened_while_the_agent_was_away_is_told_when_it_is_back(watching):
    agents, taken = Agents("gpu-01"), Taken()
    agents.add("gpu-01", event(1, age=timedelta(minutes=2), live=False))
    watching(agents, taken)
    until(lambda: taken.events == [("gpu-01", "r-1")])


def test_an_agent_counts_as_heard_from_its_first_answer_until_it_is_silent(watching):
    agents = Agents("gpu-01", "gpu-02")
    agents.down["gpu-02"] = SourceError("GPU agent", "did not answer within 4 s")
    watch = watching(agents, Taken())
    until(lambda: dict(watch.heard()) == {"gpu-01": True, "gpu-02": False} and "gpu-02" in watch.silent)
    agents.down["gpu-01"] = SourceError("GPU agent", "did not answer within 4 s")
    until(lambda: dict(watch.heard()) == {"gpu-01": False, "gpu-02": False})


def test_an_event_that_could_not_be_taken_is_handed_over_again(watching):
    agents, taken = Agents("gpu-01"), Taken()
    taken.fails = 2
    watching(agents, taken)
    agents.add("gpu-01", event(1), event(2))
    until(lambda: taken.events == [("gpu-01", "r-1"), ("gpu-01", "r-2")])


def test_an_agent_that_is_silent_is_named_with_its_reason_and_asked_again(watching):
    agents, taken = Agents("gpu-01", "gpu-02"), Taken()
    agents.down["gpu-01"] = SourceError("GPU agent", "did not answer within 4 s")
    watch = watching(agents, taken)
    until(lambda: dict(watch.silent) == {"gpu-01": "GPU agent: did not answer within 4 s"})
    agents.add("gpu-02", event(1))
    until(lambda: taken.events == [("gpu-02", "r-1")])
    del agents.down["gpu-01"]
    agents.add("gpu-01", event(1))
    until(lambda: ("gpu-01", "r-1") in taken.events and not watch.silent)


def test_an_agent_that_lost_its_history_begins_anew(watching):
    agents, taken = Agents("gpu-01"), Taken()
    watching(agents, taken)
    agents.add("gpu-01", *(event(number) for number in range(1, 6)))
    until(lambda: len(taken.events) == 5)
    with agents.changed:
        agents.ring, agents.events_of["gpu-01"] = "s", [event(1, ring="s")]
        agents.changed.notify_all()
    until(lambda: taken.events[-1] == ("gpu-01", "s-1"))


def test_nodes_come_and_go(watching):
    agents, taken = Agents("gpu-01"), Taken()
    watch = watching(agents, taken)
    until(lambda: watch.listening == ("gpu-01",))
    agents.events_of["gpu-02"] = []
    until(lambda: watch.listening == ("gpu-01", "gpu-02"))
    del agents.events_of["gpu-01"]
    until(lambda: watch.listening == ("gpu-02",))


def test_when_no_agent_can_be_found_that_is_said_and_the_known_ones_are_kept(watching):
    agents, taken = Agents("gpu-01"), Taken()
    watch = watching(agents, taken)
    until(lambda: watch.listening == ("gpu-01",))
    agents.down[""] = SourceError("Kubernetes", "did not answer within 10 s")
    until(lambda: watch.silent.get("") == "Kubernetes: did not answer within 10 s")
    agents.add("gpu-01", event(1))
    until(lambda: taken.events == [("gpu-01", "r-1")])


def test_after_the_end_nothing_is_handed_on(watching):
    agents, taken = Agents("gpu-01"), Taken()
    watch = watching(agents, taken)
    until(lambda: bool(agents.asked))
    watch.stop()
    agents.add("gpu-01", event(1))
    time.sleep(0.2)
    assert taken.events == []
