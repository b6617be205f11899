import pynvml
import pytest

from bot.outbound.nvml_asking import Asking, GpuLostError, LibraryGoneError, said
from sandbox.gpu_agent.nvml import LOST, FakeGpu, FakeNvml, error


def asking(**answers) -> Asking:
    gpu = FakeGpu(**answers)
    return Asking(FakeNvml(gpu), gpu)


def test_an_answer_takes_its_old_reason_away():
    gpu = asking(nvmlDeviceGetPowerUsage=error(pynvml.NVML_ERROR_UNKNOWN))
    assert gpu.ask("power", "nvmlDeviceGetPowerUsage") is None
    assert gpu.missing == {"power": "Unknown Error"}
    gpu.handle.answers["nvmlDeviceGetPowerUsage"] = 5
    assert gpu.ask("power", "nvmlDeviceGetPowerUsage") == 5
    assert gpu.missing == {}


def test_a_refusal_is_not_asked_again_by_the_older_call():
    gpu = asking(nvmlDeviceGetTemperatureV=error(pynvml.NVML_ERROR_NO_PERMISSION), nvmlDeviceGetTemperature=50)
    assert gpu.ask("t", "nvmlDeviceGetTemperatureV", 0, before="nvmlDeviceGetTemperature") is None
    assert gpu.missing == {"t": "no permission"}


def test_a_binding_that_is_too_old_for_a_call_says_so():
    class Old:
        pass

    gpu = Asking(Old(), None)
    assert gpu.ask("x", "nvmlDeviceGetSomething") is None
    assert gpu.missing == {"x": "this pynvml has no nvmlDeviceGetSomething"}


def test_a_lost_gpu_is_not_asked_further():
    with pytest.raises(GpuLostError):
        asking(nvmlDeviceGetPowerUsage=error(LOST)).ask("power", "nvmlDeviceGetPowerUsage")


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    ],
)
def test_a_driver_that_went_away_is_told_apart(code):
    with pytest.raises(LibraryGoneError):
        asking(nvmlDeviceGetPowerUsage=error(code)).ask("power", "nvmlDeviceGetPowerUsage")


def test_a_needed_reset_is_remembered():
    gpu = asking(nvmlDeviceGetPowerUsage=error(pynvml.NVML_ERROR_RESET_REQUIRED))
    gpu.ask("power", "nvmlDeviceGetPowerUsage")
    assert gpu.reset_required


def test_no_driver_is_said_in_words():
    assert said(error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)).startswith("no NVIDIA driver here")
