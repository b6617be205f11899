"""One GPU, read through NVML. What it does not tell is None with its reason; a lost GPU is an answer, too."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pynvml

from bot.gpu_readings import Gpu, GpuProcess, Holder, NvLink
from bot.outbound import nvml_readings as readings
from bot.outbound.nvml_asking import Asking, GpuLostError, judged, said
from bot.vllm.xids import recovery_action

_MOST_PROCESSES = 64


class GpuReader:
    """A GPU by its place among those of this process. For one thread at a time.

    `nvml` is pynvml, or for unit tests what looks like it. `holder_of` knows whose a process is.
    """

    def __init__(self, nvml: Any, index: int, *, holder_of: Callable[[int], Holder | None] = lambda pid: None) -> None:
        self._nvml = nvml
        self._holder_of = holder_of
        self._handle: Any = None
        # What never changes, so that a GPU that no longer answers can still be named.
        self.known = Gpu(index)
        self._known_missing: Mapping[str, str] = {}
        # Links that were up at the last reading; with their errors as far as they have been read.
        self._links: dict[int, NvLink | None] = {}
        self._links_missing: Mapping[str, str] = {}
        self._next_link = 0

    def open(self) -> Any:
        """Its handle. Raises NVMLError, GpuLostError, LibraryGoneError."""
        if self._handle is None:
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(self.known.index)
            except pynvml.NVMLError as error:
                judged(error)
                raise
            self._learn(handle)
            self._handle = handle
        return self._handle

    def read(self) -> Gpu:
        """Raises LibraryGoneError only."""
        try:
            asking = Asking(self._nvml, self.open())
            told = self._told(asking)
        except GpuLostError:
            return replace(self.known, state="lost", problem="has fallen off the bus (NVML: GPU is lost)")
        except pynvml.NVMLError as error:
            return self._not_opened(error)
        missing = {**self._known_missing, **asking.missing}
        if asking.reset_required:
            return replace(
                told, state="reset_required", problem="must be reset before it is used again", missing=missing
            )
        return replace(told, missing=missing)

    @property
    def has_links(self) -> bool:
        return bool(self._links)

    def read_a_link(self) -> None:
        """The errors of the next link that is up: the next readings tell them. Raises LibraryGoneError only."""
        number = min((link for link in self._links if link >= self._next_link), default=min(self._links, default=None))
        if number is None:
            return
        self._next_link = number + 1
        try:
            asking = Asking(self._nvml, self.open())
            self._links[number] = readings.nvlink_errors(asking, number)
        except (GpuLostError, pynvml.NVMLError):
            return  # the next reading says so
        self._links_missing = asking.missing

    def _with_errors(self, links: tuple[NvLink, ...] | None, missing: dict[str, str]) -> tuple[NvLink, ...] | None:
        self._links = {one.link: self._links.get(one.link) for one in links or () if one.active}
        if links is None:
            return None
        missing |= self._links_missing
        if None in self._links.values():
            missing.setdefault("nvlinks.errors", "not all of them have been read yet")
        return tuple(self._links.get(one.link) or one for one in links)

    def _not_opened(self, error: Any) -> Gpu:
        if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
            return replace(self.known, state="reset_required", problem="must be reset before it is used again")
        return replace(self.known, state="unreadable", problem=f"NVML cannot open it: {said(error)}")

    def _learn(self, handle: Any) -> None:
        gpu = Asking(self._nvml, handle)
        place = gpu.ask("pci", "nvmlDeviceGetPciInfo_v3")
        self.known = Gpu(
            index=self.known.index,
            uuid=gpu.ask("uuid", "nvmlDeviceGetUUID"),
            pci=None if place is None else _text(place.busId),
            name=gpu.ask("name", "nvmlDeviceGetName"),
            serial=gpu.ask("serial", "nvmlDeviceGetSerial"),
            vbios=gpu.ask("vbios", "nvmlDeviceGetVbiosVersion"),
            temperature=readings.thresholds(gpu),
            power=readings.power_limits(gpu),
            clocks=readings.most_clocks(gpu),
            pcie=readings.widest_pcie(gpu),
        )
        self._known_missing = gpu.missing

    def _told(self, gpu: Asking) -> Gpu:
        known = self.known
        memory_celsius, action = readings.fields(gpu)
        celsius, margin = readings.temperature(gpu)
        draw, limit = readings.power(gpu)
        sm_mhz, reasons = readings.clocks(gpu)
        generation, width, replays = readings.pcie(gpu)
        busy = gpu.ask("busy_ratio", "nvmlDeviceGetUtilizationRates")
        mig = gpu.ask("mig", "nvmlDeviceGetMigMode")
        return replace(
            known,
            mig=None if mig is None else bool(mig[0]),
            ecc=readings.ecc(gpu),
            rows=readings.rows(gpu),
            recovery_action=None if action is None else recovery_action(action),
            temperature=replace(
                known.temperature, gpu_celsius=celsius, memory_celsius=memory_celsius, margin_celsius=margin
            ),
            power=replace(known.power, draw_watts=draw, limit_watts=limit),
            clocks=replace(known.clocks, sm_mhz=sm_mhz, event_reasons=reasons),
            pcie=replace(known.pcie, generation=generation, width=width, replays=replays),
            nvlinks=self._with_errors(readings.nvlinks(gpu), gpu.missing),
            fabric=readings.fabric(gpu),
            memory=readings.memory(gpu),
            busy_ratio=None if busy is None else busy.gpu / 100,
            memory_busy_ratio=None if busy is None else busy.memory / 100,
            processes=self._processes(gpu),
        )

    def _processes(self, gpu: Asking) -> tuple[GpuProcess, ...] | None:
        running = gpu.ask("processes", "nvmlDeviceGetComputeRunningProcesses")
        if running is None:
            return None
        return tuple(
            GpuProcess(one.pid, self._name_of(one.pid), one.usedGpuMemory, self._holder_of(one.pid))
            for one in running[:_MOST_PROCESSES]
        )

    def _name_of(self, pid: int) -> str | None:
        # Outside of the node's own process namespace NVML knows the number and not the name.
        name = Asking(self._nvml, None).tried("name", lambda: self._nvml.nvmlSystemGetProcessName(pid))
        return None if name is None else _text(name)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
