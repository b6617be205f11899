"""dcgm-exporter's series as readings of GPUs. What it does not export is None and says so: it is not zero.

The exporter chooses its fields by a list, from which memory errors are missing unless somebody adds them. In version
4.9 most fields got other names; both are known here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bot.gpu_readings import Clocks, Ecc, EccCounts, Gpu, Pcie, Power, RowRemapping, Temperature
from bot.ports import Sample
from bot.vllm import clocks
from bot.vllm.xids import recovery_action

# Reading -> the field's names, the older first.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "temperature.gpu_celsius": ("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_TEMP_CELSIUS"),
    "temperature.memory_celsius": ("DCGM_FI_DEV_MEMORY_TEMP", "DCGM_FI_DEV_MEMORY_TEMP_CELSIUS"),
    "temperature.margin_celsius": ("DCGM_FI_DEV_GPU_TEMP_LIMIT", "DCGM_FI_DEV_GPU_TEMP_MARGIN_CELSIUS"),
    "temperature.gpu_max_celsius": ("DCGM_FI_DEV_GPU_MAX_OP_TEMP", "DCGM_FI_DEV_GPU_MAX_OP_TEMP_CELSIUS"),
    "temperature.memory_max_celsius": ("DCGM_FI_DEV_MEM_MAX_OP_TEMP", "DCGM_FI_DEV_MEMORY_MAX_OP_TEMP_CELSIUS"),
    "temperature.slowdown_celsius": ("DCGM_FI_DEV_SLOWDOWN_TEMP", "DCGM_FI_DEV_GPU_TEMP_SLOWDOWN_CELSIUS"),
    "temperature.shutdown_celsius": ("DCGM_FI_DEV_SHUTDOWN_TEMP", "DCGM_FI_DEV_GPU_TEMP_SHUTDOWN_CELSIUS"),
    "power.draw_watts": ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_BOARD_POWER_WATTS"),
    "power.limit_watts": ("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "DCGM_FI_DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS"),
    "clocks.event_reasons": ("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"),
    "ecc.volatile.corrected": ("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",),
    "ecc.volatile.uncorrected": ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",),
    "ecc.aggregate.corrected": ("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",),
    "ecc.aggregate.uncorrected": ("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",),
    "ecc.sram_threshold_exceeded": ("DCGM_FI_DEV_THRESHOLD_SRM", "DCGM_FI_DEV_SRAM_EXCEEDED"),
    "ecc.unrepairable_memory": ("DCGM_FI_DEV_MEMORY_UNREPAIRABLE_FLAG", "DCGM_FI_DEV_MEMORY_UNREPAIRABLE"),
    "rows.correctable": ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_ROW_REMAP_CORRECTABLE_TOTAL"),
    "rows.uncorrectable": ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_ROW_REMAP_UNCORRECTABLE_TOTAL"),
    "rows.pending": ("DCGM_FI_DEV_ROW_REMAP_PENDING",),
    "rows.failed": ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "DCGM_FI_DEV_ROW_REMAP_FAILED"),
    "recovery_action": ("DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION", "DCGM_FI_DEV_GPU_RECOVERY_ACTION"),
    "pcie.replays": ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "DCGM_FI_DEV_PCIE_REPLAY_TOTAL"),
}
# How busy a GPU is, the older name first. In version 4.9 percents became ratios, with the name.
UTILIZATION = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO")  # of time with any kernel; not on MIG slices
ENGINE_ACTIVE = ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO")  # both ratios; MIG slices, too
# The last one seen, for ever: 0 is none since the exporter's start.
XID = ("DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_XID_ERROR")

# The exporter's own label changed its spelling in 2026; the others come from relabelling.
NODE_LABELS = ("Hostname", "hostname", "node", "kubernetes_node", "exported_node")


def names(readings: Iterable[str]) -> tuple[str, ...]:
    """Of the fields that tell these readings."""
    return tuple(name for reading in readings for name in FIELDS[reading])


def busy_ratio(matcher: str, span: str) -> str:
    """PromQL of how busy GPUs are over `span`, each once. Only of exporters that answer now: avg_over_time alone would
    go on telling of one that has died."""
    percent, ratio = (f"(avg_over_time({n}{{{matcher}}}[{span}]) and {n}{{{matcher}}})" for n in UTILIZATION)
    # DCGM 4.6 had the ratio's name for its percents: where a value was over 1, none is taken for a ratio.
    ratio = f"({ratio} unless on() (max(max_over_time({UTILIZATION[1]}[1h])) > 1))"
    active = (f"(avg_over_time({n}{{{matcher}}}[{span}]) and {n}{{{matcher}}})" for n in ENGINE_ACTIVE)
    return " or ".join((f"{percent} / 100", ratio, *active))


def gpus_of(samples: Sequence[Sample], readings: Sequence[str]) -> tuple[tuple[str | None, Gpu], ...]:
    """Each with its node. `samples` carry their field in `__name__`; those of one GPU agree in its UUID, or its node
    and number."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    labels: dict[tuple[str, ...], Mapping[str, str]] = {}
    reading_of = {name: reading for reading in readings for name in FIELDS[reading]}
    for sample in samples:
        if (reading := reading_of.get(sample.labels.get("__name__", ""))) is not None:
            key = gpu_key(sample.labels)
            # A MIG slice repeats what the whole GPU says.
            found.setdefault(key, {}).setdefault(reading, sample.value)
            labels.setdefault(key, sample.labels)
    return tuple((node_of(labels[key]), _gpu(labels[key], values, readings)) for key, values in sorted(found.items()))


def gpu_key(labels: Mapping[str, str]) -> tuple[str, ...]:
    uuid = labels.get("UUID") or labels.get("uuid")
    return (uuid,) if uuid else (node_of(labels) or "", labels.get("gpu", ""))


def node_of(labels: Mapping[str, str]) -> str | None:
    return next((labels[name] for name in NODE_LABELS if labels.get(name)), None)


def _gpu(labels: Mapping[str, str], values: Mapping[str, float], readings: Sequence[str]) -> Gpu:
    index = labels.get("gpu", "")

    def number(reading: str) -> int | None:
        return round(values[reading]) if reading in values else None

    def flag(reading: str) -> bool | None:
        return values[reading] != 0 if reading in values else None

    bits, action = number("clocks.event_reasons"), number("recovery_action")
    return Gpu(
        index=int(index) if index.isdecimal() else 0,
        uuid=labels.get("UUID") or labels.get("uuid"),
        pci=labels.get("pci_bus_id"),
        name=labels.get("modelName"),
        ecc=Ecc(
            volatile=_counts("volatile", number),
            aggregate=_counts("aggregate", number),
            sram_threshold_exceeded=flag("ecc.sram_threshold_exceeded"),
            unrepairable_memory=flag("ecc.unrepairable_memory"),
        ),
        rows=RowRemapping(
            correctable=number("rows.correctable"),
            uncorrectable=number("rows.uncorrectable"),
            pending=flag("rows.pending"),
            failed=flag("rows.failed"),
        ),
        recovery_action=None if action is None else recovery_action(action),
        temperature=_temperature(number),
        power=Power(draw_watts=values.get("power.draw_watts"), limit_watts=values.get("power.limit_watts")),
        clocks=Clocks(event_reasons=None if bits is None else clocks.reasons(bits)),
        pcie=Pcie(replays=number("pcie.replays")),
        missing={r: f"{FIELDS[r][0]} is not exported" for r in readings if r not in values},
    )


def _counts(life: str, number: Callable[[str], int | None]) -> EccCounts:
    return EccCounts(number(f"ecc.{life}.corrected"), number(f"ecc.{life}.uncorrected"))


def _temperature(number: Callable[[str], int | None]) -> Temperature:
    told = Temperature(
        gpu_celsius=number("temperature.gpu_celsius"),
        memory_celsius=number("temperature.memory_celsius"),
        margin_celsius=number("temperature.margin_celsius"),
        gpu_max_celsius=number("temperature.gpu_max_celsius"),
        memory_max_celsius=number("temperature.memory_max_celsius"),
        slowdown_celsius=number("temperature.slowdown_celsius"),
        shutdown_celsius=number("temperature.shutdown_celsius"),
    )
    # A GPU without such a sensor is exported as 0 °C.
    return replace(told, memory_celsius=told.memory_celsius or None)
