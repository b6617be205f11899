import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from bot.outbound import kernel_log
from bot.outbound.kernel_log import KMSG, KernelLine, KernelLog, kmsg_record, syslog_lines

EVERY = (b"",)
NOWHERE = Path("/nowhere/kmsg")


@pytest.fixture
def kernel() -> None:
    """This machine's own kernel log."""
    try:
        os.close(os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        off = "ARGS=--ignore=tests/outbound/test_kernel_log.py"
        pytest.fail(f"{KMSG} cannot be read here ({error.strerror}): run as root, or switch these tests off: {off}")


needs_a_kernel = pytest.mark.usefixtures("kernel")


def until(holds: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def followed(**how) -> tuple[KernelLog, list[KernelLine]]:
    lines: list[KernelLine] = []
    log = KernelLog(lines.append, **how)
    log.start()
    return log, lines


# ---------------------------------------------------------------------------------------------- this machine's own


@needs_a_kernel
@pytest.mark.parametrize(("kmsg", "by"), [(KMSG, "/dev/kmsg"), (NOWHERE, "syslog(2)")])
def test_the_kernels_own_log_is_read_either_way(kmsg, by):
    log, lines = followed(kmsg=kmsg, prefixes=EVERY)
    log.stop()
    assert (log.followed_by, log.problem) == (by, None)
    assert len(lines) > 50
    assert not any(line.live for line in lines)
    assert datetime.now(UTC) - timedelta(days=400) < lines[0].at < datetime.now(UTC)
    assert log.since == pytest.approx(lines[0].at, abs=timedelta(seconds=1))


@needs_a_kernel
def test_both_ways_tell_the_same():
    one, by_kmsg = followed(prefixes=EVERY)
    other, by_syslog = followed(kmsg=NOWHERE, prefixes=EVERY)
    one.stop()
    other.stop()
    last = min(by_kmsg[-1].usec, by_syslog[-1].usec)
    first = max(by_kmsg[0].usec, by_syslog[0].usec)
    kmsg = {line.usec for line in by_kmsg if first <= line.usec <= last}
    assert kmsg == {line.usec for line in by_syslog if first <= line.usec <= last}


@needs_a_kernel
@pytest.mark.parametrize("kmsg", [KMSG, NOWHERE])
def test_it_goes_on_after_the_place_where_it_stopped(kmsg):
    log, lines = followed(kmsg=kmsg, prefixes=EVERY)
    log.stop()
    middle = lines[len(lines) // 2].usec
    again, rest = followed(kmsg=kmsg, prefixes=EVERY, after_usec=middle)
    again.stop()
    assert rest and all(line.usec > middle for line in rest)


@needs_a_kernel
def test_other_programs_lines_are_not_the_drivers():
    log, lines = followed()
    log.stop()
    assert all(line.text.startswith(("NVRM: ", "nvidia-nvswitch")) for line in lines)


# ---------------------------------------------------------------------------------------------- what comes later


class Syslog:
    """syslog(2), with a log that a test writes."""

    lines: ClassVar[list[bytes]] = []
    size_bytes = 4096

    def read(self, most_bytes: int) -> bytes:
        return b"\n".join(self.lines)[-most_bytes:] + b"\n"


@pytest.fixture
def syslog(monkeypatch):
    monkeypatch.setattr(kernel_log, "_Syslog", Syslog)
    monkeypatch.setattr(kernel_log, "_POLL_SECONDS", 0.01)
    Syslog.lines = [b"<6>[    1.000000] Linux version 6.1"]
    return Syslog


def test_new_lines_are_told_once_and_as_they_happen(syslog):
    log, lines = followed(kmsg=NOWHERE)
    syslog.lines = [*syslog.lines, b"<4>[   88.710653] NVRM: Xid (PCI:0000:00:06): 31, pid=555, name=bad, MMU Fault"]
    until(lambda: len(lines) == 1)
    time.sleep(0.1)
    log.stop()
    (line,) = lines
    assert (line.text, line.usec, line.live) == (
        "NVRM: Xid (PCI:0000:00:06): 31, pid=555, name=bad, MMU Fault",
        88_710_653,
        True,
    )
    assert abs(datetime.now(UTC) - line.at) < timedelta(seconds=5), "not the kernel's own clock, which wanders"


def test_a_line_that_stands_behind_a_younger_one_is_told_too(syslog):
    log, lines = followed(kmsg=NOWHERE)
    syslog.lines = [*syslog.lines, b"<4>[   88.000020] NVRM: second"]
    until(lambda: len(lines) == 1)
    syslog.lines = [*syslog.lines, b"<4>[   88.000010] NVRM: first"]
    until(lambda: len(lines) == 2)
    time.sleep(0.1)
    log.stop()
    assert [line.text for line in lines] == ["NVRM: second", "NVRM: first"]


def test_more_lines_than_the_tail_holds_are_all_told(syslog, monkeypatch):
    monkeypatch.setattr(kernel_log, "_TAIL_BYTES", 200)
    log, lines = followed(kmsg=NOWHERE)
    syslog.lines = [*syslog.lines, *(f"<4>[   {n}.000000] NVRM: line {n}".encode() for n in range(10, 50))]
    until(lambda: len(lines) == 40)
    log.stop()


def test_lines_that_were_overwritten_unread_move_the_beginning_of_what_is_known(syslog):
    log, _ = followed(kmsg=NOWHERE)
    before = log.since
    syslog.lines = [b"<4>[  500.000000] NVRM: a"]
    until(lambda: log.since != before)
    log.stop()


def test_a_log_without_stamps_is_not_followed_and_says_why(syslog):
    syslog.lines = [b"<6>Linux version 6.1"]
    log, lines = followed(kmsg=NOWHERE)
    log.stop()
    assert not lines
    assert log.problem and "printk.time" in log.problem


def test_without_the_right_to_read_it_says_what_to_give(monkeypatch):
    class Refused(Syslog):
        def read(self, most_bytes: int) -> bytes:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kernel_log, "_Syslog", Refused)
    log, _ = followed(kmsg=NOWHERE)
    log.stop()
    assert log.followed_by is None
    assert log.problem and "SYSLOG" in log.problem


# ---------------------------------------------------------------------------------------------- the two forms


def test_a_record_of_kmsg():
    assert kmsg_record(b"4,362,74868529,c;NVRM: Xid (PCI:0000:00:06): 31, pid=663\n SUBSYSTEM=pci\n") == (
        74868529,
        b"NVRM: Xid (PCI:0000:00:06): 31, pid=663",
    )


@pytest.mark.parametrize("record", [b"", b"nonsense", b"12,1,2,-;a program wrote this", b"a,b,c,-;x"])
def test_what_no_kernel_code_wrote_does_not_count(record):
    assert kmsg_record(record) is None


def test_lines_of_syslog():
    ours = b"<6>[   88.710653] NVRM: a\n<4>[    1.000001][  T123] NVRM: b\n"
    text = b"cut off\n" + ours + b"<14>[    2.0] user\n<12>[    3.000000] c"
    assert list(syslog_lines(text)) == [(88710653, b"NVRM: a"), (1000001, b"NVRM: b")]
