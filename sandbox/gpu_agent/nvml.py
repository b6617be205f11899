"""NVML as an H100 answered it: every answer can be replaced, by an error or by silence, too."""

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDED = json.loads((Path(__file__).parents[2] / "tests" / "payloads" / "nvml-h100-calls.json").read_text())
NO_INSTANCE = 0xFFFFFFFF


def error(code: int) -> pynvml.NVMLError:
    return pynvml.NVMLError(code)


LOST = pynvml.NVML_ERROR_GPU_IS_LOST
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


class FakeGpu:
    """`answers`: function name, or name and arguments ("nvmlDeviceGetFieldValues:230"), -> a value, an NVMLError, or a
    function of the arguments. What is not there is what the H100 said."""

    def __init__(self, uuid: str | None = None, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"nvmlDeviceGetUUID": uuid or RECORDED["calls"]["nvmlDeviceGetUUID"][""]}
        self.answers |= answers
        self.events: queue.Queue[Any] = queue.Queue()
        self.asked: list[str] = []

    def xid(self, number: int, *, instance: int = NO_INSTANCE) -> None:
        self.happens(pynvml.nvmlEventTypeXidCriticalError, number, instance)

    def happens(self, kind: int, data: int, instance: int = NO_INSTANCE) -> None:
        self.events.put(
            SimpleNamespace(eventType=kind, eventData=data, gpuInstanceId=instance, computeInstanceId=NO_INSTANCE)
        )

    def fails(self, code: int) -> None:
        """Every question from now on, and who waits for events."""
        self.answers["*"] = error(code)
        self.events.put(error(code))

    def hangs(self, until: threading.Event) -> None:
        self.answers["*"] = lambda *_: until.wait(30) and None

    def answer(self, name: str, args: tuple[Any, ...]) -> Any:
        self.asked.append(name)
        shown = ",".join(str(a) for a in args if isinstance(a, int))
        for key in ("*", f"{name}:{shown}", name):
            if key in self.answers:
                return _said(self.answers[key], args)
        told = RECORDED["calls"].get(name)
        if told is None or shown not in told:
            raise error(NOT_SUPPORTED)
        return _said(told[shown], args)


def linked(active: int, links: int = 4) -> dict[str, Any]:
    """Answers of a GPU with `links` NVLinks, of which the first `active` are up."""

    def state(number: int) -> int:
        if number >= links:
            raise error(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return int(number < active)

    return {
        "nvmlDeviceGetNvLinkState": state,
        "nvmlDeviceGetNvLinkErrorCounter": lambda number, kind: 10 * number + kind,
    }


def _said(value: Any, args: tuple[Any, ...]) -> Any:
    if isinstance(value, pynvml.NVMLError):
        raise value
    if isinstance(value, dict) and "error" in value:
        raise error(value["error"])
    if callable(value):
        return value(*args)
    if isinstance(value, dict):
        return SimpleNamespace(**value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [SimpleNamespace(**one) for one in value]
    return value


class FakeNvml:
    """Looks like pynvml, as far as the agent uses it."""

    def __init__(self, *gpus: FakeGpu, init: Callable[[], None] = lambda: None) -> None:
        self.gpus = list(gpus)
        self.init = init

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)

        def call(gpu: FakeGpu, *args: Any) -> Any:
            return gpu.answer(name, args)

        return call

    def nvmlInit(self) -> None:
        self.init()

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self.gpus[index].answer("nvmlDeviceGetHandleByIndex", ()) if "*" in self.gpus[index].answers else None
        opened = self.gpus[index].answers.get("nvmlDeviceGetHandleByIndex")
        if isinstance(opened, pynvml.NVMLError):
            raise opened
        return self.gpus[index]

    def nvmlSystemGetDriverVersion(self) -> str:
        return str(RECORDED["driver"])

    def nvmlSystemGetNVMLVersion(self) -> str:
        return str(RECORDED["nvml"])

    def nvmlSystemGetProcessName(self, pid: int) -> bytes:
        name = RECORDED["calls"]["nvmlSystemGetProcessName"].get(str(pid))
        if name is None:
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return str(name).encode()

    # What fills a structure of the caller's, or returns some of its own.

    def nvmlDeviceGetSramEccErrorStatus(self, gpu: FakeGpu, into: Any) -> int:
        told = gpu.answer("nvmlDeviceGetSramEccErrorStatus", ())
        for name, value in vars(told).items():
            setattr(into._obj, name, value)
        return int(pynvml.NVML_SUCCESS)

    def nvmlDeviceGetGpuFabricInfoV(self, gpu: FakeGpu, into: Any) -> int:
        told = gpu.answer("nvmlDeviceGetGpuFabricInfoV", ())
        into._obj.state, into._obj.status = told.state, told.status
        return int(pynvml.NVML_SUCCESS)

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: list[int]) -> list[Any]:
        gpu.answer("nvmlDeviceGetFieldValues", ()) if "nvmlDeviceGetFieldValues" in gpu.answers else None
        return [_field(gpu, number) for number in fields]

    # Events

    def nvmlEventSetCreate(self) -> dict[str, Any]:
        return {}

    def nvmlEventSetFree(self, events: dict[str, Any]) -> None:
        events.clear()

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, mask: int, events: dict[str, Any]) -> None:
        gpu.answers["mask"] = mask
        events["gpu"] = gpu

    def nvmlEventSetWait_v2(self, events: dict[str, Any], milliseconds: int) -> Any:
        try:
            event = events["gpu"].events.get(timeout=milliseconds / 1000)
        except queue.Empty:
            raise error(pynvml.NVML_ERROR_TIMEOUT) from None
        if isinstance(event, pynvml.NVMLError):
            raise event
        return event


def _field(gpu: FakeGpu, number: int) -> Any:
    try:
        value = gpu.answer("nvmlDeviceGetFieldValues", (number,))
    except pynvml.NVMLError as refused:
        if "*" in gpu.answers:
            raise
        return SimpleNamespace(nvmlReturn=refused.value, value=SimpleNamespace(uiVal=0))
    return SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=value))
