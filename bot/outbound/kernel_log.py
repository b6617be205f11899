"""The node's kernel log, followed for the NVIDIA driver's lines: the history that NVML, which only tells what happens
while somebody listens, does not have.

/dev/kmsg is read where it can be opened. A container that is not privileged may not open it; with the capability
SYSLOG it may ask syslog(2) instead, which keeps no place for a reader, so it is asked for the newest part again and
again, and lines are told apart by their stamps.
"""

import ctypes
import errno
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

KMSG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
_POLL_SECONDS = 0.25  # of syslog(2), which costs 0.4 ms a time
_WAIT_SECONDS = 0.25
# Stamps are taken before a line gets its place, so that neighbours may stand in the wrong order.
_DISORDER_USEC = 1_000_000
_TAIL_BYTES = 64 * 1024
_KERNEL_FACILITY = 0  # what programs write into the log has another one
DRIVER = (b"NVRM: ", b"nvidia-nvswitch")
_LINE = re.compile(rb"^<(?P<priority>\d+)>\[\s*(?P<seconds>\d+)\.(?P<micros>\d{6})\](?:\[[^\]]*\])? ?(?P<text>.*)$")

_READ_ALL, _SIZE_BUFFER = 3, 10  # of klogctl(3)


@dataclass(frozen=True, slots=True)
class KernelLine:
    text: str
    usec: int  # since boot, as the kernel stamped it
    at: datetime
    live: bool  # False: it was there before we began to follow


class KernelLog:
    """Calls `on_line` from a thread of its own for each line that begins with one of `prefixes` and has a later stamp
    than `after_usec`."""

    def __init__(
        self,
        on_line: Callable[[KernelLine], None],
        *,
        after_usec: int | None = None,
        kmsg: Path = KMSG,
        prefixes: tuple[bytes, ...] = DRIVER,
    ) -> None:
        self._on_line = on_line
        self._after_usec = -1 if after_usec is None else after_usec
        self._kmsg = kmsg
        self._prefixes = prefixes
        self._newest = -1  # stamp of the newest line that syslog(2) told
        self._told: set[tuple[int, bytes]] = set()  # its neighbours
        self._stopping = threading.Event()
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kernel-log")
        self.followed_by: str | None = None  # "/dev/kmsg" or "syslog(2)"
        self.problem: str | None = None
        self.since: datetime | None = None  # from here on no line was missed

    def start(self, within_seconds: float = 5) -> None:
        """Returns once the lines that are there already have been handed on."""
        self._thread.start()
        self._caught_up.wait(within_seconds)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(4 * _WAIT_SECONDS)

    def _run(self) -> None:
        try:
            try:
                self._follow_kmsg()
            except PermissionError as refused:
                self._follow_syslog(refused)
            except FileNotFoundError as missing:
                self._follow_syslog(missing)
        except Exception as error:  # the top of the thread: without it the agent would seem to listen
            self.followed_by, self.problem = None, f"the kernel's log is not followed any more: {error}"
            _log.exception("the kernel's log is not followed any more")
        self._caught_up.set()

    # ------------------------------------------------------------------------------------------------ /dev/kmsg

    def _follow_kmsg(self) -> None:
        file = os.open(self._kmsg, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self.followed_by = str(self._kmsg)
            waiting = select.poll()
            waiting.register(file, select.POLLIN)
            while not self._stopping.is_set():
                if not self._read_record(file):
                    self._caught_up.set()
                    waiting.poll(_WAIT_SECONDS * 1000)
        finally:
            os.close(file)

    def _read_record(self, file: int) -> bool:
        """False: there is none yet."""
        try:
            record = os.read(file, _RECORD_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            # The kernel overwrote what we had not read: from here on we know again.
            self.since = datetime.now(UTC)
            return True
        if (parsed := kmsg_record(record)) is not None:
            self._take(*parsed)
        return bool(record)

    # ------------------------------------------------------------------------------------------------ syslog(2)

    def _follow_syslog(self, refused: OSError) -> None:
        source = _Syslog()
        try:
            source.read(1)
        except OSError as error:
            self.problem = (
                f"neither {self._kmsg} ({refused.strerror}) nor syslog(2) ({error.strerror}) can be read:"
                " give the agent's container the capability SYSLOG"
            )
            _log.warning("the kernel's log is not followed", why=self.problem)
            return
        self.followed_by = "syslog(2)"
        while not self._stopping.is_set():
            self._look(source)
            self._caught_up.set()
            self._stopping.wait(_POLL_SECONDS)

    def _look(self, source: "_Syslog") -> None:
        first = self.since is None
        lines = list(syslog_lines(source.read(source.size_bytes if first else _TAIL_BYTES)))
        if not lines:
            self.problem = "the kernel's log has no time stamps (printk.time=0): its lines cannot be told apart"
            return
        if not first and lines[0][0] > self._newest:
            lines = list(syslog_lines(source.read(source.size_bytes)))  # more came than the tail holds
            if lines[0][0] > self._newest:
                self.since = _moment(lines[0][0])
        known_until = self._newest - _DISORDER_USEC
        for line in lines:
            if line[0] > known_until and line not in self._told:
                self._take(*line)
        self._newest = max(self._newest, *(usec for usec, _ in lines))
        self._told = {line for line in lines if line[0] > self._newest - _DISORDER_USEC}

    # ------------------------------------------------------------------------------------------------ both

    def _take(self, usec: int, text: bytes) -> None:
        if self.since is None:
            self.since = _moment(usec)
        if usec <= self._after_usec or not text.startswith(self._prefixes):
            return
        live = self._caught_up.is_set()
        # The kernel's clock wanders from the wall's by seconds over weeks; of a line that just came we know better.
        at = datetime.now(UTC) if live else _moment(usec)
        self._on_line(KernelLine(text.decode(errors="replace"), usec, at, live))


def kmsg_record(record: bytes) -> tuple[int, bytes] | None:
    """(stamp, text) of a record of /dev/kmsg, `6,1234,88710653,-;text`; None if no kernel code wrote it."""
    head, found, text = record.partition(b";")
    fields = head.split(b",")
    if not found or len(fields) < 3 or not (fields[0].isdigit() and fields[2].isdigit()):
        return None
    if int(fields[0]) >> 3 != _KERNEL_FACILITY:
        return None
    return int(fields[2]), text.partition(b"\n")[0]


def syslog_lines(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The same of syslog(2)'s text, `<6>[   88.710653] text`. Lines without a stamp are left out."""
    for line in text.split(b"\n"):
        match = _LINE.match(line)
        if match is not None and int(match["priority"]) >> 3 == _KERNEL_FACILITY:
            yield int(match["seconds"]) * 1_000_000 + int(match["micros"]), match["text"]


class _Syslog:
    """syslog(2), which Python's own syslog module is not about."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.size_bytes = self._call(_SIZE_BUFFER, None, 0)
        self._buffer = ctypes.create_string_buffer(self.size_bytes)

    def read(self, most_bytes: int) -> bytes:
        """The newest part of the log, at most so much. Raises OSError."""
        length = self._call(_READ_ALL, self._buffer, min(most_bytes, self.size_bytes))
        return bytes(memoryview(self._buffer)[:length])

    def _call(self, action: int, buffer: "ctypes.Array[ctypes.c_char] | None", size: int) -> int:
        result: int = self._libc.klogctl(action, buffer, size)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result


def _moment(usec: int) -> datetime:
    booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    return datetime.fromtimestamp(booted + usec / 1e6, UTC)
