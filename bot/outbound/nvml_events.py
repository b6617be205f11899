"""Xids and other critical events, as NVML tells them: at once, and only to whoever listens at that moment."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml
import structlog

from bot.outbound.nvml import GpuReader
from bot.outbound.nvml_asking import GpuLostError, LibraryGoneError, judged, said

_log = structlog.get_logger(__name__)

# A change of clocks or P-state is no trouble, and corrected errors come by the thousand.
KINDS = {
    pynvml.nvmlEventTypeXidCriticalError: "xid",
    pynvml.nvmlEventTypeDoubleBitEccError: "double_bit_ecc",
    pynvml.nvmlEventTypeDramRetirementEvent: "row_remapping",
    pynvml.nvmlEventTypeDramRetirementFailure: "row_remapping_failed",
    pynvml.nvmlEventTypeNonFatalPoisonError: "poison",
    pynvml.nvmlEventTypeFatalPoisonError: "fatal_poison",
    pynvml.nvmlEventTypeGpuUnavailableError: "gpu_unavailable",
    pynvml.nvmlEventTypeGpuRecoveryAction: "recovery_action",
}
_WAIT_MILLISECONDS = 1000
_RETRY_SECONDS = 30.0
_NO_INSTANCE = 0xFFFFFFFF


class GpuEvents:
    """One GPU's, in a thread of its own with an event set of its own: a GPU that is lost must not silence the others.

    `on_event(gpu, kind, data, mig_instance)`; `data` is the Xid for kind "xid". A GPU that NVML calls lost is told
    once as kind "gpu_lost".
    """

    def __init__(self, nvml: Any, index: int, on_event: Callable[[GpuReader, str, int, str | None], None]) -> None:
        self._nvml = nvml
        self._gpu = GpuReader(nvml, index)  # of its own: handles are cheap, and a reader is for one thread
        self._on_event = on_event
        self._stopping = threading.Event()
        self._lost = False
        self.listening = False
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"gpu-events-{index}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                try:
                    self._listen()
                except pynvml.NVMLError as error:
                    judged(error)
                    raise
            except GpuLostError:
                self._tell_lost()
            except LibraryGoneError as error:
                self.problem = str(error)
                return  # whoever opens NVML anew makes new ones
            except pynvml.NVMLError as error:
                self.problem = said(error)
            except Exception as error:  # the top of the thread
                self.problem = f"stopped: {error}"
                _log.exception("listening to NVML's events failed", gpu=self._gpu.known.index)
            self.listening = False
            self._stopping.wait(_RETRY_SECONDS)

    def _listen(self) -> None:
        handle = self._gpu.open()
        supported = self._nvml.nvmlDeviceGetSupportedEventTypes(handle)
        events = self._nvml.nvmlEventSetCreate()
        try:
            self._nvml.nvmlDeviceRegisterEvents(handle, supported & sum(KINDS), events)
            self.listening, self.problem = True, None
            while not self._stopping.is_set():
                event = self._next(events)
                self._lost = False
                if event is not None:
                    self._tell(event)
        finally:
            with suppress(pynvml.NVMLError):
                self._nvml.nvmlEventSetFree(events)

    def _next(self, events: Any) -> Any:
        """None: nothing happened for a while."""
        try:
            return self._nvml.nvmlEventSetWait_v2(events, _WAIT_MILLISECONDS)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise

    def _tell(self, event: Any) -> None:
        kind = KINDS.get(event.eventType, f"event 0x{event.eventType:x}")
        parts = [part for part in (event.gpuInstanceId, event.computeInstanceId) if part != _NO_INSTANCE]
        self._on_event(self._gpu, kind, int(event.eventData), "/".join(map(str, parts)) or None)

    def _tell_lost(self) -> None:
        self.problem = "the GPU is lost"
        if not self._lost:
            self._lost = True
            self._on_event(self._gpu, "gpu_lost", 0, None)
