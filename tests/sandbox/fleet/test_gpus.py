from sandbox.fleet.contract import GpuFault, GpuReadings
from sandbox.fleet.gpus import GpuPool, Owner
from tests.fixtures_fleet import node

FIRST = Owner("u1", "llm", "chat-0", "vllm")
SECOND = Owner("u2", "llm", "chat-1", "vllm")


def pool() -> GpuPool:
    made = GpuPool()
    made.set_nodes([node("gpu-01"), node("gpu-02")])
    return made


def indexes(of: GpuPool, uid: str) -> list[int]:
    return [gpu.index for gpu in of.of("gpu-01", uid)]


def test_pods_get_gpus_of_their_node_and_keep_them():
    gpus = pool()
    gpus.set_owners({FIRST: ("gpu-01", 4)})
    gpus.set_owners({SECOND: ("gpu-01", 4), FIRST: ("gpu-01", 4)})
    assert (indexes(gpus, "u1"), indexes(gpus, "u2")) == ([0, 1, 2, 3], [4, 5, 6, 7])
    gpus.set_owners({SECOND: ("gpu-01", 4)})
    assert (indexes(gpus, "u1"), indexes(gpus, "u2")) == ([], [4, 5, 6, 7])


def test_a_busy_gpu_gets_warm_and_uses_energy():
    gpus = pool()
    gpu = gpus.nodes["gpu-01"][0]
    before = gpu.celsius
    gpu.busy_ratio = 1.0
    for _ in range(60):
        gpus.advance(1.0)
    assert gpu.celsius > before + 20
    assert gpu.energy_millijoules > 60 * gpus.nodes["gpu-01"][1].energy_millijoules / 60 * 5


def test_a_fault_replaces_readings_of_the_gpu_it_names():
    gpus = pool()
    gpus.set_faults([GpuFault(node="gpu-01", gpu=3, readings=GpuReadings(xid=79, ecc_double_bit=2))])
    assert [gpu.readings.xid for gpu in gpus.nodes["gpu-01"]] == [None, None, None, 79, None, None, None, None]
    assert gpus.nodes["gpu-02"][3].readings.xid is None
    gpus.set_faults([])
    assert gpus.nodes["gpu-01"][3].readings.xid is None


def test_a_fault_stays_when_the_nodes_are_told_again():
    gpus = pool()
    gpus.set_faults([GpuFault(node="gpu-0?", readings=GpuReadings(xid=31))])
    gpus.set_nodes([node("gpu-01"), node("gpu-03")])
    assert gpus.nodes["gpu-03"][0].readings.xid == 31
    assert "gpu-02" not in gpus.nodes


def test_an_exporter_may_be_down_or_hide_fields():
    gpus = pool()
    gpus.set_faults(
        [GpuFault(node="gpu-01", exporter_down=True), GpuFault(node="gpu-02", hidden_fields=("DCGM_FI_DEV_GPU_TEMP",))]
    )
    assert gpus.exporter("gpu-01") is None
    assert gpus.exporter("nowhere") is None
    second = gpus.exporter("gpu-02")
    assert second is not None
    assert second.hidden == {"DCGM_FI_DEV_GPU_TEMP"}
