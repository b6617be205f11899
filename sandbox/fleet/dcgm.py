"""The page that NVIDIA's dcgm-exporter would serve about a node's GPUs: its names, types and labels."""

import uuid
from collections.abc import Callable, Mapping

from sandbox.fleet.gpus import BUSY_MHZ, IDLE_MHZ, Exporter, GpuState, replaced

DRIVER = "580.159.04"
# An H200's own.
MAX_OPERATING_CELSIUS, SLOWDOWN_CELSIUS, SHUTDOWN_CELSIUS = 87, 89, 95

# field -> (type, help, value); The exporter's default list, in its order.
_Value = Callable[[GpuState], float]
DEFAULT_FIELDS: Mapping[str, tuple[str, str, _Value]] = {
    "DCGM_FI_DEV_SM_CLOCK": ("gauge", "SM clock in MHz.", lambda g: BUSY_MHZ if g.busy_ratio > 0.01 else IDLE_MHZ),
    "DCGM_FI_DEV_MEM_CLOCK": ("gauge", "Memory clock in MHz.", lambda g: 2619),
    "DCGM_FI_DEV_MEMORY_TEMP": (
        "gauge",
        "Memory temperature in C.",
        lambda g: round(replaced(g.readings.memory_temperature_celsius, g.celsius + 8)),
    ),
    "DCGM_FI_DEV_GPU_TEMP": (
        "gauge",
        "GPU temperature in C.",
        lambda g: round(replaced(g.readings.temperature_celsius, g.celsius)),
    ),
    "DCGM_FI_DEV_POWER_USAGE": (
        "gauge",
        "Power draw in W.",
        lambda g: round(replaced(g.readings.power_watts, g.watts), 3),
    ),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": (
        "counter",
        "Energy used since boot in mJ.",
        lambda g: round(g.energy_millijoules),
    ),
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": ("counter", "PCIe retries.", lambda g: g.readings.pcie_replays or 0),
    "DCGM_FI_DEV_GPU_UTIL": (
        "gauge",
        "Share of time with a kernel running in %.",
        lambda g: round(replaced(g.readings.utilization_percent, 100 * g.busy_ratio)),
    ),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("gauge", "Memory utilization in %.", lambda g: round(60 * g.busy_ratio)),
    "DCGM_FI_DEV_ENC_UTIL": ("gauge", "Encoder utilization in %.", lambda g: 0),
    "DCGM_FI_DEV_DEC_UTIL": ("gauge", "Decoder utilization in %.", lambda g: 0),
    "DCGM_FI_DEV_XID_ERRORS": ("gauge", "Last Xid.", lambda g: g.readings.xid or 0),
    "DCGM_FI_DEV_FB_FREE": ("gauge", "Free memory in MiB.", lambda g: g.node.gpu.memory_mib - g.used_mib),
    "DCGM_FI_DEV_FB_USED": ("gauge", "Used memory in MiB.", lambda g: g.used_mib),
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS": ("gauge", "vGPU license status.", lambda g: 0),
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": (
        "counter",
        "Rows remapped for uncorrectable errors.",
        lambda g: g.readings.uncorrectable_remapped_rows or 0,
    ),
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": (
        "counter",
        "Rows remapped for correctable errors.",
        lambda g: g.readings.correctable_remapped_rows or 0,
    ),
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": ("gauge", "Did a remap fail?", lambda g: int(g.readings.row_remap_failure or 0)),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("gauge", "Ratio of time the engine was active.", lambda g: g.busy_ratio),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("gauge", "Ratio of tensor cycles.", lambda g: 0.45 * g.busy_ratio),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("gauge", "Ratio of memory cycles.", lambda g: 0.6 * g.busy_ratio),
}
# What the exporter knows but does not export unless its list of counters is edited.
EXTRA_FIELDS: Mapping[str, tuple[str, str, _Value]] = {
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": (
        "counter",
        "Single-bit volatile errors.",
        lambda g: g.readings.ecc_single_bit or 0,
    ),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": (
        "counter",
        "Double-bit volatile errors.",
        lambda g: g.readings.ecc_double_bit or 0,
    ),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": ("counter", "Single-bit errors ever.", lambda g: g.readings.ecc_single_bit or 0),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": ("counter", "Double-bit errors ever.", lambda g: g.readings.ecc_double_bit or 0),
    "DCGM_FI_DEV_ROW_REMAP_PENDING": ("gauge", "Is a remap pending?", lambda g: int(g.readings.row_remap_pending or 0)),
    "DCGM_FI_DEV_THRESHOLD_SRM": ("gauge", "Is the SRAM threshold exceeded?", lambda g: 0),
    "DCGM_FI_DEV_MEMORY_UNREPAIRABLE_FLAG": (
        "gauge",
        "Is memory beyond repair?",
        lambda g: int(g.readings.memory_unrepairable or 0),
    ),
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": (
        "gauge",
        "Why clocks are low, as bits.",
        lambda g: replaced(g.readings.clock_event_reasons, 0 if g.busy_ratio > 0.01 else 1),
    ),
    "DCGM_FI_DEV_GPU_TEMP_LIMIT": (
        "gauge",
        "Margin to the highest operating temperature in C.",
        lambda g: MAX_OPERATING_CELSIUS - round(replaced(g.readings.temperature_celsius, g.celsius)),
    ),
    "DCGM_FI_DEV_SLOWDOWN_TEMP": ("gauge", "Where it slows itself down in C.", lambda g: SLOWDOWN_CELSIUS),
    "DCGM_FI_DEV_SHUTDOWN_TEMP": ("gauge", "Where it shuts down in C.", lambda g: SHUTDOWN_CELSIUS),
    "DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION": (
        "gauge",
        "What the driver asks for.",
        lambda g: g.readings.recovery_action or 0,
    ),
}


def page(exporter: Exporter) -> str:
    fields = {**DEFAULT_FIELDS, **{name: spec for name, spec in EXTRA_FIELDS.items() if name in exporter.extra}}
    labels = [_labels(gpu) for gpu in exporter.gpus]
    lines: list[str] = []
    for name, (kind, about, value) in fields.items():
        if name not in exporter.hidden:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{{{of}}} {value(gpu):f}" for of, gpu in zip(labels, exporter.gpus, strict=True)]
    return "\n".join(lines) + "\n"


def uuid_of(node: str, index: int) -> str:
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{node}/{index}')}"


def pci_of(index: int) -> str:
    return f"00000000:{0x10 + index * 8:02X}:00.0"


def _labels(state: GpuState) -> str:
    owner = state.owner
    labels = {
        "gpu": str(state.index),
        "UUID": uuid_of(state.node.name, state.index),
        "pci_bus_id": pci_of(state.index),
        "device": f"nvidia{state.index}",
        "modelName": state.node.gpu.product.replace("-", " "),
        "Hostname": state.node.name,
        "DCGM_FI_DRIVER_VERSION": DRIVER,
    }
    if owner is not None:
        labels |= {"container": owner.container, "namespace": owner.namespace, "pod": owner.pod}
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
