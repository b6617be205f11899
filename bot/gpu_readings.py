"""What the agent on a GPU node tells of it: the values that travel from there to here.

None is "not known" and never zero; `missing` says why. Fields have defaults, so that an agent and a bot of different
versions understand one another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a GPU is, or a process on it."""

    pod_uid: str | None = None
    namespace: str | None = None  # None: only the process is known, and the node does not know its pod's name
    pod: str | None = None
    container: str | None = None
    by: Literal["kubelet", "process"] = "process"  # who says so: the kubelet's allocation, or a process' cgroup


@dataclass(frozen=True, slots=True)
class EccCounts:
    """`corrected` and `uncorrected` are the totals over SRAM and DRAM."""

    corrected: int | None = None
    uncorrected: int | None = None
    sram_corrected: int | None = None
    sram_uncorrected_parity: int | None = None
    sram_uncorrected_secded: int | None = None
    dram_corrected: int | None = None
    dram_uncorrected: int | None = None


@dataclass(frozen=True, slots=True)
class Ecc:
    enabled: bool | None = None
    enabled_after_reset: bool | None = None
    volatile: EccCounts = EccCounts()  # since the driver was loaded, or the GPU was reset
    aggregate: EccCounts = EccCounts()  # over its life
    sram_threshold_exceeded: bool | None = None  # NVIDIA's criterion for a replacement
    channel_repair_pending: bool | None = None
    tpc_repair_pending: bool | None = None
    unrepairable_memory: bool | None = None


@dataclass(frozen=True, slots=True)
class RowRemapping:
    correctable: int | None = None
    uncorrectable: int | None = None
    pending: bool | None = None  # takes effect at the next reset; the GPU may be used until then
    failed: bool | None = None  # NVIDIA's criterion for a replacement
    banks_without_spare_rows: int | None = None
    banks_with_few_spare_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Temperature:
    """Thresholds are the device's own: they differ by model."""

    gpu_celsius: int | None = None
    memory_celsius: int | None = None
    margin_celsius: int | None = None  # how much it may still warm up to its highest operating temperature
    gpu_max_celsius: int | None = None
    memory_max_celsius: int | None = None
    slowdown_celsius: int | None = None
    shutdown_celsius: int | None = None


@dataclass(frozen=True, slots=True)
class Power:
    draw_watts: float | None = None
    limit_watts: float | None = None
    default_limit_watts: float | None = None
    min_limit_watts: float | None = None
    max_limit_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    sm_mhz: int | None = None
    max_sm_mhz: int | None = None
    event_reasons: tuple[str, ...] | None = None  # why they are lower than they could be: "sw_power_cap" …


@dataclass(frozen=True, slots=True)
class Pcie:
    generation: int | None = None
    max_generation: int | None = None
    width: int | None = None
    max_width: int | None = None
    replays: int | None = None


@dataclass(frozen=True, slots=True)
class NvLink:
    """Errors are counted since the driver was loaded. They are up to a minute old, unlike every other reading."""

    link: int
    active: bool | None = None
    replay_errors: int | None = None
    recovery_errors: int | None = None
    crc_errors: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    total_bytes: int | None = None
    used_bytes: int | None = None  # without what the driver reserves for itself
    free_bytes: int | None = None
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    pid: int
    name: str | None = None
    memory_bytes: int | None = None
    holder: Holder | None = None


GpuState = Literal[
    "ok",
    "lost",  # fell off the bus: NVML says so
    "reset_required",
    "silent",  # NVML has not answered; `problem` says for how long
    "unreadable",  # NVML answered with an error; `problem` says which
]


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    state: GpuState = "ok"
    problem: str | None = None
    uuid: str | None = None
    pci: str | None = None  # as NVML writes it: 00000000:3b:00.0
    name: str | None = None
    serial: str | None = None
    vbios: str | None = None
    mig: bool | None = None
    ecc: Ecc = Ecc()
    rows: RowRemapping = RowRemapping()
    recovery_action: str | None = None  # "none", "gpu_reset" …: what the driver asks for
    temperature: Temperature = Temperature()
    power: Power = Power()
    clocks: Clocks = Clocks()
    pcie: Pcie = Pcie()
    nvlinks: tuple[NvLink, ...] | None = None
    fabric: str | None = None  # "in_progress", "completed", or an error; None: not on a fabric
    memory: Memory = Memory()
    busy_ratio: float | None = None  # share of the last moments in which any kernel ran
    memory_busy_ratio: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    holders: tuple[Holder, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)  # reading -> why there is none

    @property
    def label(self) -> str:
        """`GPU 3 (GPU-8128e920, 3b:00)`: short, and enough to find it."""
        known = [self.uuid[:12] if self.uuid else None, pci_key(self.pci)[5:] if self.pci else None]
        return f"GPU {self.index} ({', '.join(k for k in known if k)})" if any(known) else f"GPU {self.index}"


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """Something the driver reported about a GPU. One event may stand for many lines of the same burst."""

    id: str
    seq: int
    at: datetime
    last_at: datetime
    kind: str = "xid"  # or "sxid" (an NVSwitch), "double_bit_ecc", "recovery_action", "gpu_lost" …
    xid: int | None = None
    count: int = 1
    gpu_uuid: str | None = None
    pci: str | None = None  # domain:bus:device
    message: str | None = None  # the driver's own words, from the kernel's log
    pid: int | None = None
    process: str | None = None
    mig_instance: str | None = None
    seen_by: tuple[str, ...] = ()  # "nvml", "kernel_log"
    holders: tuple[Holder, ...] = ()
    live: bool = True  # False: found in the kernel's log, from before the agent watched


@dataclass(frozen=True, slots=True)
class EventPage:
    """`ring` changes when an agent has lost its history: sequence numbers then begin anew."""

    ring: str
    last_seq: int
    events: tuple[GpuEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Watching:
    """How far back the agent's silence about Xids means that there were none."""

    since: datetime  # whatever happened after it would have been seen
    nvml: bool = False
    kernel_log: str | None = None  # "/dev/kmsg" or "syslog(2)"; None: not read
    kernel_log_problem: str | None = None
    history_problem: str | None = None  # events may not survive a restart of the agent


@dataclass(frozen=True, slots=True)
class GpuNode:
    node: str
    at: datetime
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None  # NVML as a whole: no driver, a version mismatch …
    driver: str | None = None
    nvml: str | None = None
    sweep_seconds: float | None = None
    watching: Watching | None = None
    booted_at: datetime | None = None  # of the node
    holders_by: Literal["kubelet", "processes"] | None = None  # what joins GPUs to pods here
    holders_problem: str | None = None


def pci_key(address: str) -> str:
    """`00000000:3B:00.0`, `PCI:0000:3b:00` and `0000:3b:00` are one: domain:bus:device, small letters."""
    parts = address.lower().removeprefix("pci:").partition(".")[0].split(":")
    parts = ["0", *parts] if len(parts) == 2 else parts
    if len(parts) != 3:
        return address.lower()
    return f"{parts[0].lstrip('0'):0>4}:{parts[1]:0>2}:{parts[2]:0>2}"
