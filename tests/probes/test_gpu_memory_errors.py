from dataclasses import replace

import pytest

from bot.gpu_readings import Ecc, EccCounts, RowRemapping
from bot.probes.gpu_memory_errors import READINGS, Params, observe
from bot.vllm.dcgm import FIELDS
from tests.probes.fleets import world
from tests.probes.gpu_nodes import HEALTHY, agent, agents, exported, gpu


def ask(*gpus, answers=None, **params):
    sources, _, _ = world(answers=answers)
    told = agents(agent(*gpus)) if gpus else None
    return observe(Params(**(params or {"node": "gpu-01"})), replace(sources, gpus=told))


def ecc(**changed):
    return replace(HEALTHY.ecc, **changed)


def rows(**changed):
    return replace(HEALTHY.rows, **changed)


def test_healthy_gpus_have_zero_of_everything():
    found = ask(gpu(0), gpu(1))
    assert (found.uncorrected, found.corrected, found.uncorrected_life, found.corrected_life) == (0, 0, 0, 0)
    assert (found.remapped_rows_uncorrectable, found.remapped_rows_correctable) == (0, 0)
    assert (found.remap_pending, found.remap_failed, found.replacement_due, found.ecc_off) == (False,) * 4
    assert (found.where, found.gpus, found.source, found.matched_by, found.missing) == ((), 2, "agent", "node", None)


def test_uncorrected_errors_are_summed_and_the_gpu_is_named():
    bad = ecc(
        volatile=replace(HEALTHY.ecc.volatile, uncorrected=3), aggregate=replace(HEALTHY.ecc.aggregate, uncorrected=4)
    )
    found = ask(gpu(0), gpu(1, ecc=bad), gpu(2, ecc=bad))
    assert (found.uncorrected, found.uncorrected_life) == (6, 8)
    assert found.where == ("GPU 1 (GPU-1, 01:00) on gpu-01", "GPU 2 (GPU-2, 02:00) on gpu-01")
    assert found.replacement_due is False, "an uncorrected error is not yet a reason to replace the GPU"


def test_corrected_errors_alone_need_nobody():
    found = ask(gpu(0, ecc=ecc(volatile=replace(HEALTHY.ecc.volatile, corrected=12))))
    assert (found.corrected, found.uncorrected, found.where) == (12, 0, ())


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("remap_failed", {"rows": rows(failed=True)}),
        ("sram_threshold_exceeded", {"ecc": ecc(sram_threshold_exceeded=True)}),
        ("unrepairable_memory", {"ecc": ecc(unrepairable_memory=True)}),
    ],
)
def test_nvidias_criteria_for_a_replacement(field, changed):
    found = ask(gpu(0), gpu(1, **changed))
    assert (getattr(found, field), found.replacement_due) == (True, True)
    assert found.where == ("GPU 1 (GPU-1, 01:00) on gpu-01",)


def test_a_pending_remap_waits_for_a_reset_and_is_no_reason_for_a_replacement():
    found = ask(gpu(0, rows=rows(pending=True, uncorrectable=1)))
    assert (found.remap_pending, found.remapped_rows_uncorrectable, found.replacement_due) == (True, 1, False)
    assert found.where == ("GPU 0 (GPU-0, 00:00) on gpu-01",)


def test_with_ecc_off_errors_are_not_seen_and_it_says_so():
    off = Ecc(enabled=False, volatile=EccCounts(), aggregate=EccCounts())
    why = {"ecc.volatile.uncorrected": "not supported by this GPU or driver"}
    found = ask(gpu(0), gpu(1, ecc=off, missing=why))
    assert (found.ecc_off, found.uncorrected, found.replacement_due) == (True, None, None)
    assert "ecc.volatile.uncorrected of GPU 1 (GPU-1, 01:00) on gpu-01: not supported" in found.missing


def test_an_old_driver_without_the_last_flag_is_judged_by_the_other_two():
    older = gpu(0, ecc=ecc(unrepairable_memory=None))
    assert ask(older).replacement_due is False
    assert ask(older, gpu(1, rows=RowRemapping())).replacement_due is None


def test_a_gpu_that_does_not_tell_makes_nothing_zero():
    silent = replace(gpu(1, state="silent", problem="NVML did not answer for 2.0 s"), ecc=Ecc(), rows=RowRemapping())
    found = ask(gpu(0), silent)
    assert (found.uncorrected, found.remap_pending, found.replacement_due) == (None, None, None)
    assert "did not answer for 2.0 s" in found.missing


def test_what_the_exporters_list_leaves_out_is_unknown_and_named():
    default_list = exported(
        DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS=[0, 2],
        DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS=[0, 0],
        DCGM_FI_DEV_ROW_REMAP_FAILURE=[0, 0],
    )
    found = ask(answers={'Hostname=~"gpu-01"': default_list})
    assert (found.uncorrected, found.corrected, found.remap_pending, found.replacement_due) == (None,) * 4
    assert (found.remapped_rows_uncorrectable, found.remap_failed, found.source) == (2, False, "dcgm-exporter")
    assert "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL is not exported" in found.missing
    assert found.where == ()


def test_an_exporter_with_all_fields_tells_all():
    everything = exported(**{FIELDS[reading][0]: [0, int(reading == "rows.failed")] for reading in READINGS})
    found = ask(answers={'Hostname=~"gpu-01"': everything})
    assert (found.uncorrected, found.remap_failed, found.replacement_due) == (0, True, True)
    assert found.where == ("GPU 1 (GPU-1) on gpu-01",)


def test_nobody_who_tells_is_unknown():
    found = ask()
    assert (found.uncorrected, found.gpus, found.source, found.where) == (None, None, None, None)
    assert "GPU agent: is not configured" in found.missing and "dcgm-exporter tells nothing" in found.missing
