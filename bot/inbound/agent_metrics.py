"""The agent's readings as Prometheus metrics: what is not known has no series, and is never zero."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bot.gpu_readings import Gpu, GpuEvent, GpuNode
from bot.vllm.xids import recovery_actions, xid

_PREFIX = "vllm_oncall_gpu_"
_LABELS = ("gpu", "uuid", "pci_bus_id", "model")

Reading = Callable[[Gpu], float | bool | None]

_GAUGES: dict[str, tuple[str, Reading]] = {
    "answers": ("1 if NVML answered for this GPU, 0 if it is lost or silent.", lambda g: g.state == "ok"),
    "temperature_celsius": ("GPU temperature.", lambda g: g.temperature.gpu_celsius),
    "memory_temperature_celsius": ("Memory temperature.", lambda g: g.temperature.memory_celsius),
    "temperature_margin_celsius": (
        "How much it may still warm up to its highest operating temperature.",
        lambda g: g.temperature.margin_celsius,
    ),
    "slowdown_temperature_celsius": (
        "Where the device slows itself down.",
        lambda g: g.temperature.slowdown_celsius,
    ),
    "power_watts": ("Power draw.", lambda g: g.power.draw_watts),
    "power_limit_watts": ("The limit that holds now.", lambda g: g.power.limit_watts),
    "busy_ratio": ("Share of the last moments in which any kernel ran.", lambda g: g.busy_ratio),
    "memory_used_bytes": ("Memory in use.", lambda g: g.memory.used_bytes),
    "memory_total_bytes": ("Memory in all.", lambda g: g.memory.total_bytes),
    "row_remap_pending": ("1 if a row is remapped at the next reset.", lambda g: g.rows.pending),
    "row_remap_failed": ("1 if a row could not be remapped.", lambda g: g.rows.failed),
    "sram_threshold_exceeded": (
        "1 if NVIDIA's criterion for a replacement holds.",
        lambda g: g.ecc.sram_threshold_exceeded,
    ),
    "pcie_width": ("PCIe lanes in use.", lambda g: g.pcie.width),
    "pcie_max_width": ("PCIe lanes there are.", lambda g: g.pcie.max_width),
    "nvlinks_inactive": (
        "NVLinks that are down.",
        lambda g: None if g.nvlinks is None else sum(link.active is False for link in g.nvlinks),
    ),
}
_COUNTERS: dict[str, tuple[str, Reading]] = {
    "ecc_corrected": ("Corrected errors since the last reset.", lambda g: g.ecc.volatile.corrected),
    "ecc_uncorrected": ("Uncorrected errors since the last reset.", lambda g: g.ecc.volatile.uncorrected),
    "ecc_uncorrected_life": ("Uncorrected errors over its life.", lambda g: g.ecc.aggregate.uncorrected),
    "remapped_rows_correctable": ("Rows remapped for correctable errors.", lambda g: g.rows.correctable),
    "remapped_rows_uncorrectable": ("Rows remapped for uncorrectable errors.", lambda g: g.rows.uncorrectable),
    "pcie_replays": ("PCIe replays.", lambda g: g.pcie.replays),
}


class _Collector:
    def __init__(self, snapshot: Callable[[], GpuNode], events: Callable[[], tuple[GpuEvent, ...]]) -> None:
        self._snapshot = snapshot
        self._events = events

    def collect(self) -> Iterator[Metric]:
        node = self._snapshot()
        up = GaugeMetricFamily(f"{_PREFIX}nvml_up", "1 if NVML can be asked on this node.")
        up.add_metric([], float(node.problem is None))
        yield up
        if node.sweep_seconds is not None:
            yield GaugeMetricFamily(f"{_PREFIX}sweep_seconds", "Time of one reading of all GPUs.", node.sweep_seconds)
        for name, (about, reading) in _GAUGES.items():
            yield from _family(GaugeMetricFamily(_PREFIX + name, about, labels=_LABELS), node, reading)
        for name, (about, reading) in _COUNTERS.items():
            yield from _family(CounterMetricFamily(_PREFIX + name, about, labels=_LABELS), node, reading)
        yield _recovery(node)
        yield _xids(self._events())


def registry(snapshot: Callable[[], GpuNode], events: Callable[[], tuple[GpuEvent, ...]]) -> CollectorRegistry:
    made = CollectorRegistry(auto_describe=False)
    made.register(_Collector(snapshot, events))
    return made


def _family(family: GaugeMetricFamily | CounterMetricFamily, node: GpuNode, reading: Reading) -> Iterator[Metric]:
    for gpu in node.gpus:
        if (value := reading(gpu)) is not None:
            family.add_metric(_labels(gpu), float(value))
    if family.samples:
        yield family


def _recovery(node: GpuNode) -> Metric:
    about = "1 for the action that the driver asks for."
    family = GaugeMetricFamily(f"{_PREFIX}recovery_action", about, labels=(*_LABELS, "action"))
    for gpu in node.gpus:
        if gpu.recovery_action is not None:
            actions = dict.fromkeys([*recovery_actions(), gpu.recovery_action])
            for action in actions:
                family.add_metric([*_labels(gpu), action], float(action == gpu.recovery_action))
    return family


def _xids(events: tuple[GpuEvent, ...]) -> Metric:
    about = "Xids that are kept of this GPU. An old one may be forgotten: use increase() only over short ranges."
    family = CounterMetricFamily(f"{_PREFIX}xids", about, labels=("uuid", "pci_bus_id", "xid", "class"))
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for event in events:
        if event.kind == "xid" and event.xid is not None:
            where = event.gpu_uuid or "", event.pci or ""
            counts[(*where, str(event.xid), xid(event.xid).class_.value)] += event.count
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family


def _labels(gpu: Gpu) -> tuple[str, str, str, str]:
    return str(gpu.index), gpu.uuid or "", gpu.pci or "", gpu.name or ""
