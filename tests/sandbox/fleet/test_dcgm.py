from prometheus_client.parser import text_string_to_metric_families

from sandbox.fleet import dcgm
from sandbox.fleet.contract import GpuFault, GpuReadings
from sandbox.fleet.gpus import GpuPool, Owner
from tests.fixtures_fleet import node


def page(*faults: GpuFault) -> dict[str, dict[str, tuple[dict[str, str], float]]]:
    """Metric name -> GPU index -> labels and value."""
    pool = GpuPool()
    pool.set_nodes([node("gpu-01")])
    pool.set_owners({Owner("u1", "llm", "chat-0", "vllm"): ("gpu-01", 4)})
    pool.set_faults(faults)
    exporter = pool.exporter("gpu-01")
    assert exporter is not None
    found: dict[str, dict[str, tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(dcgm.page(exporter)):
        for sample in family.samples:
            # The parser gives every counter OpenMetrics' suffix, which this exporter's have not.
            name = sample.name.removesuffix("_total")
            found.setdefault(name, {})[sample.labels["gpu"]] = (dict(sample.labels), sample.value)
    return found


def test_every_gpu_has_the_exporters_labels_and_a_used_one_its_pod():
    series = page()["DCGM_FI_DEV_GPU_UTIL"]
    used, unused = series["0"][0], series["7"][0]
    own = {"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION"}
    assert set(unused) == own
    assert set(used) == own | {"namespace", "pod", "container"}
    assert (used["modelName"], used["device"], used["Hostname"]) == ("NVIDIA H100 80GB HBM3", "nvidia0", "gpu-01")
    assert len({labels["UUID"] for labels, _ in series.values()}) == 8


def test_memory_is_in_mib_and_adds_up():
    shown = page()
    assert shown["DCGM_FI_DEV_FB_USED"]["0"][1] + shown["DCGM_FI_DEV_FB_FREE"]["0"][1] == 81_559


def test_ecc_is_exported_only_where_the_list_of_counters_was_edited():
    fault = GpuFault(gpu=2, readings=GpuReadings(ecc_double_bit=3))
    assert not any(name.startswith("DCGM_FI_DEV_ECC") for name in page(fault))
    edited = page(fault, GpuFault(extra_fields=("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",)))
    assert edited["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"]["2"][1] == 3
    assert edited["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"]["1"][1] == 0


def test_faults_show_in_the_readings():
    shown = page(GpuFault(gpu=1, readings=GpuReadings(xid=79, temperature_celsius=91, row_remap_failure=True)))
    assert shown["DCGM_FI_DEV_XID_ERRORS"]["1"][1] == 79
    assert shown["DCGM_FI_DEV_XID_ERRORS"]["0"][1] == 0
    assert shown["DCGM_FI_DEV_GPU_TEMP"]["1"][1] == 91
    assert shown["DCGM_FI_DEV_ROW_REMAP_FAILURE"]["1"][1] == 1


def test_a_hidden_field_is_absent_not_zero():
    assert "DCGM_FI_DEV_GPU_UTIL" not in page(GpuFault(hidden_fields=("DCGM_FI_DEV_GPU_UTIL",)))


def test_a_lost_gpu_is_left_out_and_the_others_keep_their_numbers():
    shown = page(GpuFault(gpu=3, lost=True))
    assert set(shown["DCGM_FI_DEV_GPU_UTIL"]) == {"0", "1", "2", "4", "5", "6", "7"}


def test_an_edited_list_tells_of_heat_recovery_and_pending_remaps():
    names = (
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "DCGM_FI_DEV_GPU_TEMP_LIMIT",
        "DCGM_FI_DEV_SLOWDOWN_TEMP",
        "DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION",
        "DCGM_FI_DEV_ROW_REMAP_PENDING",
    )
    bad = GpuReadings(temperature_celsius=90, clock_event_reasons=0x40, recovery_action=2, row_remap_pending=True)
    shown = page(GpuFault(gpu=1, readings=bad), GpuFault(extra_fields=names))
    assert [shown[name]["1"][1] for name in names] == [0x40, -3, 89, 2, 1]
    assert [shown[name]["0"][1] for name in names] == [1, 53, 89, 0, 0]
