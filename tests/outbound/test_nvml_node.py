import threading
import time
from collections.abc import Callable

import pynvml
import pytest

from bot.outbound.nvml import GpuReader
from bot.outbound.nvml_node import NvmlNode
from sandbox.gpu_agent.nvml import LOST, FakeGpu, FakeNvml, error, linked


@pytest.fixture
def made():
    """NvmlNode, started; ended after the test."""
    nodes: list[NvmlNode] = []

    def make(nvml: FakeNvml, **how) -> NvmlNode:
        node = NvmlNode(nvml, **{"patience_seconds": 10, "retry_seconds": 0.05, **how})
        nodes.append(node)
        node.start()
        return node

    yield make
    for node in nodes:
        node.stop()


@pytest.fixture
def held():
    """Set at the end, so that no fake call hangs on after the test."""
    event = threading.Event()
    yield event
    event.set()


def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_gpus_are_told_in_order(made):
    sweep = made(FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b"))).sweep()
    assert [(gpu.index, gpu.uuid, gpu.state) for gpu in sweep.gpus] == [(0, "GPU-a", "ok"), (1, "GPU-b", "ok")]
    assert (sweep.problem, sweep.driver, sweep.nvml) == (None, "580.159.04", "13.580.159.04")


def test_a_call_that_hangs_blocks_neither_the_answer_nor_the_other_gpus(made, held):
    stuck, well = FakeGpu("GPU-a"), FakeGpu("GPU-b")
    node = made(FakeNvml(stuck, well), patience_seconds=1)
    until(lambda: [gpu.state for gpu in node.sweep().gpus] == ["ok", "ok"])
    stuck.hangs(held)
    began = time.monotonic()
    first = node.sweep()
    assert time.monotonic() - began < 5
    assert [gpu.state for gpu in first.gpus] == ["silent", "ok"]
    assert first.gpus[0].uuid == "GPU-a"
    again = node.sweep()
    seconds = float(again.gpus[0].problem.removeprefix("NVML did not answer for ").removesuffix(" s"))
    assert seconds > 1.9, "counted from the call that hangs, not from the last question"
    assert again.gpus[1].state == "ok"


def test_a_gpu_that_answers_again_is_well_again(made, held):
    gpu = FakeGpu("GPU-a")
    node = made(FakeNvml(gpu), patience_seconds=0.5)
    until(lambda: node.sweep().gpus[0].state == "ok")
    gpu.hangs(held)
    assert node.sweep().gpus[0].state == "silent"
    del gpu.answers["*"]
    held.set()
    until(lambda: node.sweep().gpus[0].state == "ok")


def test_a_lost_gpu_leaves_the_others(made):
    lost, well = FakeGpu("GPU-a"), FakeGpu("GPU-b")
    node = made(FakeNvml(lost, well))
    node.sweep()
    lost.fails(LOST)
    assert [(gpu.uuid, gpu.state) for gpu in node.sweep().gpus] == [("GPU-a", "lost"), ("GPU-b", "ok")]


def test_no_driver_is_an_answer_and_is_tried_again(made):
    there: list[bool] = []

    def init() -> None:
        if not there:
            raise error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    node = made(FakeNvml(FakeGpu(), init=init))
    sweep = node.sweep()
    assert sweep.gpus == ()
    assert sweep.problem and sweep.problem.startswith("no NVIDIA driver here")
    assert "runtime class" in sweep.problem
    there.append(True)
    until(lambda: node.sweep().problem is None)
    assert [gpu.state for gpu in node.sweep().gpus] == ["ok"]


def test_a_driver_without_gpus_is_said(made):
    assert made(FakeNvml()).sweep().problem == "the driver sees no GPU"


def test_a_driver_that_hangs_at_the_start_is_said(made, held):
    node = made(FakeNvml(FakeGpu(), init=lambda: held.wait(30) and None), patience_seconds=0.1)
    until(lambda: (node.sweep().problem or "").startswith("NVML did not open for"))


def test_a_driver_that_was_replaced_is_opened_anew(made):
    gpu = FakeGpu("GPU-a")
    opened: list[int] = []
    node = made(FakeNvml(gpu, init=lambda: opened.append(1)))
    node.sweep()
    gpu.answers["nvmlDeviceGetEccMode"] = error(pynvml.NVML_ERROR_UNINITIALIZED)
    assert node.sweep().gpus[0].state == "unreadable"
    del gpu.answers["nvmlDeviceGetEccMode"]
    until(lambda: len(opened) == 2 and node.sweep().gpus[0].state == "ok")


def test_a_mistake_of_ours_in_one_reading_is_told_and_does_not_end_the_thread(made):
    gpu = FakeGpu("GPU-a", nvmlDeviceGetEccMode=lambda *_: 1 / 0)
    node = made(FakeNvml(gpu))
    assert node.sweep().gpus[0].problem == "could not be read: division by zero"
    del gpu.answers["nvmlDeviceGetEccMode"]
    assert node.sweep().gpus[0].state == "ok"


def test_who_asks_together_shares_a_reading(made):
    gpu = FakeGpu("GPU-a")
    begun, go = threading.Event(), threading.Event()

    def slow(*_: object) -> list[int]:
        begun.set()
        go.wait(5)
        return [1, 1]

    node = made(FakeNvml(gpu))
    gpu.answers["nvmlDeviceGetEccMode"] = slow
    asking = [threading.Thread(target=node.sweep) for _ in range(5)]
    asking[0].start()
    assert begun.wait(5)
    for one in asking[1:]:
        one.start()
    time.sleep(0.1)
    go.set()
    for one in asking:
        one.join(5)
    assert gpu.asked.count("nvmlDeviceGetEccMode") == 2, "the one under way, and one for all who came later"


def test_events_of_every_gpu_arrive_with_the_gpu(made):
    first, second = FakeGpu("GPU-a"), FakeGpu("GPU-b")
    seen: list[tuple[str | None, str, int, str | None]] = []

    def on_event(gpu: GpuReader, kind: str, data: int, instance: str | None) -> None:
        seen.append((gpu.known.uuid, kind, data, instance))

    node = made(FakeNvml(first, second), on_event=on_event)
    until(lambda: node.listening)
    second.xid(31)
    first.xid(94, instance=5)
    until(lambda: len(seen) == 2)
    assert sorted(seen) == [("GPU-a", "xid", 94, "5"), ("GPU-b", "xid", 31, None)]


def test_a_gpu_is_found_by_its_address(made):
    node = made(FakeNvml(FakeGpu("GPU-a")))
    node.sweep()
    assert (node.uuid_of("0000:00:06"), node.uuid_of("0000:01:00")) == ("GPU-a", None)


def test_links_are_read_while_nobody_asks(made):
    node = made(FakeNvml(FakeGpu("GPU-a", **linked(active=3))), link_seconds=0.01)
    until(lambda: [link.replay_errors for link in node.sweep().gpus[0].nvlinks] == [0, 10, 20, None])


def test_links_are_read_however_often_somebody_asks(made):
    node = made(FakeNvml(FakeGpu("GPU-a", **linked(active=3))), link_seconds=0.2)
    asked_until = time.monotonic() + 5
    while "nvlinks.errors" in node.sweep().gpus[0].missing:
        assert time.monotonic() < asked_until
        time.sleep(0.02)


def test_a_link_that_hangs_is_a_gpu_that_is_silent(made, held):
    gpu, reached = FakeGpu("GPU-a", **linked(active=1)), threading.Event()

    def hang(*_: object) -> None:
        reached.set()
        held.wait(30)

    gpu.answers["nvmlDeviceGetNvLinkErrorCounter"] = hang
    node = made(FakeNvml(gpu, FakeGpu("GPU-b")), link_seconds=0.01, patience_seconds=1)
    until(lambda: node.sweep().gpus[1].state == "ok")
    assert reached.wait(10)
    assert [one.state for one in node.sweep().gpus] == ["silent", "ok"]
    held.set()
    until(lambda: node.sweep().gpus[0].state == "ok")


def test_a_mistake_of_ours_in_a_link_ends_nothing(made):
    gpu = FakeGpu("GPU-a", **linked(active=1))
    tries: list[int] = []

    def wrong(*_: object) -> None:
        tries.append(1)
        raise ZeroDivisionError

    gpu.answers["nvmlDeviceGetNvLinkErrorCounter"] = wrong
    node = made(FakeNvml(gpu), link_seconds=0.01)
    node.sweep()
    until(lambda: len(tries) > 1)
    assert node.sweep().gpus[0].state == "ok"
