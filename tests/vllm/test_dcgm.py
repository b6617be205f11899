import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.ports import Sample
from bot.vllm import dcgm
from bot.vllm.dcgm import FIELDS, gpu_key, gpus_of, names, node_of
from sandbox.fleet import dcgm as sandbox_page
from sandbox.fleet.contract import GpuFault, GpuReadings
from sandbox.fleet.gpus import GpuPool, Owner
from sandbox.prometheus import Job, Prometheus
from sandbox.replay import Replay
from tests.fakes import NOW
from tests.fixtures_fleet import node

ALL = tuple(FIELDS)


def sample(name, value, **labels):
    return Sample({"__name__": name, "gpu": "0", "UUID": "GPU-a", "Hostname": "gpu-01", **labels}, value, NOW)


def only(*samples, readings=ALL):
    ((where, gpu),) = gpus_of(samples, readings)
    return where, gpu


def test_what_is_not_exported_is_unknown_with_its_name_and_never_zero():
    where, gpu = only(sample("DCGM_FI_DEV_GPU_TEMP", 41))
    assert (where, gpu.uuid, gpu.index, gpu.temperature.gpu_celsius) == ("gpu-01", "GPU-a", 0, 41)
    assert (gpu.ecc.volatile.uncorrected, gpu.rows.pending, gpu.rows.failed, gpu.recovery_action) == (None,) * 4
    assert (gpu.clocks.event_reasons, gpu.power.draw_watts, gpu.ecc.unrepairable_memory) == (None,) * 3
    assert set(gpu.missing) == set(FIELDS) - {"temperature.gpu_celsius"}
    assert gpu.missing["ecc.volatile.uncorrected"] == "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL is not exported"


@pytest.mark.parametrize("age", [0, -1], ids=["before 4.9", "since 4.9"])
def test_both_exporters_names_are_understood(age):
    told = {
        "rows.pending": 1,
        "rows.failed": 0,
        "recovery_action": 4,
        "temperature.margin_celsius": -3,
        "power.draw_watts": 698.5,
        "clocks.event_reasons": 0x40,
        "ecc.volatile.uncorrected": 2,
        "ecc.sram_threshold_exceeded": 1,
    }
    _, gpu = only(*(sample(FIELDS[reading][age], value) for reading, value in told.items()), readings=tuple(told))
    assert (gpu.rows.pending, gpu.rows.failed, gpu.recovery_action) == (True, False, "drain_and_reset")
    assert (gpu.temperature.margin_celsius, gpu.power.draw_watts) == (-3, 698.5)
    assert gpu.clocks.event_reasons == ("hw_thermal_slowdown",)
    assert (gpu.ecc.volatile.uncorrected, gpu.ecc.sram_threshold_exceeded) == (2, True)
    assert gpu.missing == {}


def test_gpus_are_told_apart_by_uuid_or_else_by_node_and_number():
    same = [sample("DCGM_FI_DEV_GPU_TEMP", 40), sample("DCGM_FI_DEV_POWER_USAGE", 300)]
    other = [sample("DCGM_FI_DEV_GPU_TEMP", 50, UUID="GPU-b", gpu="1")]
    assert [gpu.uuid for _, gpu in gpus_of([*same, *other], ALL)] == ["GPU-a", "GPU-b"]
    assert gpu_key({"gpu": "3", "Hostname": "n"}) == ("n", "3") != gpu_key({"gpu": "3", "Hostname": "m"})


def test_a_mig_slice_is_its_gpu():
    slices = [sample("DCGM_FI_DEV_GPU_TEMP", 40, GPU_I_ID=str(n)) for n in (1, 2)]
    assert len(gpus_of(slices, ALL)) == 1


def test_a_gpu_without_a_sensor_for_its_memory_is_not_at_zero_degrees():
    assert only(sample("DCGM_FI_DEV_MEMORY_TEMP", 0))[1].temperature.memory_celsius is None


@pytest.mark.parametrize("label", ["Hostname", "hostname", "node", "kubernetes_node"])
def test_the_node_is_told_by_whichever_label_there_is(label):
    assert node_of({label: "gpu-07"}) == "gpu-07"
    assert node_of({"gpu": "0"}) is None


def test_series_of_other_fields_are_left_alone():
    assert gpus_of([sample("DCGM_FI_DEV_FB_USED", 1), sample("up", 1)], ALL) == ()


def test_names_are_all_that_may_tell_a_reading():
    assert names(["rows.failed"]) == ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "DCGM_FI_DEV_ROW_REMAP_FAILED")


def test_an_exporters_page_is_understood_as_its_gpus_are():
    """The sandbox's page, which was written from the exporter's own list."""
    pool = GpuPool()
    pool.set_nodes([node("gpu-01")])
    pool.set_owners({Owner("u1", "llm", "chat-0", "vllm"): ("gpu-01", 4)})
    bad = GpuReadings(ecc_double_bit=2, row_remap_failure=True, recovery_action=1, temperature_celsius=91)
    pool.set_faults((GpuFault(gpu=1, readings=bad), GpuFault(extra_fields=tuple(sandbox_page.EXTRA_FIELDS))))
    exporter = pool.exporter("gpu-01")
    assert exporter is not None
    samples = [
        Sample({**one.labels, "__name__": one.name}, one.value, NOW)
        for family in text_string_to_metric_families(sandbox_page.page(exporter).replace(" counter\n", " gauge\n"))
        for one in family.samples
    ]
    found = gpus_of(samples, ALL)
    assert [(where, gpu.index) for where, gpu in sorted(found, key=lambda one: one[1].index)] == [
        ("gpu-01", n) for n in range(8)
    ]
    gpus = {gpu.index: gpu for _, gpu in found}
    assert (gpus[1].ecc.volatile.uncorrected, gpus[1].rows.failed, gpus[1].recovery_action) == (2, True, "gpu_reset")
    assert (gpus[0].ecc.volatile.uncorrected, gpus[0].rows.failed, gpus[0].recovery_action) == (0, False, "none")
    assert gpus[1].temperature.gpu_celsius == 91
    assert gpus[0].name == "NVIDIA H100 80GB HBM3"


def test_the_last_xid_has_two_names_too():
    assert dcgm.XID == ("DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_XID_ERROR")


OLD = "".join(
    f'{name}{{gpu="0",Hostname="gpu-01"}} {value}\n'
    for name, value in (("DCGM_FI_DEV_GPU_UTIL", 97), ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.9))
)
NEW = 'DCGM_FI_DEV_GPU_UTIL_RATIO{gpu="1",hostname="gpu-01"} 0.5\n'
SLICE = 'DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO{gpu="2",hostname="gpu-01",GPU_I_ID="1"} 0.25\n'
# A collector's list with DCGM 4.6: the new name, and percents still.
BETWEEN = "".join(f'DCGM_FI_DEV_GPU_UTIL_RATIO{{gpu="{n}"}} {v}\n' for n, v in ((0, 1), (1, 37)))


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (OLD + NEW + SLICE, {"0": 0.97, "1": 0.5, "2": 0.25}),
        (BETWEEN + 'DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO{gpu="0"} 0.01\n', {"0": 0.01}),
    ],
    ids=["before and since 4.9", "percents under the ratio's name"],
)
def test_how_busy_gpus_are_is_told_by_every_exporters_name(tmp_path, page, expected):
    file = tmp_path / "page.txt"
    file.write_text(page)
    with (
        Replay(file) as exporter,
        Prometheus(tmp_path / "prometheus", [Job("dcgm-exporter", [exporter.target])]) as prometheus,
    ):
        prometheus.wait_until_up("dcgm-exporter")
        query = dcgm.busy_ratio('job="dcgm-exporter"', "10s")
        prometheus.wait_for(query, lambda found: len(found) >= len(expected))
        found = {s.labels["gpu"]: s.value for s in prometheus.query(query)}
    assert found == pytest.approx(expected)
