from dataclasses import replace

import pytest

from bot.gpu_readings import Clocks, Power, Temperature
from bot.probes.gpu_thermals import Params, observe
from tests.probes.fleets import world
from tests.probes.gpu_nodes import agent, agents, exported, gpu


def ask(*gpus, answers=None):
    sources, _, _ = world(answers=answers)
    told = agents(agent(*gpus)) if gpus else None
    return observe(Params(node="gpu-01"), replace(sources, gpus=told))


def hot(index, celsius, *, slowdown=89, reasons=(), draw=600.0):
    warm = Temperature(celsius, celsius + 5, 87 - celsius, 87, 95, slowdown, 95)
    return gpu(index, temperature=warm, clocks=Clocks(1200, 1980, tuple(reasons)), power=Power(draw, 700.0))


def test_the_hottest_and_the_nearest_to_its_threshold():
    found = ask(hot(0, 60), hot(1, 82), hot(2, 70, slowdown=75))
    assert (found.gpu_celsius, found.memory_celsius, found.margin_celsius) == (82, 87, 5)
    assert (found.slowdown_margin_celsius, found.slowdown_celsius) == (5, 75), "the cooler one is nearer to its own"
    assert (found.thermal_slowdown, found.power_brake, found.where, found.gpus) == (False, False, (), 3)
    assert (found.source, found.matched_by, found.missing) == ("agent", "node", None)


@pytest.mark.parametrize("reasons", [["sw_thermal_slowdown"], ["hw_slowdown", "hw_thermal_slowdown"]])
def test_a_gpu_slowed_by_heat_is_named(reasons):
    found = ask(hot(0, 60), hot(1, 90, reasons=reasons))
    assert (found.thermal_slowdown, found.power_brake) == (True, False)
    assert found.where == ("GPU 1 (GPU-1, 01:00) on gpu-01",)


def test_a_power_brake_is_not_heat():
    found = ask(hot(0, 60, reasons=["hw_slowdown", "hw_power_brake_slowdown"]))
    assert (found.thermal_slowdown, found.power_brake, len(found.where)) == (False, True, 1)


def test_hardware_that_slows_a_gpu_down_and_does_not_say_why_rules_neither_cause_out():
    found = ask(hot(0, 60), hot(1, 60, reasons=["hw_slowdown"]))
    assert (found.thermal_slowdown, found.power_brake, found.where) == (None, None, ())
    assert "GPU 1 (GPU-1, 01:00) on gpu-01: its hardware slows it down, and does not say" in found.missing
    found = ask(hot(0, 60, reasons=["hw_slowdown", "sw_thermal_slowdown"]))
    assert (found.thermal_slowdown, found.power_brake) == (True, None)


def test_the_power_limit_at_full_load_is_normal():
    found = ask(hot(0, 70, reasons=["sw_power_cap"], draw=700.0), hot(1, 70, draw=350.0))
    assert (found.power_capped, found.thermal_slowdown, found.where) == (True, False, ())
    assert (found.power_draw_watts, found.power_draw_ratio) == (700.0, 1.0)


def test_a_silent_gpu_may_be_the_hottest():
    silent = replace(
        hot(1, 50), state="silent", problem="NVML did not answer", temperature=Temperature(), clocks=Clocks()
    )
    found = ask(hot(0, 60), silent)
    assert (found.gpu_celsius, found.margin_celsius, found.slowdown_margin_celsius) == (60, None, None)
    assert found.thermal_slowdown is None
    assert "NVML did not answer" in found.missing


def test_the_exporters_default_list_has_no_reasons_and_no_thresholds():
    found = ask(answers={'Hostname=~"gpu-01"': exported(DCGM_FI_DEV_GPU_TEMP=[70, 91], DCGM_FI_DEV_POWER_USAGE=[1, 2])})
    assert (found.gpu_celsius, found.power_draw_watts, found.source) == (91, 2, "dcgm-exporter")
    assert (found.thermal_slowdown, found.power_brake, found.margin_celsius, found.power_draw_ratio) == (None,) * 4
    assert "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS is not exported" in found.missing


def test_an_edited_list_tells_all():
    found = ask(
        answers={
            'Hostname=~"gpu-01"': exported(
                DCGM_FI_DEV_GPU_TEMP=[70, 91],
                DCGM_FI_DEV_SLOWDOWN_TEMP=[89, 89],
                DCGM_FI_DEV_CLOCK_THROTTLE_REASONS=[0, 0x20],
            )
        }
    )
    assert (found.thermal_slowdown, found.power_brake, found.slowdown_margin_celsius) == (True, False, -2)


def test_nobody_who_tells_is_unknown():
    found = ask()
    assert (found.gpu_celsius, found.thermal_slowdown, found.where, found.gpus) == (None,) * 4
    assert found.missing
