import threading
import time
from collections.abc import Callable

import pynvml
import pytest

from bot.outbound import nvml_events
from bot.outbound.nvml_events import KINDS, GpuEvents
from sandbox.gpu_agent.nvml import LOST, NOT_SUPPORTED, FakeGpu, FakeNvml, error


class Heard:
    def __init__(self, gpu: FakeGpu) -> None:
        self.seen: list[tuple[str, int, str | None]] = []
        self.events = GpuEvents(FakeNvml(gpu), 0, lambda of, kind, data, mig: self.seen.append((kind, data, mig)))
        self.events.start()


@pytest.fixture
def heard(monkeypatch):
    monkeypatch.setattr(nvml_events, "_RETRY_SECONDS", 0.05)
    made: list[Heard] = []

    def make(gpu: FakeGpu) -> Heard:
        made.append(Heard(gpu))
        return made[-1]

    yield make
    for one in made:
        one.events.stop()


def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_xid_is_told_at_once(heard):
    gpu = FakeGpu()
    one = heard(gpu)
    until(lambda: one.events.listening)
    began = time.monotonic()
    gpu.xid(79)
    until(lambda: one.seen == [("xid", 79, None)])
    assert time.monotonic() - began < 0.5


def test_other_critical_events_are_told_by_name(heard):
    gpu = FakeGpu()
    one = heard(gpu)
    gpu.happens(pynvml.nvmlEventTypeGpuRecoveryAction, 1)
    gpu.happens(pynvml.nvmlEventTypeDramRetirementFailure, 0)
    until(lambda: len(one.seen) == 2)
    assert [kind for kind, _, _ in one.seen] == ["recovery_action", "row_remapping_failed"]


def test_changes_of_clocks_and_corrected_errors_are_not_asked_for(heard):
    gpu = FakeGpu()
    one = heard(gpu)
    until(lambda: one.events.listening)
    assert gpu.answers["mask"] & pynvml.nvmlEventTypeXidCriticalError
    assert not gpu.answers["mask"] & (pynvml.nvmlEventTypeClock | pynvml.nvmlEventTypeSingleBitEccError)
    assert gpu.answers["mask"] & ~sum(KINDS) == 0


def test_only_what_the_driver_supports_is_asked_for(heard):
    gpu = FakeGpu(nvmlDeviceGetSupportedEventTypes=pynvml.nvmlEventTypeXidCriticalError)
    one = heard(gpu)
    until(lambda: one.events.listening)
    assert gpu.answers["mask"] == pynvml.nvmlEventTypeXidCriticalError


def test_a_lost_gpu_is_told_once_and_heard_again_when_it_is_back(heard):
    gpu = FakeGpu()
    one = heard(gpu)
    until(lambda: one.events.listening)
    gpu.fails(LOST)
    until(lambda: one.seen == [("gpu_lost", 0, None)])
    gpu.events.put(error(LOST))
    time.sleep(0.2)
    assert one.seen == [("gpu_lost", 0, None)]
    assert (one.events.listening, one.events.problem) == (False, "the GPU is lost")
    del gpu.answers["*"]
    while not gpu.events.empty():
        gpu.events.get()
    until(lambda: one.events.listening)
    gpu.xid(31)
    until(lambda: one.seen[-1] == ("xid", 31, None))


def test_without_events_it_says_so_and_tries_again(heard):
    gpu = FakeGpu(nvmlDeviceGetSupportedEventTypes=error(NOT_SUPPORTED))
    one = heard(gpu)
    until(lambda: one.events.problem is not None)
    assert (one.events.listening, one.events.problem) == (False, "not supported by this GPU or driver")
    del gpu.answers["nvmlDeviceGetSupportedEventTypes"]
    until(lambda: one.events.listening)


def test_a_mistake_in_what_is_told_does_not_end_the_listening(heard):
    gpu = FakeGpu()
    broken = threading.Event()

    def tell(of, kind, data, mig) -> None:
        if not broken.is_set():
            broken.set()
            raise ValueError("of ours")
        one.seen.append((kind, data, mig))

    one = heard(gpu)
    one.events._on_event = tell
    gpu.xid(13)
    until(broken.is_set)
    gpu.xid(31)
    until(lambda: one.seen == [("xid", 31, None)])
