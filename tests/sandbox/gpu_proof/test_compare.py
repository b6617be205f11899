import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bot.gpu_readings import GpuNode, NvLink
from sandbox.gpu_proof.compare import NOT_COMPARED, ROWS, compare, compare_links, leaves, link_errors, links

PAYLOADS = Path(__file__).parents[2] / "payloads"
GPU = TypeAdapter(GpuNode).validate_json((PAYLOADS / "agent-h100-x2-gpus.json").read_text()).gpus[0]
SMI = ElementTree.parse(PAYLOADS / "agent-h100-x2-smi.xml").getroot().findall("gpu")[0]

STATUS = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-671333f5-4a3b-a6d1-a82a-214bc8e82c83)
\t Link 0: 26.562 GB/s
\t Link 1: <inactive>
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-f6d9ba3a-cfe9-c73f-91f5-69d5dafafd1e)
\t Link 0: 26.562 GB/s
"""
ERRORS = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-671333f5-4a3b-a6d1-a82a-214bc8e82c83)
\t Link 0: Replay Errors: 3
\t Link 0: Recovery Errors: 0
\t Link 0: CRC Errors: 2

GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-f6d9ba3a-cfe9-c73f-91f5-69d5dafafd1e)
\t Link 0: Replay Errors: 0
\t Link 0: Recovery Errors: 0
\t Link 0: CRC Errors: 0
"""


def compared(path, before=GPU, after=GPU, smi=SMI):
    return next(row for row in compare(before, smi, after) if row.field == path)


def test_every_field_of_the_answer_has_a_row_or_says_why_not():
    assert {row.path for row in ROWS} | set(NOT_COMPARED) == set(leaves())
    assert len({row.path for row in ROWS}) == len(ROWS)


def test_the_recorded_answers_agree():
    found = compare(GPU, SMI, GPU)
    assert {row.outcome for row in found} <= {"same", "within"}, [r for r in found if r.outcome == "differs"]
    assert sum(row.outcome == "same" for row in found) > 50


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("serial", replace(GPU, serial="1")),
        ("mig", replace(GPU, mig=True)),
        (
            "ecc.volatile.uncorrected",
            replace(GPU, ecc=replace(GPU.ecc, volatile=replace(GPU.ecc.volatile, uncorrected=1))),
        ),
        ("rows.pending", replace(GPU, rows=replace(GPU.rows, pending=True))),
        ("recovery_action", replace(GPU, recovery_action="gpu_reset")),
        ("temperature.gpu_celsius", replace(GPU, temperature=replace(GPU.temperature, gpu_celsius=60))),
        ("clocks.event_reasons", replace(GPU, clocks=replace(GPU.clocks, event_reasons=("sw_power_cap",)))),
        ("memory.total_bytes", replace(GPU, memory=replace(GPU.memory, total_bytes=1))),
        ("processes", replace(GPU, processes=())),
    ],
)
def test_a_wrong_field_is_found(path, wrong):
    assert compared(path, wrong, wrong).outcome == "differs"


def test_unknown_here_and_known_there_differs():
    blind = replace(GPU, rows=replace(GPU.rows, pending=None))
    assert compared("rows.pending", blind, blind).outcome == "differs"


def test_a_value_that_changed_between_the_two_readings_is_within_them():
    warmed = replace(GPU, temperature=replace(GPU.temperature, gpu_celsius=45))
    assert compared("temperature.gpu_celsius", GPU, warmed).outcome in ("same", "within")


def test_what_neither_knows_is_told_apart():
    blind = replace(GPU, fabric=None)
    assert compared("fabric", blind, blind, ElementTree.fromstring("<gpu/>")).outcome == "both unknown"


def test_links_are_compared_by_state_and_errors():
    told = (NvLink(0, True, 3, 0, 2), NvLink(1, active=False))
    assert links(STATUS)[GPU.uuid] == [True, False]
    assert link_errors(ERRORS)[GPU.uuid] == [(3, 0, 2)]
    assert [row.outcome for row in compare_links(replace(GPU, nvlinks=told), STATUS, ERRORS)] == ["same", "same"]
    unread = (NvLink(0, True), NvLink(1, active=True))
    assert [row.outcome for row in compare_links(replace(GPU, nvlinks=unread), STATUS, ERRORS)] == ["differs"] * 2


def test_without_links_both_know_none():
    assert {row.outcome for row in compare_links(replace(GPU, nvlinks=None), "", "")} == {"both unknown"}
