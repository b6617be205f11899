"""Every field of the agent's answer beside the same in `nvidia-smi -q -x`. A field without a row here is a mistake."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from bot.gpu_readings import Gpu

Outcome = Literal["same", "within", "both unknown", "differs"]

# Not read from the GPU, or not in nvidia-smi's answer.
NOT_COMPARED: Mapping[str, str] = {
    "index": "the order of the two lists",
    "state": "the agent's own judgement",
    "problem": "the agent's own judgement",
    "holders": "the kubelet's word, not NVML's",
    "missing": "the agent's reasons",
    "nvlinks": "nvidia-smi -q has none; `nvidia-smi nvlink` is compared in their place",
    "temperature.memory_max_celsius": "nvidia-smi tells it as a margin that it does not say the base of",
}


@dataclass(frozen=True, slots=True)
class Row:
    """`tolerance`: how far a value that changes from moment to moment may lie outside of what the agent read just
    before and just after nvidia-smi."""

    path: str
    smi: Callable[[ElementTree.Element], Any]
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    field: str
    agent: Any
    smi: Any
    outcome: Outcome


def _text(path: str) -> Callable[[ElementTree.Element], str | None]:
    def find(gpu: ElementTree.Element) -> str | None:
        text = (gpu.findtext(path) or "").strip()
        return None if text in ("", "N/A", "[N/A]", "Unknown Error") else text

    return find


def _number(path: str, factor: float = 1) -> Callable[[ElementTree.Element], float | None]:
    def find(gpu: ElementTree.Element) -> float | None:
        match = re.match(r"-?[\d.]+", _text(path)(gpu) or "")
        return float(match[0]) * factor if match else None

    return find


def _yes(path: str, yes: str) -> Callable[[ElementTree.Element], bool | None]:
    def find(gpu: ElementTree.Element) -> bool | None:
        text = _text(path)(gpu)
        return None if text is None else text == yes

    return find


def _sum(*paths: str) -> Callable[[ElementTree.Element], float | None]:
    def find(gpu: ElementTree.Element) -> float | None:
        found = [_number(path)(gpu) for path in paths]
        return None if None in found else sum(value for value in found if value is not None)

    return find


def _limit(direct: str, margin: str) -> Callable[[ElementTree.Element], float | None]:
    """Newer drivers tell a threshold as its distance from the highest operating temperature."""

    def find(gpu: ElementTree.Element) -> float | None:
        known = _number(f"temperature/{direct}")(gpu)
        now, left = _number("temperature/gpu_temp")(gpu), _number("temperature/gpu_temp_tlimit")(gpu)
        distance = _number(f"temperature/{margin}")(gpu)
        if known is not None or None in (now, left, distance):
            return known
        return (now or 0) + (left or 0) - (distance or 0)

    return find


def _reasons(gpu: ElementTree.Element) -> tuple[str, ...] | None:
    found = gpu.find("clocks_event_reasons")
    if found is None:
        return None
    active = [one.tag.removeprefix("clocks_event_reason_") for one in found if (one.text or "").strip() == "Active"]
    return tuple(sorted({"display_clocks_setting": "display_clock_setting"}.get(name, name) for name in active))


def _action(gpu: ElementTree.Element) -> str | None:
    text = _text("gpu_recovery_action")(gpu)
    return None if text is None else text.lower().replace(" ", "_")


def _processes(gpu: ElementTree.Element) -> tuple[tuple[int, str, int], ...]:
    found = []
    for one in gpu.findall("processes/process_info"):
        if "C" in (one.findtext("type") or ""):
            memory = int((one.findtext("used_memory") or "0").split()[0])
            found.append((int(one.findtext("pid") or 0), (one.findtext("process_name") or "").strip(), memory))
    return tuple(sorted(found))


def _counts(life: str) -> Iterator[Row]:
    smi, ours = f"ecc_errors/{life}", f"ecc.{life}"
    parity, secded, dram = (
        f"{smi}/{name}" for name in ("sram_uncorrectable_parity", "sram_uncorrectable_secded", "dram_uncorrectable")
    )
    yield Row(f"{ours}.corrected", _sum(f"{smi}/sram_correctable", f"{smi}/dram_correctable"))
    yield Row(f"{ours}.uncorrected", _sum(parity, secded, dram))
    yield Row(f"{ours}.sram_corrected", _number(f"{smi}/sram_correctable"))
    yield Row(f"{ours}.sram_uncorrected_parity", _number(parity))
    yield Row(f"{ours}.sram_uncorrected_secded", _number(secded))
    yield Row(f"{ours}.dram_corrected", _number(f"{smi}/dram_correctable"))
    yield Row(f"{ours}.dram_uncorrected", _number(dram))


_MIB = 2**20
_BANKS = "remapped_rows/row_remapper_histogram/row_remapper_histogram"
_LINK = "pci/pci_gpu_link_info"
ROWS: tuple[Row, ...] = (
    Row("uuid", _text("uuid")),
    Row("pci", lambda gpu: gpu.get("id")),
    Row("name", _text("product_name")),
    Row("serial", _text("serial")),
    Row("vbios", _text("vbios_version")),
    Row("mig", _yes("mig_mode/current_mig", "Enabled")),
    Row("ecc.enabled", _yes("ecc_mode/current_ecc", "Enabled")),
    Row("ecc.enabled_after_reset", _yes("ecc_mode/pending_ecc", "Enabled")),
    *_counts("volatile"),
    *_counts("aggregate"),
    Row("ecc.sram_threshold_exceeded", _yes("ecc_errors/aggregate/sram_threshold_exceeded", "Yes")),
    Row("ecc.channel_repair_pending", _yes("ecc_errors/channel_repair_pending", "Yes")),
    Row("ecc.tpc_repair_pending", _yes("ecc_errors/tpc_repair_pending", "Yes")),
    Row("ecc.unrepairable_memory", _yes("ecc_errors/unrepairable_memory", "Yes")),
    Row("rows.correctable", _number("remapped_rows/remapped_row_corr")),
    Row("rows.uncorrectable", _number("remapped_rows/remapped_row_unc")),
    Row("rows.pending", _yes("remapped_rows/remapped_row_pending", "Yes")),
    Row("rows.failed", _yes("remapped_rows/remapped_row_failure", "Yes")),
    Row("rows.banks_without_spare_rows", _number(f"{_BANKS}_none")),
    Row("rows.banks_with_few_spare_rows", _number(f"{_BANKS}_low")),
    Row("recovery_action", _action),
    Row("temperature.gpu_celsius", _number("temperature/gpu_temp"), 2),
    Row("temperature.memory_celsius", _number("temperature/memory_temp"), 2),
    Row("temperature.margin_celsius", _number("temperature/gpu_temp_tlimit"), 2),
    Row("temperature.gpu_max_celsius", _limit("gpu_temp_max_gpu_threshold", "gpu_temp_max_gpu_tlimit_threshold"), 1),
    Row("temperature.slowdown_celsius", _limit("gpu_temp_slow_threshold", "gpu_temp_slow_tlimit_threshold"), 1),
    Row("temperature.shutdown_celsius", _limit("gpu_temp_max_threshold", "gpu_temp_max_tlimit_threshold"), 1),
    Row("power.draw_watts", _number("gpu_power_readings/average_power_draw"), 25),
    Row("power.limit_watts", _number("gpu_power_readings/current_power_limit")),
    Row("power.default_limit_watts", _number("gpu_power_readings/default_power_limit")),
    Row("power.min_limit_watts", _number("gpu_power_readings/min_power_limit")),
    Row("power.max_limit_watts", _number("gpu_power_readings/max_power_limit")),
    Row("clocks.sm_mhz", _number("clocks/sm_clock"), 30),
    Row("clocks.max_sm_mhz", _number("max_clocks/sm_clock")),
    Row("clocks.event_reasons", _reasons),
    Row("pcie.generation", _number(f"{_LINK}/pcie_gen/current_link_gen")),
    Row("pcie.max_generation", _number(f"{_LINK}/pcie_gen/max_link_gen")),
    Row("pcie.width", _number(f"{_LINK}/link_widths/current_link_width")),
    Row("pcie.max_width", _number(f"{_LINK}/link_widths/max_link_width")),
    Row("pcie.replays", _number("pci/replay_counter"), 0),
    Row("fabric", lambda gpu: (_text("fabric/state")(gpu) or "").lower().replace(" ", "_") or None),
    Row("memory.total_bytes", _number("fb_memory_usage/total", _MIB), _MIB),
    Row("memory.used_bytes", _number("fb_memory_usage/used", _MIB), 2 * _MIB),
    Row("memory.free_bytes", _number("fb_memory_usage/free", _MIB), 2 * _MIB),
    Row("memory.reserved_bytes", _number("fb_memory_usage/reserved", _MIB), 2 * _MIB),
    Row("busy_ratio", _number("utilization/gpu_util", 0.01), 0.05),
    Row("memory_busy_ratio", _number("utilization/memory_util", 0.01), 0.05),
    Row("processes", _processes),
)


def leaves(kind: type[Any] = Gpu, prefix: str = "") -> Iterator[str]:
    """The paths of all fields of the agent's answer about a GPU."""
    for one in fields(kind):
        if is_dataclass(one.type) and isinstance(one.type, type):
            yield from leaves(one.type, f"{prefix}{one.name}.")
        else:
            yield prefix + one.name


def compare(before: Gpu, smi: ElementTree.Element, after: Gpu) -> tuple[Compared, ...]:
    """`before` and `after`: the agent's readings around nvidia-smi's."""
    return tuple(_compared(row, _value(before, row.path), row.smi(smi), _value(after, row.path)) for row in ROWS)


def _value(gpu: Gpu, path: str) -> Any:
    value: Any = gpu
    for name in path.split("."):
        value = getattr(value, name)
    if path == "processes":
        return tuple(sorted((p.pid, p.name, (p.memory_bytes or 0) // _MIB) for p in value or ()))
    return tuple(sorted(value)) if isinstance(value, tuple) else value


def _compared(row: Row, before: Any, smi: Any, after: Any) -> Compared:
    if before is None and smi is None:
        return Compared(row.path, None, None, "both unknown")
    if smi in (before, after):
        return Compared(row.path, after, smi, "same")
    numbers = [value for value in (before, after) if isinstance(value, int | float)]
    if row.tolerance is not None and isinstance(smi, int | float) and numbers:
        near = min(numbers) - row.tolerance <= smi <= max(numbers) + row.tolerance
        return Compared(row.path, after, smi, "within" if near else "differs")
    return Compared(row.path, after, smi, "differs")


# ---------------------------------------------------------------------------------------------- NVLink


def links(status: str) -> dict[str, list[bool]]:
    """UUID -> whether each link is up, of `nvidia-smi nvlink -s`; without links there are none."""
    found: dict[str, list[bool]] = {}
    uuid = ""
    for line in status.splitlines():
        if (match := re.search(r"UUID: (GPU-[0-9a-f-]+)", line)) is not None:
            uuid = match[1]
        elif (match := re.match(r"\s+Link \d+: (.*)", line)) is not None and uuid:
            found.setdefault(uuid, []).append("inactive" not in match[1].lower())
    return found


def link_errors(errors: str) -> dict[str, list[tuple[int, ...]]]:
    """UUID -> replay, recovery and CRC errors of each link, of `nvidia-smi nvlink -e`."""
    found: dict[str, dict[int, list[int]]] = {}
    uuid = ""
    for line in errors.splitlines():
        if (match := re.search(r"UUID: (GPU-[0-9a-f-]+)", line)) is not None:
            uuid = match[1]
        elif (match := re.match(r"\s+Link (\d+): (Replay|Recovery|CRC) Errors: (\d+)", line)) is not None and uuid:
            found.setdefault(uuid, {}).setdefault(int(match[1]), []).append(int(match[3]))
    return {gpu: [tuple(counts) for _, counts in sorted(by_link.items())] for gpu, by_link in found.items()}


def compare_links(gpu: Gpu, status: str, errors: str) -> tuple[Compared, Compared]:
    told = gpu.nvlinks or ()
    counts = [(one.replay_errors, one.recovery_errors, one.crc_errors) for one in told if one.active]
    return (
        _equal("nvlinks.active", [one.active for one in told], links(status).get(gpu.uuid or "", [])),
        _equal("nvlinks.errors", counts, link_errors(errors).get(gpu.uuid or "", [])),
    )


def _equal(field: str, agent: list[Any], smi: list[Any]) -> Compared:
    if not agent and not smi:
        return Compared(field, None, None, "both unknown")
    return Compared(field, agent, smi, "same" if agent == smi else "differs")
