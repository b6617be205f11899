"""What NVML tells of a GPU, subject by subject.

Measured on an H100 (driver 580): most calls cost microseconds once warm; a clock or the temperature margin costs about
a millisecond, and the energy counter three, which is why that one is not read. An NVLink's error counter costs 0.7:
four of 18 links each on two GPUs took 200, so links are read one by one, while nobody asks.
"""

import ctypes
from typing import Any

import pynvml

from bot.gpu_readings import Clocks, Ecc, EccCounts, Memory, NvLink, Pcie, Power, RowRemapping, Temperature
from bot.outbound.nvml_asking import Asking
from bot.vllm.clocks import reasons

_FABRIC = {1: "not_started", 2: "in_progress", 3: "completed"}


# ---------------------------------------------------------------------------------------------- what never changes


def thresholds(gpu: Asking) -> Temperature:
    def threshold(reading: str, which: int) -> Any:
        return gpu.ask(f"temperature.{reading}", "nvmlDeviceGetTemperatureThreshold", which)

    return Temperature(
        shutdown_celsius=threshold("shutdown_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
        slowdown_celsius=threshold("slowdown_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
        memory_max_celsius=threshold("memory_max_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
        gpu_max_celsius=threshold("gpu_max_celsius", pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
    )


def power_limits(gpu: Asking) -> Power:
    default = gpu.ask("power.default_limit_watts", "nvmlDeviceGetPowerManagementDefaultLimit")
    range_ = gpu.ask("power.max_limit_watts", "nvmlDeviceGetPowerManagementLimitConstraints")
    least, most = range_ or (None, None)
    return Power(default_limit_watts=_watts(default), min_limit_watts=_watts(least), max_limit_watts=_watts(most))


def most_clocks(gpu: Asking) -> Clocks:
    return Clocks(max_sm_mhz=gpu.ask("clocks.max_sm_mhz", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM))


def widest_pcie(gpu: Asking) -> Pcie:
    return Pcie(
        max_generation=gpu.ask("pcie.max_generation", "nvmlDeviceGetMaxPcieLinkGeneration"),
        max_width=gpu.ask("pcie.max_width", "nvmlDeviceGetMaxPcieLinkWidth"),
    )


# ---------------------------------------------------------------------------------------------- memory


def ecc(gpu: Asking) -> Ecc:
    now, after = gpu.ask("ecc.enabled", "nvmlDeviceGetEccMode") or (None, None)
    sram = pynvml.c_nvmlEccSramErrorStatus_v1_t()  # filled in place
    if gpu.ask("ecc.sram", "nvmlDeviceGetSramEccErrorStatus", ctypes.byref(sram)) is None:
        sram = None
    channel, tpc = gpu.ask("ecc.repair", "nvmlDeviceGetRepairStatus") or (None, None)
    beyond = gpu.ask("ecc.unrepairable_memory", "nvmlDeviceGetUnrepairableMemoryFlag_v1")
    return Ecc(
        enabled=_flag(now),
        enabled_after_reset=_flag(after),
        volatile=_counts(gpu, "volatile", pynvml.NVML_VOLATILE_ECC, sram),
        aggregate=_counts(gpu, "aggregate", pynvml.NVML_AGGREGATE_ECC, sram),
        sram_threshold_exceeded=_flag(getattr(sram, "bThresholdExceeded", None)),
        channel_repair_pending=_flag(channel),
        tpc_repair_pending=_flag(tpc),
        unrepairable_memory=_flag(beyond),
    )


def _counts(gpu: Asking, life: str, counter: int, sram: Any) -> EccCounts:
    corrected, uncorrected = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED

    def total(reading: str, kind: int) -> Any:
        return gpu.ask(f"ecc.{life}.{reading}", "nvmlDeviceGetTotalEccErrors", kind, counter)

    def dram(reading: str, kind: int) -> Any:
        call, where = "nvmlDeviceGetMemoryErrorCounter", pynvml.NVML_MEMORY_LOCATION_DRAM
        return gpu.ask(f"ecc.{life}.{reading}", call, kind, counter, where)

    return EccCounts(
        corrected=total("corrected", corrected),
        uncorrected=total("uncorrected", uncorrected),
        sram_corrected=getattr(sram, f"{life}Cor", None),
        sram_uncorrected_parity=getattr(sram, f"{life}UncParity", None),
        sram_uncorrected_secded=getattr(sram, f"{life}UncSecDed", None),
        dram_corrected=dram("dram_corrected", corrected),
        dram_uncorrected=dram("dram_uncorrected", uncorrected),
    )


def rows(gpu: Asking) -> RowRemapping:
    remapped = gpu.ask("rows", "nvmlDeviceGetRemappedRows")
    banks = gpu.ask("rows.banks", "nvmlDeviceGetRowRemapperHistogram")
    correctable, uncorrectable, pending, failed = remapped or (None, None, None, None)
    return RowRemapping(
        correctable=correctable,
        uncorrectable=uncorrectable,
        pending=_flag(pending),
        failed=_flag(failed),
        banks_without_spare_rows=None if banks is None else banks.none,
        banks_with_few_spare_rows=None if banks is None else banks.low,
    )


def memory(gpu: Asking) -> Memory:
    told = gpu.ask("memory", "nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    if told is None:
        told = gpu.ask("memory", "nvmlDeviceGetMemoryInfo")  # older drivers: "used" includes what is reserved
    return Memory() if told is None else Memory(told.total, told.used, told.free, getattr(told, "reserved", None))


# ---------------------------------------------------------------------------------------------- the chip


def fields(gpu: Asking) -> tuple[int | None, int | None]:
    """Memory temperature and recovery action: NVML has no other call for them."""
    wanted = {
        "temperature.memory_celsius": pynvml.NVML_FI_DEV_MEMORY_TEMP,
        "recovery_action": pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
    }
    values = gpu.ask("recovery_action", "nvmlDeviceGetFieldValues", list(wanted.values()))
    if values is None:
        gpu.missing["temperature.memory_celsius"] = gpu.missing["recovery_action"]
        return None, None
    temperature, action = (_field(gpu, name, value) for name, value in zip(wanted, values, strict=True))
    return temperature, action


def _field(gpu: Asking, reading: str, value: Any) -> int | None:
    def number() -> int:
        if value.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(value.nvmlReturn)
        found: int = value.value.uiVal
        return found

    answer: int | None = gpu.tried(reading, number)
    return answer


def temperature(gpu: Asking) -> tuple[int | None, int | None]:
    """Now, and the margin to the highest operating temperature."""
    now = gpu.ask(
        "temperature.gpu_celsius",
        "nvmlDeviceGetTemperatureV",
        pynvml.NVML_TEMPERATURE_GPU,
        before="nvmlDeviceGetTemperature",
    )
    return now, gpu.ask("temperature.margin_celsius", "nvmlDeviceGetMarginTemperature")


def power(gpu: Asking) -> tuple[float | None, float | None]:
    """Draw, and the limit that holds now."""
    draw = gpu.ask("power.draw_watts", "nvmlDeviceGetPowerUsage")
    return _watts(draw), _watts(gpu.ask("power.limit_watts", "nvmlDeviceGetEnforcedPowerLimit"))


def clocks(gpu: Asking) -> tuple[int | None, tuple[str, ...] | None]:
    """The SM clock, and why it is lower than it could be."""
    bits = gpu.ask(
        "clocks.event_reasons",
        "nvmlDeviceGetCurrentClocksEventReasons",
        before="nvmlDeviceGetCurrentClocksThrottleReasons",
    )
    now = gpu.ask("clocks.sm_mhz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)
    return now, None if bits is None else reasons(bits)


# ---------------------------------------------------------------------------------------------- links


def pcie(gpu: Asking) -> tuple[int | None, int | None, int | None]:
    """Generation and width now, and the replays since the driver was loaded."""
    return (
        gpu.ask("pcie.generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        gpu.ask("pcie.width", "nvmlDeviceGetCurrPcieLinkWidth"),
        gpu.ask("pcie.replays", "nvmlDeviceGetPcieReplayCounter"),
    )


def nvlinks(gpu: Asking) -> tuple[NvLink, ...] | None:
    """Without their errors. None: the GPU has none."""
    links: list[NvLink] = []
    for number in range(pynvml.NVML_NVLINK_MAX_LINKS):
        active = gpu.ask("nvlinks", "nvmlDeviceGetNvLinkState", number)
        if active is None:  # "invalid argument" after the last one there is
            break
        links.append(NvLink(number, active=bool(active)))
    if not links:
        return None
    gpu.missing.pop("nvlinks", None)
    return tuple(links)


def nvlink_errors(gpu: Asking, link: int) -> NvLink:
    """Of one link that is up. It takes two milliseconds, and several GPUs wait for one another."""

    def errors(reading: str, counter: int) -> Any:
        return gpu.ask(f"nvlinks.{reading}", "nvmlDeviceGetNvLinkErrorCounter", link, counter)

    # There is a fourth, "CRC data", which counts on links that nvidia-smi calls free of errors.
    return NvLink(
        link,
        active=True,
        replay_errors=errors("replay_errors", pynvml.NVML_NVLINK_ERROR_DL_REPLAY),
        recovery_errors=errors("recovery_errors", pynvml.NVML_NVLINK_ERROR_DL_RECOVERY),
        crc_errors=errors("crc_errors", pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT),
    )


def fabric(gpu: Asking) -> str | None:
    """None: not on a fabric."""
    for info in (pynvml.c_nvmlGpuFabricInfo_v3_t(), pynvml.c_nvmlGpuFabricInfo_v2_t()):
        if gpu.ask("fabric", "nvmlDeviceGetGpuFabricInfoV", ctypes.byref(info)) is None:
            continue
        if info.state == 0:
            return None
        state = _FABRIC.get(info.state, f"state {info.state}")
        return state if info.status == 0 else f"{state}, error {info.status}"
    return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)
