import ipaddress
import time

import pytest

from sandbox.controlplane.cluster import Cluster, GpuNode, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane, KubectlError


def test_replicas_get_loopback_addresses_and_are_ready_after_their_cold_start(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=2, cold_start_seconds=2))
    deadline = time.monotonic() + 20
    while not (loading := [pod for pod in cluster.pods(namespace, "chat-70b") if pod["status"]["phase"] == "Running"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not _ready(loading[0])
    assert "running" in loading[0]["status"]["containerStatuses"][0]["state"]

    cluster.wait_until_rolled_out(namespace, "chat-70b")
    pods = cluster.pods(namespace, "chat-70b")
    network = ipaddress.ip_network(control_plane.pod_cidr)
    assert all(_ready(pod) for pod in pods)
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    assert all(ipaddress.ip_address(pod["status"]["podIP"]) in network for pod in pods)


def test_the_scheduler_counts_gpus(cluster: Cluster, namespace: str) -> None:
    assert sum(cluster.free_gpus().values()) == 32
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=5, gpus=8, cold_start_seconds=0.1))
    deadline = time.monotonic() + 20
    while sum(cluster.free_gpus().values()) > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (pending,) = [pod for pod in cluster.pods(namespace, "chat-70b") if "nodeName" not in pod["spec"]]
    deadline = time.monotonic() + 10
    while "conditions" not in pending["status"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        pending = next(p for p in cluster.pods(namespace, "chat-70b") if "nodeName" not in p["spec"])
    assert "Insufficient nvidia.com/gpu" in pending["status"]["conditions"][0]["message"]

    cluster.add_node(GpuNode("gpu-05"))
    try:
        cluster.wait_until_rolled_out(namespace, "chat-70b")
    finally:
        cluster.scale(namespace, "chat-70b", 0)
        cluster.wait_until_rolled_out(namespace, "chat-70b")
        cluster.remove_node("gpu-05")


def test_an_unschedulable_node_offers_no_gpus_and_gets_no_pods(cluster: Cluster, namespace: str) -> None:
    cluster.set_schedulable("gpu-01", False)
    try:
        assert set(cluster.free_gpus()) == {"gpu-02", "gpu-03", "gpu-04"}
        cluster.deploy(VllmDeployment(namespace=namespace, replicas=6, cold_start_seconds=0.1))
        cluster.wait_until_rolled_out(namespace, "chat-70b")
        assert {pod["spec"]["nodeName"] for pod in cluster.pods(namespace, "chat-70b")} == {
            "gpu-02",
            "gpu-03",
            "gpu-04",
        }
    finally:
        cluster.set_schedulable("gpu-01", True)


def test_a_rollout_makes_a_revision_with_its_cause_and_can_be_undone(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=2, cold_start_seconds=0.1))
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    cluster.roll_out(namespace, "chat-70b", image="vllm/vllm-openai:v0.33.0", cause="vLLM 0.33.0")
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    history = control_plane.kubectl("-n", namespace, "rollout", "history", "deployment/chat-70b")
    assert "2         vLLM 0.33.0" in history
    assert _images(cluster, namespace) == {"vllm/vllm-openai:v0.33.0"}

    control_plane.kubectl("-n", namespace, "rollout", "undo", "deployment/chat-70b")
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    assert _images(cluster, namespace) == {"vllm/vllm-openai:v0.32.0"}


def test_the_disruption_budget_holds(control_plane: ControlPlane, cluster: Cluster, namespace: str) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=2, minimum_available=2, cold_start_seconds=0.1))
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    pod = cluster.pods(namespace, "chat-70b")[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    with pytest.raises(Exception, match="disruption budget"):
        control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", eviction)


def test_arguments_are_what_vllm_serve_takes() -> None:
    deployment = VllmDeployment(name="m", gpus=2, model="org/model", flags={"max-num-seqs": 64, "enforce-eager": None})
    assert deployment.arguments == [
        "org/model",
        "--served-model-name=m",
        "--tensor-parallel-size=2",
        "--max-num-seqs=64",
        "--enforce-eager",
    ]


def test_a_deleted_pod_is_replaced_and_its_name_is_gone(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=1, cold_start_seconds=0.1))
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    before = cluster.pods(namespace, "chat-70b")[0]["metadata"]["name"]
    control_plane.kubectl("-n", namespace, "delete", "pod", before)
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    with pytest.raises(KubectlError, match="not found"):
        control_plane.kubectl("-n", namespace, "get", "pod", before)


def test_a_job_completes(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "job", "quick", "--image=busybox")
    control_plane.kubectl("-n", namespace, "wait", "--for=condition=complete", "job/quick", "--timeout=30s")


def _ready(pod: dict) -> bool:  # type: ignore[type-arg]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


def _images(cluster: Cluster, namespace: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(namespace, "chat-70b")}
