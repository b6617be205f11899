"""All GPUs of the node through one NVML, none of which may hold up the others or the answer.

A call that hangs in the driver can be neither ended nor skipped. So each GPU is read by a thread of its own, and who
asks waits for it only so long: then the answer is that it has not answered, and since when.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pynvml
import structlog

from bot.gpu_readings import Gpu, Holder, pci_key
from bot.outbound.nvml import GpuReader
from bot.outbound.nvml_asking import LibraryGoneError, said
from bot.outbound.nvml_events import GpuEvents

_log = structlog.get_logger(__name__)

OnEvent = Callable[[GpuReader, str, int, str | None], None]

_HINTS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "Does the pod run with the NVIDIA runtime class, on a node with a driver?",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "Reboot the node, or load the new driver.",
}


@dataclass(frozen=True, slots=True)
class Sweep:
    """`problem`: NVML as a whole does not answer, so that nothing is known of any GPU."""

    gpus: tuple[Gpu, ...]
    problem: str | None
    driver: str | None
    nvml: str | None
    seconds: float


class _GpuThread:
    """Reads the GPU when asked, and between that one NVLink after another."""

    def __init__(self, reader: GpuReader, on_gone: Callable[[], None], link_seconds: float) -> None:
        self._reader = reader
        self._on_gone = on_gone
        self._link_seconds = link_seconds
        self._changed = threading.Condition()
        self._asked = self._begun = self._done = 0
        self._busy_since: float | None = None
        self._told = reader.known
        self._stopping = False
        name = f"gpu-{reader.known.index}"
        threading.Thread(target=self._run, daemon=True, name=name).start()

    @property
    def known(self) -> Gpu:
        return self._reader.known

    def ask(self) -> int:
        """The number of a reading that begins from now on; one is shared by all who ask before it begins."""
        with self._changed:
            self._asked = self._begun + 1
            self._changed.notify_all()
            return self._asked

    def answer(self, number: int, deadline: float) -> Gpu:
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._done >= number or self._stopping, left)
            if self._done >= number:
                return self._told
            if self._stopping:
                return replace(self.known, state="unreadable", problem="NVML is being opened anew")
            since = self._busy_since if self._busy_since is not None else time.monotonic()
            seconds = max(0.0, time.monotonic() - since)
            return replace(self.known, state="silent", problem=f"NVML did not answer for {seconds:.1f} s")

    def stop(self) -> None:
        """It ends when NVML lets it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        link_at = time.monotonic() + self._link_seconds
        while True:
            pause = max(0.0, link_at - time.monotonic()) if self._reader.has_links else None
            with self._changed:
                asked = self._changed.wait_for(lambda: self._stopping or self._asked > self._begun, pause)
                if self._stopping:
                    return
                if asked:
                    self._begun = self._asked
                self._busy_since = time.monotonic()
            if asked:
                told = self._read()
            else:
                told = self._read_a_link()
                link_at = time.monotonic() + self._link_seconds
            with self._changed:
                self._told, self._done, self._busy_since = told, self._begun, None
                self._changed.notify_all()

    def _read(self) -> Gpu:
        try:
            return self._reader.read()
        except LibraryGoneError as gone:
            self._on_gone()
            return replace(self.known, state="unreadable", problem=str(gone))
        except Exception as error:  # the top of the thread: without it this GPU would be silent for ever
            _log.exception("a GPU could not be read", gpu=self.known.index)
            return replace(self.known, state="unreadable", problem=f"could not be read: {error}")

    def _read_a_link(self) -> Gpu:
        try:
            self._reader.read_a_link()
        except LibraryGoneError:
            self._on_gone()
        except Exception:  # as above
            _log.exception("an NVLink could not be read", gpu=self.known.index)
        return self._told


class NvmlNode:
    """`nvml` is pynvml, or for unit tests what looks like it."""

    def __init__(
        self,
        nvml: Any = None,
        *,
        on_event: OnEvent = lambda gpu, kind, data, instance: None,
        holder_of: Callable[[int], Holder | None] = lambda pid: None,
        patience_seconds: float = 2.0,
        retry_seconds: float = 10.0,
        link_seconds: float = 2.0,
    ) -> None:
        self._nvml = nvml or pynvml
        self._on_event = on_event
        self._holder_of = holder_of
        self._patience_seconds = patience_seconds
        self._retry_seconds = retry_seconds
        self._link_seconds = link_seconds
        self._changed = threading.Condition()
        self._threads: tuple[_GpuThread, ...] = ()
        self._events: tuple[GpuEvents, ...] = ()
        self._versions: tuple[str | None, str | None] = (None, None)
        self._problem: str | None = None
        self._opening_since: float | None = None
        self._tries = 0
        self._wanted = True
        self._stopping = False
        self._opener = threading.Thread(target=self._run, daemon=True, name="nvml")

    def start(self) -> None:
        """Returns after the first try to open NVML, or when that takes too long."""
        self._opener.start()
        with self._changed:
            self._changed.wait_for(lambda: self._tries > 0, self._patience_seconds)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._end_threads()

    @property
    def listening(self) -> bool:
        """Do all GPUs' events reach us?"""
        return bool(self._events) and all(events.listening for events in self._events)

    def uuid_of(self, pci: str) -> str | None:
        return next((t.known.uuid for t in self._threads if t.known.pci and pci_key(t.known.pci) == pci), None)

    def sweep(self) -> Sweep:
        began = time.monotonic()
        deadline = began + self._patience_seconds
        asked = [(thread, thread.ask()) for thread in self._threads]
        gpus = tuple(thread.answer(number, deadline) for thread, number in asked)
        return Sweep(gpus, self._why_nothing(), *self._versions, time.monotonic() - began)

    def _why_nothing(self) -> str | None:
        since = self._opening_since
        if since is not None and time.monotonic() - since > self._patience_seconds:
            return f"NVML did not open for {time.monotonic() - since:.1f} s: the driver hangs"
        if self._threads:
            return self._problem
        return self._problem or "NVML is being opened"

    # ------------------------------------------------------------------------------------------------ opening

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopping)
                if self._stopping:
                    return
                self._wanted = False
                self._opening_since = time.monotonic()
            opened = self._open()
            with self._changed:
                self._opening_since = None
                self._tries += 1
                self._changed.notify_all()
                if not opened:
                    self._changed.wait_for(lambda: self._stopping, self._retry_seconds)
                    self._wanted = True

    def _open(self) -> bool:
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._versions = (self._nvml.nvmlSystemGetDriverVersion(), self._nvml.nvmlSystemGetNVMLVersion())
        except pynvml.NVMLError as error:
            hint = _HINTS.get(error.value)
            self._give_up(f"{said(error)}. {hint}" if hint else said(error))
            return False
        except Exception as error:  # the top of the thread
            _log.exception("NVML could not be opened")
            self._give_up(f"NVML could not be opened: {error}")
            return False
        if count == 0:
            self._give_up("the driver sees no GPU")
            return False
        self._end_threads()
        readers = [GpuReader(self._nvml, index, holder_of=self._holder_of) for index in range(count)]
        self._threads = tuple(_GpuThread(reader, self._reopen, self._link_seconds) for reader in readers)
        self._events = tuple(GpuEvents(self._nvml, index, self._on_event) for index in range(count))
        for events in self._events:
            events.start()
        self._problem = None
        return True

    def _end_threads(self) -> None:
        for thread in self._threads:
            thread.stop()
        for events in self._events:
            events.stop()

    def _give_up(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("NVML does not answer", why=problem)
        self._problem = problem

    def _reopen(self) -> None:
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
