from datetime import UTC, datetime

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bot.gpu_readings import Ecc, EccCounts, Gpu, GpuEvent, GpuNode, NvLink, Temperature
from bot.inbound.agent_metrics import registry

AT = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)


def exposed(*gpus: Gpu, events: tuple[GpuEvent, ...] = (), problem: str | None = None) -> dict[tuple, float]:
    node = GpuNode("gpu-01", AT, gpus=gpus, problem=problem, sweep_seconds=0.002)
    text = generate_latest(registry(lambda: node, lambda: events)).decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {(one.name.removeprefix("vllm_oncall_gpu_"), *_labels(one.labels)): one.value for one in samples}


def _labels(labels: dict[str, str]) -> list[str]:
    return [value for name, value in sorted(labels.items()) if name != "gpu" and value]


def test_readings_have_the_gpus_name():
    gpu = Gpu(3, uuid="GPU-a", pci="00000000:3B:00.0", name="H100", temperature=Temperature(gpu_celsius=61))
    assert exposed(gpu)[("temperature_celsius", "H100", "00000000:3B:00.0", "GPU-a")] == 61


def test_what_is_not_known_has_no_series():
    found = {key[0] for key in exposed(Gpu(0, uuid="GPU-a"))}
    assert found == {"nvml_up", "sweep_seconds", "answers"}


def test_zero_errors_are_a_series_and_unknown_ones_are_not():
    known = Gpu(0, uuid="GPU-a", ecc=Ecc(volatile=EccCounts(uncorrected=0)))
    found = exposed(known, Gpu(1, uuid="GPU-b"))
    assert {key: value for key, value in found.items() if key[0] == "ecc_uncorrected_total"} == {
        ("ecc_uncorrected_total", "GPU-a"): 0
    }


def test_a_lost_gpu_does_not_answer():
    found = exposed(Gpu(0, uuid="GPU-a"), Gpu(1, uuid="GPU-b", state="lost"))
    assert (found[("answers", "GPU-a")], found[("answers", "GPU-b")]) == (1, 0)


def test_without_a_driver_that_is_all_there_is_to_tell():
    assert exposed(problem="no NVIDIA driver here") == {("nvml_up",): 0, ("sweep_seconds",): 0.002}


def test_the_recovery_action_that_is_asked_for_is_one():
    found = exposed(Gpu(0, uuid="GPU-a", recovery_action="drain_and_reset"))
    actions = {key[1]: value for key, value in found.items() if key[0] == "recovery_action"}
    assert {action for action, value in actions.items() if value} == {"drain_and_reset"}
    assert len(actions) == 8


def test_links_that_are_down_are_counted():
    links = (NvLink(0, active=True), NvLink(1, active=False), NvLink(2, active=False))
    assert exposed(Gpu(0, uuid="GPU-a", nvlinks=links))[("nvlinks_inactive", "GPU-a")] == 2


def test_xids_are_counted_with_their_class():
    events = tuple(
        GpuEvent(f"r-{n}", n, AT, AT, xid=number, count=count, gpu_uuid="GPU-a", pci="0000:3b:00")
        for n, (number, count) in enumerate(((31, 2), (31, 1), (79, 1)))
    )
    found = exposed(events=events)
    assert found[("xids_total", "application", "0000:3b:00", "GPU-a", "31")] == 3
    assert found[("xids_total", "reboot", "0000:3b:00", "GPU-a", "79")] == 1
