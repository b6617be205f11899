"""Are the GPUs too hot, or slowed down by heat or by the power supply?

Against the device's own thresholds, which differ by model; a limit at full load (`sw_power_cap`) is normal and is told
apart.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bot.gpu_readings import Gpu
from bot.ports import Sources
from bot.probes.gpus import Params as Params
from bot.probes.gpus import Told, any_true, look, missing
from bot.vllm.clocks import HARDWARE, POWER_BRAKE, THERMAL, one_of

READINGS = (
    "temperature.gpu_celsius",
    "temperature.memory_celsius",
    "temperature.margin_celsius",
    "temperature.slowdown_celsius",
    "clocks.event_reasons",
    "power.draw_watts",
    "power.limit_watts",
)


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the hottest GPU, or the one nearest to its threshold."""

    gpu_celsius: int | None = None
    memory_celsius: int | None = None
    margin_celsius: int | None = None  # the least: how far to the highest operating temperature
    slowdown_margin_celsius: int | None = None  # the least: how far to where the device slows itself down
    slowdown_celsius: int | None = None  # the lowest of these GPUs
    thermal_slowdown: bool | None = None  # of any GPU, now
    power_brake: bool | None = None  # the power supply asks it to slow down
    power_capped: bool | None = None  # normal at full load
    power_draw_watts: float | None = None  # the most
    power_draw_ratio: float | None = None  # the most, of the limit that holds
    where: tuple[str, ...] | None = None  # the GPUs that are slowed down by heat or the power brake
    gpus: int | None = None
    source: str | None = None
    matched_by: str | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    looked = look(params, sources, READINGS)
    gpus = looked.gpus
    if not gpus:
        return Reading(missing=missing(looked, READINGS))
    slowed = [one for one in looked.told if _is(THERMAL)(one.gpu) or _is(POWER_BRAKE)(one.gpu)]
    return Reading(
        gpu_celsius=_most(gpu.temperature.gpu_celsius for gpu in gpus),
        memory_celsius=_most(gpu.temperature.memory_celsius for gpu in gpus),
        margin_celsius=_least(gpu.temperature.margin_celsius for gpu in gpus),
        slowdown_margin_celsius=_least(_to_slowdown(gpu) for gpu in gpus),
        slowdown_celsius=_least(gpu.temperature.slowdown_celsius for gpu in gpus),
        thermal_slowdown=any_true(map(_is(THERMAL), gpus)),
        power_brake=any_true(map(_is(POWER_BRAKE), gpus)),
        power_capped=any_true(map(_is({"sw_power_cap"}), gpus)),
        power_draw_watts=max((g.power.draw_watts for g in gpus if g.power.draw_watts is not None), default=None),
        power_draw_ratio=max((ratio for gpu in gpus if (ratio := _of_limit(gpu)) is not None), default=None),
        where=_names(slowed),
        gpus=len(gpus),
        source=looked.source,
        matched_by=looked.matched_by,
        missing="; ".join(filter(None, (_unsaid(looked.told), missing(looked, READINGS)))) or None,
    )


def _unsaid(told: Sequence[Told]) -> str | None:
    found = [one.where for one in told if HARDWARE in (one.gpu.clocks.event_reasons or ()) and _unknown(one.gpu)]
    return (
        f"{', '.join(found)}: its hardware slows it down, and does not say whether for heat or for power"
        if found
        else None
    )


def _unknown(gpu: Gpu) -> bool:
    return _is(THERMAL)(gpu) is None or _is(POWER_BRAKE)(gpu) is None


def _is(reasons: Iterable[str]) -> Callable[[Gpu], bool | None]:
    """Is one of these why its clocks are low? None: it does not tell."""
    wanted = set(reasons)

    def check(gpu: Gpu) -> bool | None:
        return None if gpu.clocks.event_reasons is None else one_of(wanted, gpu.clocks.event_reasons)

    return check


def _to_slowdown(gpu: Gpu) -> int | None:
    now, limit = gpu.temperature.gpu_celsius, gpu.temperature.slowdown_celsius
    return None if now is None or limit is None else limit - now


def _of_limit(gpu: Gpu) -> float | None:
    draw, limit = gpu.power.draw_watts, gpu.power.limit_watts
    return None if draw is None or not limit else draw / limit


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _least(values: Iterable[int | None]) -> int | None:
    """None if any is not known: it may be the least."""
    found = list(values)
    known = [value for value in found if value is not None]
    return min(known) if known and len(known) == len(found) else None


def _names(told: Sequence[Told]) -> tuple[str, ...]:
    return tuple(one.where for one in told)
