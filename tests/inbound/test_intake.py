import threading
from concurrent.futures import Future

import pytest

from bot.inbound.intake import Intake, IntakeFullError
from bot.incidents.alert import TakenIn
from bot.ports import SourceError
from tests.fixtures_store import an_alert


class Disk:
    """A commit that can be held up and can refuse. What it wrote is in `commits`."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.free = threading.Event()
        self.free.set()
        self.away = False

    def __call__(self, webhooks):
        self.free.wait(5)
        fingerprints = [a.fingerprint for w in webhooks for a in w.alerts]
        if self.away:
            raise SourceError("Database", "is away", retryable=True)
        if "poison" in fingerprints:
            raise SourceError("Database", "refuses this row")
        self.commits.append(fingerprints)
        return len(set(fingerprints))


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def intake(disk):
    started = Intake(disk, lambda: None, waiting_limit=5)
    started.start()
    yield started
    disk.free.set()
    started.stop()


def hook(*fingerprints: str) -> TakenIn:
    return TakenIn(tuple(an_alert(f) for f in fingerprints))


def held(intake: Intake, disk: Disk) -> Future[None]:
    """The writer is busy with this one; what comes next waits behind it."""
    disk.free.clear()
    first = intake.put(hook("first"), 10)
    while not intake._queue.empty():
        threading.Event().wait(0.001)
    return first


def test_a_webhook_is_answered_when_it_is_on_disk(intake, disk):
    intake.put(hook("a", "b"), 10).result(5)
    assert disk.commits == [["a", "b"]]
    assert (intake.alerts, intake.repeats, intake.waiting) == (2, 0, 0)


def test_what_waits_goes_into_one_commit_in_its_order(intake, disk):
    first = held(intake, disk)
    waiting = [intake.put(hook(f), 10) for f in ("b", "c", "b")]
    disk.free.set()
    for done in (first, *waiting):
        done.result(5)
    assert disk.commits == [["first"], ["b", "c", "b"]]
    assert (intake.alerts, intake.repeats) == (4, 1)


def test_a_commit_holds_some_thousand_alerts_at_most(disk):
    intake = Intake(disk, lambda: None)
    waiting = [intake.put(hook(*(f"{n}-{i}" for i in range(700))), 10) for n in range(4)]
    intake.start()
    for done in waiting:
        done.result(5)
    intake.stop()
    assert [len(c) for c in disk.commits] == [2100, 700]


def test_it_is_full_when_as_many_wait_as_may(intake, disk):
    held(intake, disk)
    for n in range(4):
        intake.put(hook(str(n)), 10)
    with pytest.raises(IntakeFullError, match="5 webhooks wait"):
        intake.put(hook("one too many"), 10)


def test_it_is_full_when_too_many_bytes_wait_but_one_large_webhook_passes(intake, disk):
    disk.free.clear()
    intake.put(hook("large"), 100 * 1024 * 1024)
    with pytest.raises(IntakeFullError):
        intake.put(hook("b"), 10)


def test_what_was_full_takes_in_again_when_the_disk_is_back(intake, disk):
    held(intake, disk)
    waiting = [intake.put(hook(str(n)), 10) for n in range(4)]
    disk.free.set()
    for done in waiting:
        done.result(5)
    intake.put(hook("again"), 10).result(5)


def test_a_webhook_that_the_database_refuses_does_not_fail_its_neighbours(intake, disk):
    held(intake, disk)
    before, poison, after = (intake.put(hook(f), 10) for f in ("before", "poison", "after"))
    disk.free.set()
    before.result(5)
    after.result(5)
    with pytest.raises(SourceError, match="refuses this row"):
        poison.result(5)
    assert disk.commits == [["first"], ["before"], ["after"]]
    assert intake.failed == 1


def test_a_database_that_is_away_is_asked_once_for_all_that_wait(intake, disk):
    first = held(intake, disk)
    waiting = [intake.put(hook(f), 10) for f in ("b", "c")]
    disk.away = True
    disk.free.set()
    for done in (first, *waiting):
        with pytest.raises(SourceError, match="is away"):
            done.result(5)
    disk.away = False
    intake.put(hook("d"), 10).result(5)
    assert disk.commits == [["d"]]


def test_a_sender_that_gave_up_neither_stops_the_thread_nor_loses_its_webhook(intake, disk):
    held(intake, disk)
    given_up = intake.put(hook("b"), 10)
    assert given_up.cancel()
    disk.free.set()
    intake.put(hook("c"), 10).result(5)
    assert [f for c in disk.commits for f in c] == ["first", "b", "c"]


def test_whoever_works_on_deliveries_is_woken_after_the_commit(disk):
    woken = threading.Event()
    intake = Intake(disk, woken.set)
    intake.start()
    assert not woken.is_set()
    intake.put(hook("a"), 10).result(5)
    assert woken.wait(5)
    intake.stop()


def test_stopping_writes_what_waits_and_refuses_what_comes(disk):
    intake = Intake(disk, lambda: None)
    waiting = [intake.put(hook(str(n)), 10) for n in range(3)]
    intake.start()
    intake.stop()
    assert all(done.done() for done in waiting)
    with pytest.raises(IntakeFullError, match="is stopping"):
        intake.put(hook("late"), 10)
