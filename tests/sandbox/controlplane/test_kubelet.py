import time
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane


@pytest.fixture
def pod(cluster: Cluster, namespace: str) -> str:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=1, cold_start_seconds=1))
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    name: str = cluster.pods(namespace, "chat-70b")[0]["metadata"]["name"]
    return name


def test_a_crash_stands_and_counts_as_unavailable(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, pod: str
) -> None:
    control_plane.kubelet.crash(namespace, pod, restarts=3)
    _until(lambda: not cluster.deployment(namespace, "chat-70b")["status"].get("availableReplicas"))
    # Longer than any stage of kwok would wait before it took the crash back.
    _stays(lambda: _container(cluster, namespace)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", 2)
    found = _container(cluster, namespace)
    assert found["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert (found["lastState"]["terminated"]["exitCode"], found["restartCount"]) == (137, 3)


def test_a_crash_while_the_model_loads_stands_too(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=1, cold_start_seconds=1))
    _until(lambda: [p["status"]["phase"] for p in cluster.pods(namespace, "chat-70b")] == ["Running"])
    pod = cluster.pods(namespace, "chat-70b")[0]["metadata"]["name"]
    control_plane.kubelet.crash(namespace, pod, exit_code=1, reason="Error")
    _stays(lambda: "waiting" in _container(cluster, namespace)["state"], 2)


def test_a_restarted_container_loads_again_and_keeps_its_history(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, pod: str
) -> None:
    control_plane.kubelet.restart(namespace, pod, exit_code=0)
    assert not _container(cluster, namespace)["ready"]
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    found = _container(cluster, namespace)
    assert (found["ready"], found["restartCount"]) == (True, 1)
    assert found["lastState"]["terminated"]["exitCode"] == 0


def test_a_failed_readiness_probe_stands_until_it_succeeds(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, pod: str
) -> None:
    control_plane.kubelet.set_ready(namespace, pod, False)
    _until(lambda: not cluster.deployment(namespace, "chat-70b")["status"].get("availableReplicas"))
    _stays(lambda: not _container(cluster, namespace)["ready"], 2)
    control_plane.kubelet.set_ready(namespace, pod, True)
    cluster.wait_until_rolled_out(namespace, "chat-70b")


def test_a_pod_that_only_the_node_controller_called_unready_becomes_ready_again(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, pod: str
) -> None:
    condition = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    control_plane.api.patch(f"{path}/status", {"status": {"conditions": [condition]}})
    _until(
        lambda: (
            {"True"}
            == {c["status"] for c in control_plane.api.get(path)["status"]["conditions"] if c["type"] == "Ready"}
        )
    )


def test_an_evicted_pod_stays_behind_as_a_failed_one_and_is_replaced(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, pod: str
) -> None:
    control_plane.kubelet.evict(namespace, pod, message="The node was low on resource: ephemeral-storage.")
    _until(lambda: len(cluster.pods(namespace, "chat-70b")) == 2)
    gone = next(p for p in cluster.pods(namespace, "chat-70b") if p["metadata"]["name"] == pod)
    assert (gone["status"]["phase"], gone["status"]["reason"]) == ("Failed", "Evicted")


def test_an_init_container_that_fails_keeps_the_others_from_starting(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    deployment = VllmDeployment(namespace=namespace, replicas=1, cold_start_seconds=1)
    workload, *_ = deployment.manifests()
    workload["spec"]["template"]["spec"]["initContainers"] = [{"name": "fetch", "image": "fetch:1"}]
    cluster.create_namespace(namespace)
    control_plane.api.apply(workload)
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    pod = cluster.pods(namespace, "chat-70b")[0]["metadata"]["name"]
    with pytest.raises(LookupError, match="no init container other"):
        control_plane.kubelet.init_fails(namespace, pod, "other")
    control_plane.kubelet.init_fails(namespace, pod, "fetch", exit_code=3)
    _stays(lambda: _container(cluster, namespace)["state"].get("waiting", {}).get("reason") == "PodInitializing", 2)
    (fetch,) = cluster.pods(namespace, "chat-70b")[0]["status"]["initContainerStatuses"]
    assert fetch["lastState"]["terminated"]["exitCode"] == 3


def test_kubectl_reads_the_logs_that_were_set(control_plane: ControlPlane, namespace: str, pod: str) -> None:
    assert control_plane.kubectl("-n", namespace, "logs", pod) == ""
    control_plane.kubelet.set_logs(
        namespace, pod, ["loading", "ready"], previous=["torch.OutOfMemoryError: CUDA out of memory."]
    )
    _until(lambda: control_plane.kubectl("-n", namespace, "logs", pod) == "loading\nready\n")
    assert control_plane.kubectl("-n", namespace, "logs", pod, "--tail=1") == "ready\n"
    assert "CUDA out of memory" in control_plane.kubectl("-n", namespace, "logs", pod, "--previous")


def _container(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.pods(namespace, "chat-70b")[0]["status"]["containerStatuses"][0]
    return found


def _until(holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _stays(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert holds()
        time.sleep(0.1)
