import pynvml

from bot.vllm.clocks import POWER_BRAKE, REASONS, THERMAL, one_of, reasons


def test_bits_are_told_by_name():
    assert reasons(0x0) == ()
    assert reasons(0x1) == ("gpu_idle",)
    assert reasons(0x48) == ("hw_slowdown", "hw_thermal_slowdown")


def test_a_bit_that_only_a_newer_driver_knows_is_kept():
    assert reasons(0x1004) == ("sw_power_cap", "0x1000")


def test_the_bits_are_nvmls():
    nvml = {
        "gpu_idle": pynvml.nvmlClocksEventReasonGpuIdle,
        "applications_clocks_setting": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
        "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hw_slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
        "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
        "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "hw_thermal_slowdown": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "hw_power_brake_slowdown": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
        "display_clock_setting": pynvml.nvmlClocksEventReasonDisplayClockSetting,
    }
    assert {name: bit for bit, name in REASONS.items()} == nvml
    assert set(nvml) >= THERMAL | POWER_BRAKE


def test_a_slowdown_by_hardware_alone_may_be_either():
    assert (one_of(THERMAL, ["hw_slowdown"]), one_of(POWER_BRAKE, ["hw_slowdown"])) == (None, None)
    assert one_of(POWER_BRAKE, ["hw_slowdown", "hw_thermal_slowdown"]) is False
    assert one_of({"sw_power_cap"}, ["hw_slowdown"]) is False
    assert one_of(THERMAL, []) is False
