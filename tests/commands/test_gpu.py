from dataclasses import replace
from datetime import timedelta

import pytest

from bot.commands import gpu
from bot.commands.words import UsageError
from bot.gpu_readings import (
    Clocks,
    Ecc,
    EccCounts,
    Gpu,
    GpuEvent,
    GpuNode,
    Holder,
    Memory,
    Power,
    RowRemapping,
    Temperature,
    Watching,
)
from bot.ports import Answer, Sample, SourceError
from tests import stories as s
from tests.fakes import FakeGpus, fake_sources

NOW = s.at(3)
UUID = "GPU-8128e920-aaaa-bbbb-cccc-123456789012"
FINE = Gpu(
    index=0,
    uuid=UUID,
    pci="00000000:3B:00.0",
    name="NVIDIA H100 80GB HBM3",
    ecc=Ecc(enabled=True, volatile=EccCounts(0, 0), aggregate=EccCounts(3, 0)),
    rows=RowRemapping(0, 0, pending=False, failed=False),
    recovery_action="none",
    temperature=Temperature(gpu_celsius=41),
    power=Power(draw_watts=312.4),
    clocks=Clocks(event_reasons=("sw_power_cap",)),
    memory=Memory(total_bytes=80 * 2**30, used_bytes=72 * 2**30),
    busy_ratio=0.97,
    holders=(Holder(namespace="llm", pod="chat-70b-1", by="kubelet"),),
)
LISTENING = Watching(since=NOW - timedelta(days=3), nvml=True, kernel_log="/dev/kmsg")


def an_xid(number: int, **changes: object) -> GpuEvent:
    at = NOW - timedelta(minutes=20)
    return replace(GpuEvent(f"e{number}", number, at, at, xid=number, gpu_uuid=UUID), **changes)  # type: ignore[arg-type]


class Nodes:
    def __init__(self, bench) -> None:
        self.bench = bench
        self.agents = FakeGpus()
        self.bench.metrics.answers = {}
        self.tell()

    def tell(self, *events: GpuEvent, node: str = "gpu-01", watching: Watching | None = LISTENING, **changes) -> None:
        told = replace(FINE, **changes)
        self.agents.nodes[node] = GpuNode(node, NOW, (told,), driver="580.65.06", watching=watching)
        self.agents.happened[node] = events

    def shown(self, *words: str) -> str:
        return s.said(self.report(*words))

    def report(self, *words: str):
        def sources(at):
            return fake_sources(
                cluster=self.bench.cluster, metrics=self.bench.metrics, fleet=s.FLEET, now=at, gpus=self.agents
            )

        return gpu.run(words, self.bench.context(sources=sources))


@pytest.fixture
def nodes(bench) -> Nodes:
    return Nodes(bench)


def test_a_healthy_gpu_is_told_with_its_numbers_and_whose_it_is(nodes):
    report = nodes.report("gpu-01")
    assert report.text == "1 GPU on 1 node: none that is seen needs anybody"
    shown = s.said(report)
    assert "gpu-01 · told by agent, driver 580.65.06" in shown
    assert "GPU 0 (GPU-8128e920, 3b:00) NVIDIA H100 80GB HBM3 · 41 °C, 312 W, 97% busy, 72 of 80 GiB" in shown
    assert "ECC uncorrected 0 (life: 0) · llm/chat-70b-1" in shown
    assert "No Xid within 1 d" in shown and "power cap" not in shown


def test_an_xid_is_told_with_its_class_and_what_to_do(nodes):
    nodes.tell(an_xid(31, process="python3", pid=440, count=2))
    shown = nodes.shown("gpu-01")
    assert "Xid 31" in shown and "×2" in shown and "[application]" in shown and "python3 (440)" in shown
    assert "→ " in shown and "(Memory page fault)" in shown


def test_a_broken_gpu_needs_somebody(nodes):
    nodes.tell(
        an_xid(79),
        state="lost",
        problem="the GPU has fallen off the bus",
        recovery_action="node_reboot",
        rows=RowRemapping(failed=True),
        clocks=Clocks(event_reasons=("hw_thermal_slowdown",)),
    )
    report = nodes.report("gpu-01")
    shown = s.said(report)
    assert report.text == "1 GPU on 1 node: 1 of 1 GPUs need somebody"
    assert "lost: the GPU has fallen off the bus" in shown
    assert "the driver asks for: node reboot" in shown
    assert "a row could not be remapped" in shown
    assert "its clocks are held down: hw thermal slowdown" in shown


def test_an_xid_of_another_day_and_one_of_a_gpu_that_is_gone(nodes):
    old = NOW - timedelta(hours=25)
    nodes.tell(an_xid(31, at=old, last_at=old), an_xid(79, gpu_uuid=None, pci=None))
    shown = nodes.shown("gpu-01")
    assert "Xid 31" not in shown
    assert "Xid 79" in shown and "of no GPU in particular" in shown


def test_a_silent_agent_is_named_and_nothing_is_called_fine(nodes):
    nodes.agents.down = SourceError("GPU agent", "did not answer within 4 s")
    report = nodes.report("gpu-01")
    shown = s.said(report)
    assert report.text.startswith("No GPU is seen; nothing is known of gpu-01")
    assert "nobody tells of its GPUs" in shown
    assert "GPU agent: did not answer within 4 s" in shown and "dcgm-exporter tells nothing" in shown


def test_what_is_not_read_says_why(nodes):
    deaf = replace(LISTENING, kernel_log=None, kernel_log_problem="permission denied")
    nodes.tell(watching=deaf, busy_ratio=None, missing={"busy_ratio": "NOT_SUPPORTED"})
    shown = nodes.shown("gpu-01")
    assert "busy_ratio: NOT_SUPPORTED" in shown
    assert "the kernel's log is not read (permission denied)" in shown


def test_without_a_name_all_nodes_with_gpus_are_told(nodes):
    nodes.bench.cluster.add_node("gpu-02", gpus=8)
    nodes.bench.cluster.add_node("cpu-01", gpus=0)
    machines = nodes.bench.cluster.machines
    machines["cpu-01"] = replace(machines["cpu-01"], gpu_product=None)
    nodes.tell(node="gpu-02")
    shown = nodes.shown()
    assert "gpu-01 · told by agent" in shown and "gpu-02 · told by agent" in shown and "cpu-01" not in shown


# ---------------------------------------------------------------------------------------------- without an agent


def exported(node: str = "gpu-01", **fields: float) -> Answer:
    labels = {"gpu": "0", "UUID": UUID, "pci_bus_id": "00000000:3B:00.0", "Hostname": node, "modelName": "NVIDIA H100"}
    return Answer(tuple(Sample({"__name__": name, **labels}, value, NOW) for name, value in fields.items()))


@pytest.fixture
def exporter(nodes):
    """dcgm-exporter's default list, and an Xid that came within the day; no agent anywhere."""
    nodes.agents.nodes.clear()
    told = exported(DCGM_FI_DEV_GPU_TEMP=41, DCGM_FI_DEV_POWER_USAGE=312.4, DCGM_FI_DEV_ROW_REMAP_FAILURE=0)
    nodes.bench.metrics.answers = {
        "DCGM_FI_DEV_GPU_TEMP": told,
        '__name__=~"DCGM_FI_DEV_XID_ERRORS': exported(DCGM_FI_DEV_XID_ERRORS=0),
        "} offset 86400s": exported(DCGM_FI_DEV_XID_ERRORS=0),
        "changes(DCGM_FI_DEV_XID_ERRORS": Answer(()),
    }
    return nodes


def test_without_an_agent_the_exporter_tells_what_it_exports_and_what_it_does_not(exporter):
    report = exporter.report("gpu-01")
    shown = s.said(report)
    assert report.text == "1 GPU on 1 node: none that is seen needs anybody"
    assert "gpu-01 · told by dcgm-exporter" in shown
    assert "GPU 0 (GPU-8128e920, 3b:00) NVIDIA H100 · 41 °C, 312 W" in shown
    assert "ECC uncorrected" not in shown, "what is not exported is not zero"
    assert "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL is not exported" in shown
    assert "GPU agent: runs on no node gpu-01" in shown


def test_an_xid_of_the_exporter_needs_somebody_and_says_what_to_do(exporter):
    answers = exporter.bench.metrics.answers
    last = exported(DCGM_FI_DEV_XID_ERRORS=79)
    answers |= {'__name__=~"DCGM_FI_DEV_XID_ERRORS': last, "changes(DCGM_FI_DEV_XID_ERRORS": last}
    shown = exporter.shown("gpu-01")
    assert "Xid 79" in shown and "[reboot]" in shown and "GPU 0 (GPU-8128e920, 3b:00) on gpu-01" in shown
    assert "power-cycle it" in shown


def test_a_failed_remap_of_the_exporter_needs_somebody(exporter):
    told = exported(DCGM_FI_DEV_GPU_TEMP=41, DCGM_FI_DEV_ROW_REMAP_FAILURE=1)
    exporter.bench.metrics.answers["DCGM_FI_DEV_GPU_TEMP"] = told
    report = exporter.report("gpu-01")
    assert report.text == "1 GPU on 1 node: 1 of 1 GPUs need somebody"
    assert "a row could not be remapped: NVIDIA's criterion for a replacement" in s.said(report)


def test_by_the_exporters_names_since_4_9_it_is_the_same(exporter):
    told = exported(DCGM_FI_DEV_GPU_TEMP_CELSIUS=41, DCGM_FI_DEV_BOARD_POWER_WATTS=312.4)
    exporter.bench.metrics.answers["DCGM_FI_DEV_GPU_TEMP"] = told
    assert "41 °C, 312 W" in exporter.shown("gpu-01")


def test_without_agents_at_all_it_says_that_none_is_set_up(exporter):
    def sources(at):
        bench = exporter.bench
        return fake_sources(cluster=bench.cluster, metrics=bench.metrics, fleet=s.FLEET, now=at, gpus=None)

    shown = s.said(gpu.run(["gpu-01"], exporter.bench.context(sources=sources)))
    assert "told by dcgm-exporter" in shown and "GPU agent: is not configured" in shown


def test_an_agent_that_refuses_the_token_is_said_and_the_exporter_asked_instead(exporter):
    exporter.agents.down = SourceError("GPU agent", "the one on gpu-01 refused our token (401)", "Let both …")
    shown = exporter.shown("gpu-01")
    assert "told by dcgm-exporter" in shown and "GPU agent: the one on gpu-01 refused our token (401)." in shown


def test_a_node_without_gpus_is_said_to_have_none(nodes):
    nodes.bench.cluster.add_node("cpu-01", gpus=0)
    machines = nodes.bench.cluster.machines
    machines["cpu-01"] = replace(machines["cpu-01"], gpu_product=None)
    report = nodes.report("cpu-01")
    assert report.text == "No GPU is seen; nothing is known of cpu-01"
    assert "Kubernetes knows of no GPU on cpu-01 (nvidia.com/gpu)" in s.said(report)


def test_a_wrong_name_gets_the_nearest(nodes):
    with pytest.raises(UsageError, match="did you mean gpu-01"):
        nodes.report("gpu-1")
