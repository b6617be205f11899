"""From the API server's JSON to what the fleet must know of a pod and of a GPU node. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.fleet.capacity import Gpu

GPU = "nvidia.com/gpu"
DEFAULT_MEMORY_MIB = 81_559  # an H100's, for nodes without the label nvidia.com/gpu.memory
DEFAULT_PRODUCT = "NVIDIA-H100-80GB-HBM3"


@dataclass(frozen=True)
class PodFacts:
    """A pod with a vLLM container. `running` and `ready` are what the API server says, true or not."""

    uid: str
    namespace: str
    name: str
    node: str | None
    ip: str | None
    labels: Mapping[str, str]
    container: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    gpus: int
    ready: bool
    running: bool
    terminating: bool
    restarts: int
    started_at: str | None  # of the container, as written


@dataclass(frozen=True)
class NodeFacts:
    name: str
    gpus: int
    gpu: Gpu


def pod_facts(pod: Mapping[str, Any]) -> PodFacts | None:
    """None if no container of it runs vLLM, or if it has ended for good."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    container = _vllm_container(spec.get("containers") or [])
    if container is None or status.get("phase") in ("Succeeded", "Failed"):
        return None
    state = next((s for s in status.get("containerStatuses") or [] if s.get("name") == container["name"]), None)
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    started = ((state or {}).get("state") or {}).get("running")
    return PodFacts(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName"),
        ip=status.get("podIP"),
        labels=dict(metadata.get("labels") or {}),
        container=container["name"],
        image=container.get("image") or "",
        command=tuple(container.get("command") or ()),
        args=tuple(container.get("args") or ()),
        env={e["name"]: e.get("value") or "" for e in container.get("env") or [] if "valueFrom" not in e},
        gpus=_count((container.get("resources") or {}).get("limits", {}).get(GPU)),
        ready=conditions.get("Ready") == "True",
        # A status that lists no containers (kwok may write one) leaves only the phase to go by.
        running=started is not None if state is not None else status.get("phase") == "Running",
        terminating=metadata.get("deletionTimestamp") is not None,
        restarts=int((state or {}).get("restartCount") or 0),
        started_at=(started or {}).get("startedAt"),
    )


def _vllm_container(containers: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one that runs vLLM; if several mention it (a proxy beside it does), the one that has the GPUs."""
    mentioning = [c for c in containers if _mentions_vllm(c)]
    with_gpus = [c for c in mentioning if _count((c.get("resources") or {}).get("limits", {}).get(GPU))]
    return next(iter(with_gpus or mentioning), None)


def _mentions_vllm(container: Mapping[str, Any]) -> bool:
    words = [container.get("image") or "", *(container.get("command") or ()), *(container.get("args") or ())]
    return any("vllm" in word for word in words)


def node_facts(node: Mapping[str, Any]) -> NodeFacts | None:
    """None for a node without GPUs."""
    labels = node["metadata"].get("labels") or {}
    gpus = _count(((node.get("status") or {}).get("capacity") or {}).get(GPU))
    if gpus == 0:
        return None
    memory = labels.get("nvidia.com/gpu.memory")
    product = labels.get("nvidia.com/gpu.product", DEFAULT_PRODUCT)
    return NodeFacts(node["metadata"]["name"], gpus, Gpu(product, int(memory) if memory else DEFAULT_MEMORY_MIB))


def _count(quantity: object) -> int:
    return int(str(quantity)) if quantity is not None else 0
