"""Why a GPU's clocks are lower than they could be: the bits of NVML and DCGM by name, and which of them are trouble."""

from collections.abc import Collection, Iterable

REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
THERMAL = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown"})
POWER_BRAKE = frozenset({"hw_power_brake_slowdown"})
# Heat or the power brake, whichever of the two stands beside it; alone, it may be either. "sw_power_cap" is normal at
# full load.
HARDWARE = "hw_slowdown"
_WHY = frozenset({"hw_thermal_slowdown", "hw_power_brake_slowdown"})


def one_of(wanted: Iterable[str], told: Collection[str]) -> bool | None:
    """Is one of these among the reasons that are told? None: the hardware slows the GPU down, and does not say why."""
    if set(wanted) & set(told):
        return True
    may_be_meant = bool(set(wanted) & _WHY)
    return None if may_be_meant and HARDWARE in told and not _WHY & set(told) else False


def reasons(bits: int) -> tuple[str, ...]:
    known = [name for bit, name in REASONS.items() if bits & bit]
    rest = bits & ~sum(REASONS)  # only a newer driver knows it
    return (*known, f"0x{rest:x}") if rest else tuple(known)
