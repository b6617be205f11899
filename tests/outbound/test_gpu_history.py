import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.gpu_readings import Holder
from bot.outbound.gpu_history import GpuHistory, Sighting, boot_id, booted_at

AT = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)
LINE = Sighting(
    at=AT,
    source="kernel_log",
    kind="xid",
    number=31,
    gpu_uuid="GPU-a",
    pci="0000:3b:00",
    message="MMU Fault",
    pid=440,
    process="python3",
    kernel_usec=1_000,
)
NVML = Sighting(at=AT + timedelta(milliseconds=20), source="nvml", kind="xid", number=31, gpu_uuid="GPU-a")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "events.jsonl"


def history(file: Path | None = None, *, boot: str = "boot-1", limit: int = 1000) -> GpuHistory:
    return GpuHistory(file, boot_id=boot, limit=limit)


def later(seen: Sighting, seconds: float, **changed) -> Sighting:
    usec = None if seen.kernel_usec is None else seen.kernel_usec + round(seconds * 1e6)
    return replace(seen, at=seen.at + timedelta(seconds=seconds), kernel_usec=usec, **changed)


# ---------------------------------------------------------------------------------------------- one event


@pytest.mark.parametrize("order", [(LINE, NVML), (replace(NVML, at=AT), later(LINE, 0.25))])
def test_nvml_and_the_kernels_log_tell_of_one_event_whichever_comes_first(order):
    kept = history()
    for seen in order:
        kept.add(seen)
    (event,) = kept.after(0).events
    assert (event.count, event.seen_by) == (1, ("kernel_log", "nvml"))
    assert (event.gpu_uuid, event.pid, event.process, event.message) == ("GPU-a", 440, "python3", "MMU Fault")


def test_a_burst_of_one_program_is_one_event_with_a_count():
    kept = history()
    for number in range(100):
        kept.add(later(LINE, number / 1000, number=45))
        kept.add(later(NVML, number / 1000, number=45))
    (event,) = kept.after(0).events
    assert event.count == 100
    assert event.last_at == NVML.at + timedelta(seconds=0.099)


def test_a_burst_that_only_nvml_tells_is_one_event():
    kept = history()
    for number in range(5):
        kept.add(later(NVML, number))
    assert [event.count for event in kept.after(0).events] == [5]


def test_another_programs_fault_a_second_later_is_another_event():
    kept = history()
    for seen in (LINE, NVML, later(LINE, 1, pid=441), later(NVML, 1)):
        kept.add(seen)
    assert [(event.pid, event.count, event.seen_by) for event in kept.after(0).events] == [
        (440, 1, ("kernel_log", "nvml")),
        (441, 1, ("kernel_log", "nvml")),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"number": 43},
        {"gpu_uuid": "GPU-b", "pci": "0000:5e:00"},
        {"mig_instance": "5"},
        {"kind": "sxid"},
    ],
)
def test_what_differs_is_another_event(other):
    kept = history()
    kept.add(replace(LINE, mig_instance="3"))
    kept.add(later(replace(LINE, **{"mig_instance": "3", **other}), 1))
    assert len(kept.after(0).events) == 2


def test_the_same_after_a_pause_is_another_event():
    kept = history()
    kept.add(LINE)
    kept.add(later(LINE, 11))
    assert len(kept.after(0).events) == 2


def test_a_line_of_before_is_not_what_happens_now():
    kept = history()
    kept.add(replace(LINE, live=False))
    kept.add(later(NVML, 2))
    assert [event.live for event in kept.after(0).events] == [False, True]


def test_an_address_alone_joins_where_the_uuid_is_not_known():
    kept = history()
    kept.add(replace(LINE, gpu_uuid=None))
    kept.add(replace(NVML, pci="0000:3b:00"))
    (event,) = kept.after(0).events
    assert event.gpu_uuid == "GPU-a"


def test_whose_the_gpu_is_stays_with_the_event():
    holder = Holder(namespace="llm", pod="chat-7d9f-abcde", by="kubelet")
    kept = history()
    kept.add(replace(LINE, holders=(holder,)))
    assert kept.after(0).events[0].holders == (holder,)


# ---------------------------------------------------------------------------------------------- waiting


def test_who_waits_is_told_at_once():
    kept = history()
    heard: list[tuple[float, int]] = []

    def wait() -> None:
        heard.append((time.monotonic(), len(kept.after(0, wait_seconds=20).events)))
        heard.append((time.monotonic(), 0))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    told = time.monotonic()
    kept.add(LINE)
    waiting.join(5)
    assert heard[0][1] == 1
    assert heard[1][0] - told < 0.5


def test_without_news_the_wait_ends_empty():
    kept = history()
    kept.add(LINE)
    began = time.monotonic()
    page = kept.after(1, wait_seconds=0.2)
    assert (page.events, page.last_seq) == ((), 1)
    assert time.monotonic() - began >= 0.2


def test_a_number_of_another_ring_means_nothing():
    kept = history()
    kept.add(LINE)
    assert kept.after(500, ring="another", wait_seconds=5).events
    assert not kept.after(500, ring=kept.after(0).ring).events


# ---------------------------------------------------------------------------------------------- the file


def test_events_survive_a_restart_and_numbers_go_on(file):
    first = history(file)
    first.add(LINE)
    first.add(NVML)
    first.add(later(LINE, 60))
    again = history(file)
    assert again.after(0).events[0].id == first.after(0).events[0].id
    assert [event.seq for event in again.after(0).events] == [1, 2]
    assert again.after(0).ring == first.after(0).ring
    assert again.add(later(LINE, 120)).seq == 3


def test_an_event_is_on_the_disk_before_anybody_is_told(file, monkeypatch):
    kept = history(file)
    told_when_synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        told_when_synced.append(bool(kept._last_seq))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    kept.add(LINE)
    assert told_when_synced and not any(told_when_synced)


def test_what_the_second_source_added_survives(file):
    first = history(file)
    first.add(replace(NVML, at=AT))
    first.add(later(LINE, 1.5))
    assert history(file).after(0).events[0].message == "MMU Fault"


def test_the_place_in_the_kernels_log_survives_within_a_boot(file):
    history(file).add(LINE)
    assert history(file).kernel_usec == 1_000
    assert history(file, boot="boot-2").kernel_usec is None


def test_a_line_that_was_being_written_is_left_out(file):
    history(file).add(LINE)
    with file.open("a") as torn:
        torn.write('{"event": {"id": "x-2", "seq"')
    again = history(file)
    assert [event.seq for event in again.after(0).events] == [1]
    again.add(later(LINE, 60))
    assert [event.seq for event in history(file).after(0).events] == [1, 2]


def test_the_file_and_the_ring_are_bounded(file):
    kept = history(file, limit=10)
    for number in range(200):
        kept.add(later(LINE, 20 * number))
        kept.add(later(NVML, 20 * number))
    assert [event.seq for event in kept.after(0).events] == list(range(191, 201))
    assert len(file.read_text().splitlines()) <= 4 * 10 + 12
    assert [event.seq for event in history(file, limit=10).after(0).events] == list(range(191, 201))


def test_a_lost_file_is_another_ring(file):
    first = history(file)
    first.add(LINE)
    file.unlink()
    assert history(file).after(0).ring != first.after(0).ring


def test_a_folder_that_cannot_be_written_is_said_and_events_are_kept_in_memory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    kept = history(blocked / "events.jsonl")
    kept.add(LINE)
    assert len(kept.after(0).events) == 1
    assert kept.problem and "do not survive a restart" in kept.problem


def test_without_a_file_it_says_so():
    assert history(None).problem == "no file for them is configured"


def test_a_boot_has_a_name():
    assert boot_id() == boot_id() != ""


def test_a_node_was_booted_before_now_and_the_time_of_it_stands():
    first, second = booted_at(), booted_at()
    assert first < datetime.now(UTC)
    assert abs(second - first) < timedelta(seconds=1)
