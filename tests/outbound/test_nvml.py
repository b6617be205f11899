import pynvml
import pytest

from bot.gpu_readings import Holder
from bot.outbound.nvml import GpuReader
from bot.outbound.nvml_asking import LibraryGoneError
from sandbox.gpu_agent.nvml import LOST, NOT_SUPPORTED, FakeGpu, FakeNvml, error, linked


def read(gpu: FakeGpu, **how):
    return GpuReader(FakeNvml(gpu), 0, **how).read()


def test_what_a_real_h100_answered_is_understood():
    gpu = read(FakeGpu())
    assert (gpu.state, gpu.name, gpu.pci) == ("ok", "NVIDIA H100 80GB HBM3", "00000000:00:06.0")
    assert gpu.label == "GPU 0 (GPU-8128e920, 00:06)"
    assert (gpu.ecc.enabled, gpu.ecc.volatile.uncorrected, gpu.ecc.aggregate.uncorrected) == (True, 0, 0)
    assert (gpu.rows.pending, gpu.rows.failed, gpu.recovery_action) == (False, False, "none")
    assert (gpu.temperature.gpu_celsius, gpu.temperature.margin_celsius) == (34, 53)
    assert (gpu.temperature.gpu_max_celsius, gpu.temperature.slowdown_celsius) == (87, 89)
    assert (gpu.power.draw_watts, gpu.power.limit_watts) == (80.081, 700)
    assert (gpu.pcie.generation, gpu.pcie.width, gpu.pcie.replays) == (5, 16, 1)
    assert gpu.clocks.event_reasons == ("gpu_idle",)
    assert gpu.memory.total_bytes == 85520809984
    assert gpu.missing == {"nvlinks": "not supported by this GPU or driver"}


def test_what_is_not_supported_is_unknown_with_its_reason_and_never_zero():
    refused = {
        name: error(NOT_SUPPORTED)
        for name in ("nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows", "nvmlDeviceGetEccMode")
    }
    gpu = read(FakeGpu(**refused, **{"nvmlDeviceGetFieldValues:230": error(NOT_SUPPORTED)}))
    assert gpu.state == "ok"
    assert (gpu.ecc.volatile.uncorrected, gpu.rows.pending, gpu.ecc.enabled, gpu.recovery_action) == (None,) * 4
    assert set(gpu.missing) >= {"ecc.volatile.uncorrected", "rows", "ecc.enabled", "recovery_action"}


def test_one_refused_reading_leaves_the_others():
    gpu = read(FakeGpu(nvmlDeviceGetPowerUsage=error(pynvml.NVML_ERROR_NO_PERMISSION)))
    assert (gpu.power.draw_watts, gpu.missing["power.draw_watts"]) == (None, "no permission")
    assert gpu.temperature.gpu_celsius == 34


def test_an_older_driver_is_asked_by_the_older_calls():
    gone = error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    gpu = read(
        FakeGpu(
            nvmlDeviceGetTemperatureV=gone,
            nvmlDeviceGetTemperature=61,
            nvmlDeviceGetCurrentClocksEventReasons=gone,
            nvmlDeviceGetCurrentClocksThrottleReasons=0x44,
        )
    )
    assert gpu.temperature.gpu_celsius == 61
    assert gpu.clocks.event_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert {"temperature.gpu_celsius", "clocks.event_reasons"}.isdisjoint(gpu.missing)


def test_a_reason_that_only_a_newer_driver_knows_is_kept():
    assert read(FakeGpu(nvmlDeviceGetCurrentClocksEventReasons=0x1008)).clocks.event_reasons == (
        "hw_slowdown",
        "0x1000",
    )


def test_a_recovery_action_is_told_by_name():
    assert read(FakeGpu(**{"nvmlDeviceGetFieldValues:230": 4})).recovery_action == "drain_and_reset"


def test_a_lost_gpu_is_an_answer_and_keeps_its_name():
    gpu = FakeGpu()
    reader = GpuReader(FakeNvml(gpu), 0)
    known = reader.read()
    gpu.fails(LOST)
    lost = reader.read()
    assert (lost.state, lost.uuid, lost.pci) == ("lost", known.uuid, known.pci)
    assert lost.problem and "fallen off the bus" in lost.problem
    assert (lost.temperature.gpu_celsius, lost.ecc.volatile.uncorrected) == (None, None)


def test_a_gpu_that_is_lost_before_it_was_ever_seen_has_a_place_and_no_name():
    gpu = FakeGpu()
    gpu.fails(LOST)
    lost = read(gpu)
    assert (lost.index, lost.state, lost.uuid) == (0, "lost", None)


def test_a_gpu_that_cannot_be_opened_says_why():
    gpu = read(FakeGpu(nvmlDeviceGetHandleByIndex=error(pynvml.NVML_ERROR_UNKNOWN)))
    assert gpu.state == "unreadable"
    assert gpu.problem and gpu.problem.startswith("NVML cannot open it:")


def test_a_gpu_that_must_be_reset_tells_what_it_still_can():
    gpu = read(FakeGpu(nvmlDeviceGetUtilizationRates=error(pynvml.NVML_ERROR_RESET_REQUIRED)))
    assert (gpu.state, gpu.busy_ratio, gpu.recovery_action) == ("reset_required", None, "none")


def test_a_driver_that_went_away_is_not_the_gpus_fault():
    with pytest.raises(LibraryGoneError):
        read(FakeGpu(nvmlDeviceGetEccMode=error(pynvml.NVML_ERROR_UNINITIALIZED)))


def test_processes_are_told_with_whose_they_are():
    gpu = read(FakeGpu(), holder_of=lambda pid: Holder(pod_uid=f"pod-of-{pid}"))
    (process,) = gpu.processes
    assert (process.pid, process.name, process.memory_bytes) == (663, "/opt/torch/.venv/bin/python3", 543162368)
    assert process.holder == Holder(pod_uid="pod-of-663")


def test_what_never_changes_is_asked_once():
    gpu = FakeGpu()
    reader = GpuReader(FakeNvml(gpu), 0)
    reader.read()
    gpu.asked.clear()
    again = reader.read()
    assert {"nvmlDeviceGetUUID", "nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetSerial"}.isdisjoint(gpu.asked)
    assert (again.uuid, again.temperature.slowdown_celsius) == (reader.known.uuid, 89)


def test_links_errors_are_read_one_link_at_a_time_and_told_from_then_on():
    gpu = FakeGpu(**linked(active=2, links=3))
    reader = GpuReader(FakeNvml(gpu), 0)
    first = reader.read()
    assert reader.has_links
    assert [(link.active, link.replay_errors) for link in first.nvlinks] == [(True, None), (True, None), (False, None)]
    assert first.missing["nvlinks.errors"] == "not all of them have been read yet"
    assert "nvmlDeviceGetNvLinkErrorCounter" not in gpu.asked, "they are slow"
    reader.read_a_link()
    assert [link.replay_errors for link in reader.read().nvlinks] == [0, None, None]
    reader.read_a_link()
    second = reader.read()
    assert [(link.replay_errors, link.crc_errors) for link in second.nvlinks] == [(0, 2), (10, 12), (None, None)]
    assert "nvlinks.errors" not in second.missing
    gpu.answers["nvmlDeviceGetNvLinkErrorCounter"] = lambda number, kind: 99
    reader.read_a_link()
    assert [link.replay_errors for link in reader.read().nvlinks] == [99, 10, None], "and begins anew"


def test_a_link_that_went_down_no_longer_tells_errors():
    gpu = FakeGpu(**linked(active=1, links=1))
    reader = GpuReader(FakeNvml(gpu), 0)
    reader.read()
    reader.read_a_link()
    gpu.answers |= linked(active=0, links=1)
    (link,) = reader.read().nvlinks
    assert (link.active, link.replay_errors, reader.has_links) == (False, None, False)
    reader.read_a_link()


def test_links_whose_errors_are_refused_say_so():
    gpu = FakeGpu(**{**linked(active=1, links=1), "nvmlDeviceGetNvLinkErrorCounter": error(NOT_SUPPORTED)})
    reader = GpuReader(FakeNvml(gpu), 0)
    reader.read()
    reader.read_a_link()
    told = reader.read()
    assert told.nvlinks[0].replay_errors is None
    assert told.missing["nvlinks.replay_errors"] == "not supported by this GPU or driver"


def test_a_gpu_that_is_lost_while_a_link_is_read_is_told_by_the_next_reading():
    gpu = FakeGpu(**linked(active=1))
    reader = GpuReader(FakeNvml(gpu), 0)
    reader.read()
    gpu.fails(LOST)
    reader.read_a_link()
    assert reader.read().state == "lost"
