import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bot.leader import Bell, Leader, Work
from tests.fixtures_store import NOW

ROOT = Path(__file__).parents[1]


class FreeLock:
    def __init__(self, free: bool = True) -> None:
        self.free = free
        self.released = False

    def acquire(self, stopped: threading.Event) -> bool:
        return self.free or not stopped.wait(10)

    def release(self) -> None:
        self.released = True


def wait_until(true, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


@pytest.fixture
def leading():
    started: list[Leader] = []

    def start(*works: Work, lock: FreeLock | None = None, poll_seconds: float = 0.01, bell: Bell | None = None, **rest):
        leader = Leader(lock or FreeLock(), works, bell or Bell(), poll_seconds=poll_seconds, clock=lambda: NOW, **rest)
        leader.start()
        started.append(leader)
        return leader

    yield start
    for leader in started:
        leader.stop()


def test_works_are_called_in_their_order_with_the_time(leading):
    calls = []
    leading(Work("a", lambda now: calls.append(("a", now))), Work("b", lambda now: calls.append(("b", now))))
    wait_until(lambda: len(calls) >= 4)
    assert calls[:4] == [("a", NOW), ("b", NOW), ("a", NOW), ("b", NOW)]


def test_whoever_found_something_is_called_again_at_once(leading):
    left = [100]

    def step(now):
        left[0] -= 1
        return left[0] > 0

    leading(Work("a", step), poll_seconds=60)
    wait_until(lambda: left[0] <= 0)
    assert left[0] == 0  # and then it waits


def test_a_ring_wakes_the_loop(leading):
    bell, calls = Bell(), []
    leading(Work("a", lambda now: calls.append(now)), bell=bell, poll_seconds=60)
    wait_until(lambda: len(calls) == 1)
    bell.ring()
    wait_until(lambda: len(calls) == 2)


def test_a_ring_for_one_lane_leaves_the_others_asleep(leading):
    bell, calls = Bell(), []
    lanes = [Work(lane, lambda _, lane=lane: calls.append(lane), lane) for lane in ("triage", "announce")]
    leading(*lanes, bell=bell, poll_seconds=60)
    wait_until(lambda: len(calls) == 2)
    bell.ring("triage")
    wait_until(lambda: len(calls) == 3)
    bell.ring()
    wait_until(lambda: len(calls) == 5)
    assert sorted(calls) == ["announce"] * 2 + ["triage"] * 3


def test_a_ring_during_a_step_is_not_lost(leading):
    bell, calls = Bell(), []

    def step(now):
        calls.append(now)
        if len(calls) == 1:
            bell.ring()
        return False

    leading(Work("a", step), bell=bell, poll_seconds=60)
    wait_until(lambda: len(calls) == 2)


def test_without_a_ring_it_looks_every_poll(leading):
    calls = []
    leading(Work("a", lambda now: calls.append(now)), poll_seconds=0.01)
    wait_until(lambda: len(calls) >= 5)


def test_a_work_that_fails_stops_no_other_is_counted_and_pauses(leading):
    calls = []

    def broken(now):
        calls.append("broken")
        raise RuntimeError("no")

    leader = leading(Work("broken", broken), Work("fine", lambda now: calls.append("fine")))
    wait_until(lambda: calls.count("fine") >= 20)
    assert calls.count("broken") == 1
    assert leader.errors == {"broken": 1, "fine": 0}
    wait_until(lambda: calls.count("broken") == 2)


def test_a_work_that_recovers_is_called_as_before(leading):
    calls = []

    def step(now):
        calls.append(now)
        if len(calls) == 1:
            raise RuntimeError("once")
        return False

    leading(Work("a", step))
    wait_until(lambda: len(calls) >= 10)


def test_a_slow_lane_holds_up_no_other_and_wakes_it_when_it_did_something(leading):
    calls, go_on = [], threading.Event()

    def slow(now):
        calls.append("slow")
        return go_on.wait(5) and calls.count("slow") == 1

    bell = Bell()
    leading(
        Work("slow", slow), Work("fast", lambda now: calls.append("fast"), lane="other"), bell=bell, poll_seconds=60
    )
    wait_until(lambda: sorted(calls) == ["fast", "slow"])
    bell.ring()
    wait_until(lambda: calls.count("fast") == 2)
    go_on.set()
    wait_until(lambda: calls.count("fast") >= 3)


def test_nothing_is_done_without_the_lock(leading):
    calls = []
    lock = FreeLock(free=False)
    leader = leading(Work("a", lambda now: calls.append(now)), lock=lock, on_leading=lambda: calls.append("leads"))
    time.sleep(0.05)
    assert (calls, leader.leads, leader.age_seconds()) == ([], False, 0.0)


def test_it_prepares_once_before_the_first_work(leading):
    calls = []
    leading(Work("a", lambda now: calls.append("a")), on_leading=lambda: calls.append("leads"))
    wait_until(lambda: len(calls) >= 3)
    assert calls[0] == "leads" and calls.count("leads") == 1


def test_the_age_tells_of_a_loop_that_hangs(leading):
    hang = threading.Event()
    leader = leading(Work("a", lambda now: hang.wait(5)), Work("b", lambda now: False, lane="other"))
    wait_until(lambda: leader.age_seconds() > 0.1)
    hang.set()
    wait_until(lambda: leader.age_seconds() < 0.1)


def test_stopping_ends_the_loops_then_what_they_started_and_then_gives_the_lock_back(leading):
    lock = FreeLock()
    held = []
    leader = leading(Work("a", lambda now: False), lock=lock, on_stopped=lambda: held.append(not lock.released))
    wait_until(lambda: leader.leads)
    leader.stop()
    assert (leader.leads, held, lock.released) == (False, [True], True)


def test_a_process_that_cannot_prepare_ends_instead_of_holding_the_lock():
    program = """
import time
from bot.leader import Bell, Leader, Work
from tests.test_leader import FreeLock
def fail(): raise RuntimeError("no engine")
Leader(FreeLock(), [], Bell(), on_leading=fail).start()
time.sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 4
    assert "no engine" in done.stdout + done.stderr


# ------------------------------------------------------------------------------------------- processes, real locks

REPLICA = """
import os, sys, time
from bot.leader import Bell, Leader, Work
from bot.outbound.lock import lock_for
lock = lock_for(sys.argv[1])
def step(now):
    lock.check()
    print(os.getpid(), flush=True)
    return False
Leader(lock, [Work("say", step)], Bell(), poll_seconds=0.05).start()
time.sleep(120)
"""


class Replica:
    def __init__(self, url: str) -> None:
        argv = [sys.executable, "-c", REPLICA, url]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[float] = []  # when it said that it leads
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == f"{self.process.pid}\n":  # the rest is its log
                self.lines.append(time.monotonic())

    @property
    def works(self) -> bool:
        return bool(self.lines) and time.monotonic() - self.lines[-1] < 0.5

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def replicas(database_url):
    two = [Replica(database_url), Replica(database_url)]
    yield two
    for replica in two:
        replica.end()


def leader_and_standby(replicas: list[Replica]) -> tuple[Replica, Replica]:
    wait_until(lambda: any(r.works for r in replicas), 20)
    leader = next(r for r in replicas if r.works)
    return leader, next(r for r in replicas if r is not leader)


def test_one_of_two_leads_and_after_kill_9_the_other(replicas):
    leader, standby = leader_and_standby(replicas)
    time.sleep(1.5)
    assert leader.works and not standby.lines
    killed = time.monotonic()
    os.kill(leader.process.pid, signal.SIGKILL)
    wait_until(lambda: standby.works, 5)
    assert standby.lines[0] - killed < 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_frozen_leader_is_replaced_within_nine_seconds_and_ends_when_it_wakes(replicas):
    leader, standby = leader_and_standby(replicas)
    os.kill(leader.process.pid, signal.SIGSTOP)
    frozen = time.monotonic()
    wait_until(lambda: standby.works, 12)
    assert standby.lines[0] - frozen < 9
    said = len(leader.lines)
    os.kill(leader.process.pid, signal.SIGCONT)
    assert leader.process.wait(3) == 3
    assert len(leader.lines) <= said  # nothing was done after it woke
    assert standby.works


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_frozen_leader_on_sqlite_keeps_the_lock_that_nobody_else_on_this_disk_could_use(replicas):
    leader, standby = leader_and_standby(replicas)
    os.kill(leader.process.pid, signal.SIGSTOP)
    time.sleep(2)
    assert not standby.lines
    os.kill(leader.process.pid, signal.SIGCONT)
    wait_until(lambda: leader.works)
