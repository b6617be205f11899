"""GPU nodes as their agents tell them, and what an exporter says, for the GPU probes' tests. Shared."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pydantic import TypeAdapter

from bot.gpu_readings import Gpu, GpuEvent, GpuNode, Holder, Watching
from bot.ports import Answer, Sample
from tests.fakes import NOW, FakeGpus

RECORDED = TypeAdapter(GpuNode).validate_json(
    (Path(__file__).parents[1] / "payloads" / "agent-h100-x2-gpus.json").read_text()
)
HEALTHY = replace(RECORDED.gpus[0], processes=(), nvlinks=None)
WATCHED = Watching(NOW - timedelta(days=1), nvml=True, kernel_log="/dev/kmsg")


def gpu(index: int, *, held_by=None, by="kubelet", **changed) -> Gpu:
    """A healthy H100. `held_by`: a pod."""
    holders = () if held_by is None else (Holder(held_by.uid, held_by.namespace, held_by.name, "vllm", by),)
    if held_by is not None and by == "process":
        holders = (Holder(pod_uid=held_by.uid),)
    return replace(
        HEALTHY, index=index, uuid=f"GPU-{index}", pci=f"00000000:{index:02x}:00.0", holders=holders, **changed
    )


def agent(*gpus: Gpu, node: str = "gpu-01", watching: Watching | None = WATCHED, **more) -> GpuNode:
    return GpuNode(node, NOW, gpus or tuple(gpu(n) for n in range(8)), watching=watching, **more)


def agents(*nodes: GpuNode, **events: tuple[GpuEvent, ...]) -> FakeGpus:
    """`events` by node, with _ for its dash."""
    happened = {name.replace("_", "-"): told for name, told in events.items()}
    return FakeGpus({one.node: one for one in nodes}, happened)


def xid(number: int, *, index: int = 0, minutes: float = 5, seq: int = 1, **more) -> GpuEvent:
    at = NOW - timedelta(minutes=minutes)
    told = GpuEvent(f"ring-{seq}", seq, at, at, xid=number, gpu_uuid=f"GPU-{index}", pci=f"0000:{index:02x}:00")
    return replace(told, **more)


def exported(node: str = "gpu-01", **values) -> Answer:
    """Field -> what each GPU from 0 on says; None leaves a GPU out."""
    return Answer(
        tuple(
            Sample({"__name__": name, "gpu": str(n), "UUID": f"GPU-{n}", "Hostname": node}, float(value), NOW)
            for name, said in values.items()
            for n, value in enumerate(said)
            if value is not None
        )
    )
