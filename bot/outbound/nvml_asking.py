"""One question to NVML after another, about one GPU: an answer, or why there is none."""

import functools
from collections.abc import Callable
from typing import Any

import pynvml

_WORDS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not supported by this GPU or driver",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver does not have it",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "this driver does not have it",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU must be reset first",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver here: libnvidia-ml.so.1 was not found",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated, but the old one still runs in the kernel",
}
# An older call may know what this one does not.
_NOT_THERE = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
}
# The library as a whole is gone, not this GPU: the driver was unloaded or replaced under us.
_LIBRARY_GONE = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}


class LibraryGoneError(Exception):
    """NVML must be opened anew."""


class GpuLostError(Exception):
    """The GPU has fallen off the bus; no other question to it makes sense."""


def said(error: Any) -> str:
    """An NVMLError in words."""
    return _WORDS.get(error.value, str(error))


def judged(error: Any) -> None:
    """Raises LibraryGoneError or GpuLostError if that is what the NVMLError means; returns if it is about one call."""
    if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
        raise GpuLostError from error
    if error.value in _LIBRARY_GONE:
        raise LibraryGoneError(said(error)) from error


class Asking:
    """`missing`: reading -> why it has no value. `nvml` is pynvml, or what looks like it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml = nvml
        self.handle = handle
        self.missing: dict[str, str] = {}
        self.reset_required = False

    def ask(self, reading: str, call: str, *args: Any, before: str | None = None) -> Any:
        """`call(handle, *args)`, or None. `before`: what older drivers or libraries have instead."""
        for name in (call, before):
            if name is None:
                continue
            function = getattr(self.nvml, name, None)
            if function is None:
                self.missing[reading] = f"this pynvml has no {name}"
                continue
            found, again = self._tried(reading, functools.partial(function, self.handle, *args))
            if not again:
                return found
        return None

    def tried(self, reading: str, work: Callable[[], Any]) -> Any:
        """For what takes more than one call, or none of the GPU's."""
        return self._tried(reading, work)[0]

    def _tried(self, reading: str, work: Callable[[], Any]) -> tuple[Any, bool]:
        """The answer, and whether an older call should be tried."""
        try:
            found = work()
        except pynvml.NVMLError as error:
            judged(error)
            self.reset_required |= error.value == pynvml.NVML_ERROR_RESET_REQUIRED
            self.missing[reading] = said(error)
            return None, error.value in _NOT_THERE
        self.missing.pop(reading, None)
        return found, False
