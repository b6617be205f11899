import pynvml

from bot.outbound import nvml_readings as readings
from bot.outbound.nvml_asking import Asking
from sandbox.gpu_agent.nvml import NOT_SUPPORTED, FakeGpu, FakeNvml, error, linked


def asking(**answers) -> Asking:
    gpu = FakeGpu(**answers)
    return Asking(FakeNvml(gpu), gpu)


def test_links_are_told_as_they_stand():
    gpu = asking(**linked(active=2, links=3))
    assert [(link.link, link.active) for link in readings.nvlinks(gpu)] == [(0, True), (1, True), (2, False)]
    assert "nvlinks" not in gpu.missing


def test_a_links_errors_are_told_by_kind():
    found = readings.nvlink_errors(asking(**linked(active=2)), 1)
    assert (found.link, found.replay_errors, found.recovery_errors, found.crc_errors) == (1, 10, 11, 12)


def test_a_gpu_without_links_has_none():
    gpu = asking()
    assert readings.nvlinks(gpu) is None
    assert gpu.missing == {"nvlinks": "not supported by this GPU or driver"}


def test_the_fabrics_state_is_told_in_words():
    assert readings.fabric(asking()) is None
    assert readings.fabric(asking(nvmlDeviceGetGpuFabricInfoV={"state": 3, "status": 0})) == "completed"
    assert readings.fabric(asking(nvmlDeviceGetGpuFabricInfoV={"state": 2, "status": 0})) == "in_progress"
    assert readings.fabric(asking(nvmlDeviceGetGpuFabricInfoV={"state": 3, "status": 999})) == "completed, error 999"
    assert readings.fabric(asking(nvmlDeviceGetGpuFabricInfoV=error(NOT_SUPPORTED))) is None


def test_an_old_driver_tells_memory_without_what_it_reserves():
    told = readings.memory(asking(**{"nvmlDeviceGetMemoryInfo:33554472": error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)}))
    assert (told.total_bytes, told.reserved_bytes) == (85520809984, None)
    assert told.used_bytes and told.used_bytes > 0


def test_counts_come_by_where_the_errors_were():
    sram = {"volatileUncParity": 1, "volatileUncSecDed": 2, "aggregateUncParity": 3, "bThresholdExceeded": 1}
    told = readings.ecc(
        asking(
            **{
                "nvmlDeviceGetSramEccErrorStatus": sram,
                "nvmlDeviceGetTotalEccErrors:1,0": 7,
                "nvmlDeviceGetMemoryErrorCounter:1,0,2": 4,
            }
        )
    )
    assert (told.volatile.uncorrected, told.volatile.dram_uncorrected) == (7, 4)
    assert (told.volatile.sram_uncorrected_parity, told.volatile.sram_uncorrected_secded) == (1, 2)
    assert (told.aggregate.sram_uncorrected_parity, told.sram_threshold_exceeded) == (3, True)


def test_with_ecc_off_nothing_is_known_of_errors():
    refused = error(NOT_SUPPORTED)
    told = readings.ecc(
        asking(
            nvmlDeviceGetEccMode=[0, 1],
            nvmlDeviceGetTotalEccErrors=refused,
            nvmlDeviceGetMemoryErrorCounter=refused,
            nvmlDeviceGetSramEccErrorStatus=refused,
        )
    )
    assert (told.enabled, told.enabled_after_reset) == (False, True)
    assert told.volatile == told.aggregate
    assert told.volatile.uncorrected is None
    assert told.sram_threshold_exceeded is None


def test_a_pending_remap_and_a_failed_one():
    told = readings.rows(asking(nvmlDeviceGetRemappedRows=[2, 3, 1, 1]))
    assert (told.correctable, told.uncorrectable, told.pending, told.failed) == (2, 3, True, True)
