"""A small GPU cluster on a control plane: nodes with GPUs, and vLLM deployments with their service and budget."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.controlplane.control_plane import ControlPlane

_CORDONED = "node.kubernetes.io/unschedulable"
_GPU = "nvidia.com/gpu"
_HTTP_PORT = 8000


@dataclass(frozen=True)
class GpuNode:
    name: str
    gpus: int = 8
    product: str = "NVIDIA-H100-80GB-HBM3"  # as NVIDIA's feature discovery spells it
    memory_mib: int = 81_559
    zone: str = "zone-a"


@dataclass(frozen=True)
class VllmDeployment:
    """`flags` become `--name=value`; None is a flag without a value. The model comes first, as after `vllm serve`."""

    namespace: str = "llm"
    name: str = "chat-70b"
    replicas: int = 3
    gpus: int = 4
    image: str = "vllm/vllm-openai:v0.32.0"
    model: str = "meta-llama/Llama-3.3-70B-Instruct"
    flags: Mapping[str, str | int | float | None] = field(
        default_factory=lambda: {
            "max-model-len": 16_384,
            "max-num-seqs": 256,
            "gpu-memory-utilization": 0.9,
        }
    )
    cold_start_seconds: float = 3
    minimum_available: int = 1  # of its disruption budget
    labels: Mapping[str, str] = field(default_factory=dict)  # more labels for the pods

    @property
    def arguments(self) -> list[str]:
        flags = {"served-model-name": self.name, "tensor-parallel-size": self.gpus, **self.flags}
        return [self.model, *(f"--{name}" if value is None else f"--{name}={value}" for name, value in flags.items())]

    def manifests(self) -> list[dict[str, Any]]:
        metadata = {"name": self.name, "namespace": self.namespace, "labels": {"app": self.name}}
        selector = {"app": self.name}
        return [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {
                    "replicas": self.replicas,
                    "revisionHistoryLimit": 10,
                    "selector": {"matchLabels": selector},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                    "template": self._template(),
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
            },
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": metadata,
                "spec": {"minAvailable": self.minimum_available, "selector": {"matchLabels": selector}},
            },
        ]

    def _template(self) -> dict[str, Any]:
        health = {"httpGet": {"path": "/health", "port": "http"}}
        return {
            "metadata": {
                "labels": {"app": self.name, **self.labels},
                "annotations": {"vllm-oncall.sandbox/cold-start": f"{self.cold_start_seconds}s"},
            },
            "spec": {
                "terminationGracePeriodSeconds": 60,
                "containers": [
                    {
                        "name": "vllm",
                        "image": self.image,
                        "args": self.arguments,
                        "ports": [{"name": "http", "containerPort": _HTTP_PORT}],
                        "resources": {
                            "requests": {"cpu": "8", "memory": "64Gi", _GPU: str(self.gpus)},
                            "limits": {"memory": "256Gi", _GPU: str(self.gpus)},
                        },
                        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": 360},
                        "readinessProbe": {**health, "periodSeconds": 5},
                    }
                ],
            },
        }


@dataclass(frozen=True)
class GpuPod:
    """A container that holds GPUs."""

    namespace: str
    name: str
    container: str
    gpus: int


def default_nodes(count: int = 4) -> list[GpuNode]:
    """gpu-01 … with 8 GPUs each, spread over two zones."""
    return [GpuNode(f"gpu-{i:02}", zone=f"zone-{'ab'[i % 2]}") for i in range(1, count + 1)]


class Cluster:
    """What one does to a cluster from outside: a platform team's hands, not the bot's."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self._api = control_plane.api

    def seed(self, nodes: Iterable[GpuNode] | None = None, deployments: Iterable[VllmDeployment] | None = None) -> None:
        """Nodes, namespaces, deployments; waits until every replica is ready. The default: chat-70b on 4 nodes."""
        wanted = list(deployments) if deployments is not None else [VllmDeployment()]
        for node in nodes if nodes is not None else default_nodes():
            self.add_node(node)
        for deployment in wanted:
            self.deploy(deployment)
        for deployment in wanted:
            self.wait_until_rolled_out(deployment.namespace, deployment.name)

    # ------------------------------------------------------------------------------------------------ nodes

    def add_node(self, node: GpuNode) -> None:
        resources = {"cpu": "192", "memory": "2Ti", "pods": "110", _GPU: str(node.gpus)}
        self._api.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": {
                        "kubernetes.io/hostname": node.name,
                        "kubernetes.io/os": "linux",
                        "kubernetes.io/arch": "amd64",
                        "topology.kubernetes.io/zone": node.zone,
                        "nvidia.com/gpu.present": "true",
                        "nvidia.com/gpu.count": str(node.gpus),
                        "nvidia.com/gpu.product": node.product,
                        "nvidia.com/gpu.memory": str(node.memory_mib),
                    },
                },
                "status": {"capacity": resources, "allocatable": resources},
            }
        )

    def remove_node(self, name: str) -> None:
        """Its pods go with it, once the garbage collector has seen that."""
        self._api.delete(f"/api/v1/nodes/{name}")

    def set_schedulable(self, node: str, schedulable: bool) -> None:
        """Returns when the node controller has followed with its taint, which keeps pods off as the field does."""
        path = f"/api/v1/nodes/{node}"
        self._api.patch(path, {"spec": {"unschedulable": not schedulable}})

        def followed() -> bool:
            taints = self._api.get(path)["spec"].get("taints", [])
            return any(taint["key"] == _CORDONED for taint in taints) is not schedulable

        _until(followed, 20, f"{'no taint' if schedulable else 'the taint'} of a cordoned node on {node}")

    def nodes(self) -> list[dict[str, Any]]:
        return self._api.items("/api/v1/nodes")

    def free_gpus(self) -> dict[str, int]:
        """Unrequested GPUs per schedulable node."""
        free = {
            node["metadata"]["name"]: int(node["status"]["allocatable"].get(_GPU, 0))
            for node in self.nodes()
            if not node["spec"].get("unschedulable")
        }
        for pod in self._api.items("/api/v1/pods"):
            name = pod["spec"].get("nodeName")
            if name in free and pod["status"]["phase"] not in ("Succeeded", "Failed"):
                free[name] -= sum(_gpus(container) for container in pod["spec"]["containers"])
        return free

    # ------------------------------------------------------------------------------------------------ workloads

    def create_namespace(self, name: str) -> None:
        """If it is not there yet. Returns when pods can be created in it."""
        self._api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        _until(lambda: self._api.find(path) is not None, 20, f"ServiceAccount default in {name}")

    def delete_namespace(self, name: str) -> None:
        """With all that is in it; returns when its pods are gone."""
        self._api.delete(f"/api/v1/namespaces/{name}")
        # By itself the namespace controller comes to it after 5 s. In a namespace that ends, no pod is created again.
        pods = f"/api/v1/namespaces/{name}/pods"
        self._api.delete(f"{pods}?gracePeriodSeconds=0")
        _until(lambda: not self._api.items(pods), 30, f"end of the pods in {name}")

    def deploy(self, deployment: VllmDeployment) -> None:
        self.create_namespace(deployment.namespace)
        for manifest in deployment.manifests():
            self._api.apply(manifest)

    def scale(self, namespace: str, name: str, replicas: int) -> None:
        self._api.patch(f"{_deployment(namespace, name)}", {"spec": {"replicas": replicas}})

    def roll_out(
        self,
        namespace: str,
        name: str,
        *,
        cause: str,
        image: str | None = None,
        arguments: list[str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """A new revision; `cause` is what `kubectl rollout history` shows. Annotations are the pod template's."""
        container: dict[str, Any] = {"name": "vllm"}
        if image is not None:
            container["image"] = image
        if arguments is not None:
            container["args"] = arguments
        self._api.patch(
            _deployment(namespace, name),
            {
                "metadata": {"annotations": {"kubernetes.io/change-cause": cause}},
                "spec": {
                    "template": {
                        "metadata": {"annotations": dict(annotations or {})},
                        "spec": {"containers": [container]},
                    }
                },
            },
        )

    def deployment(self, namespace: str, name: str) -> dict[str, Any]:
        return self._api.get(_deployment(namespace, name))

    def pods(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """All pods that the deployment selects, terminating ones too."""
        labels = self.deployment(namespace, name)["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self._api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)

    def pods_with_gpus(self, node: str) -> list[GpuPod]:
        """Oldest first, as the kubelet gave out its GPUs."""
        found = self._api.items("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")
        found.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        holders = [
            GpuPod(pod["metadata"]["namespace"], pod["metadata"]["name"], container["name"], _gpus(container))
            for pod in found
            if pod["status"]["phase"] not in ("Succeeded", "Failed")
            for container in pod["spec"]["containers"]
        ]
        return [holder for holder in holders if holder.gpus]

    def run_pod(self, namespace: str, name: str, *, node: str, labels: Mapping[str, str]) -> None:
        """One without a controller, on that node; if it is not there yet."""
        self._api.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": namespace, "name": name, "labels": dict(labels)},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": name}]},
            }
        )

    def pod_address(self, namespace: str, name: str) -> str | None:
        """None until it runs."""
        status = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"]
        return status.get("podIP") if status.get("phase") == "Running" else None

    def delete_pod(self, namespace: str, name: str) -> None:
        self._api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")

    def wait_until_rolled_out(self, namespace: str, name: str, seconds: float = 60) -> None:
        """All replicas are of the newest revision and available, and no other pod is left."""

        def done() -> bool:
            found = self.deployment(namespace, name)
            wanted, status = found["spec"]["replicas"], found.get("status", {})
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            return seen and counts == [wanted] * 3 and len(self.pods(namespace, name)) == wanted

        _until(done, seconds, f"rollout of {namespace}/{name}")


def _deployment(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def _gpus(container: Mapping[str, Any]) -> int:
    return int(container.get("resources", {}).get("requests", {}).get(_GPU, 0))


def _until(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(0.05)
