"""The fleet's process against a real API server, and what a real Prometheus sees of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sandbox.controlplane.cluster import Cluster, GpuNode, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.fleet.contract import Config, Effect, Fault, Match
from sandbox.fleet.control import Fleet
from sandbox.prometheus import Job, Prometheus
from tests.fixtures_fleet import until

FLAGS = {"max-model-len": 16_384, "max-num-seqs": 32}
SLOW_RELEASE = {"slow-release": Fault(match=Match(image="*:v0.33.0"), effect=Effect(slowdown=4))}


@pytest.fixture
def fleet(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, control_plane.admin_kubeconfig, Config(faults=SLOW_RELEASE)) as running:
        yield running


def deploy(cluster: Cluster, namespace: str, replicas: int, cold_start_seconds: float = 0.5) -> None:
    deployment = VllmDeployment(
        namespace=namespace, replicas=replicas, flags=FLAGS, cold_start_seconds=cold_start_seconds
    )
    cluster.deploy(deployment)


def replicas(fleet: Fleet, namespace: str) -> list[dict]:
    return [r for r in fleet.state()["replicas"] if r["namespace"] == namespace]


def listening(fleet: Fleet, namespace: str) -> list[dict]:
    return [r for r in replicas(fleet, namespace) if r["listens"]]


def test_replicas_follow_the_pods_of_a_real_api_server(cluster: Cluster, namespace: str, fleet: Fleet):
    deploy(cluster, namespace, 2, cold_start_seconds=2)
    until(lambda: len(replicas(fleet, namespace)) == 2)
    assert not listening(fleet, namespace), "they are loading"
    until(lambda: len(listening(fleet, namespace)) == 2)
    addresses = {replica["address"] for replica in listening(fleet, namespace)}
    for address in addresses:
        assert requests.get(f"http://{address}/health", timeout=5).ok
        answer = requests.post(f"http://{address}/v1/completions", json={"prompt": "hi", "max_tokens": 3}, timeout=10)
        assert answer.json()["model"] == "chat-70b"

    cluster.scale(namespace, "chat-70b", 1)
    until(lambda: len(replicas(fleet, namespace)) == 1)
    (left,) = {replica["address"] for replica in listening(fleet, namespace)}
    (gone,) = addresses - {left}
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{gone}/health", timeout=5)


def test_a_new_revision_has_its_own_arguments_and_pace(cluster: Cluster, namespace: str, fleet: Fleet):
    deploy(cluster, namespace, 1)
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    arguments = VllmDeployment(namespace=namespace, flags={**FLAGS, "max-num-seqs": 8}).arguments
    cluster.roll_out(namespace, "chat-70b", cause="try 0.33", image="vllm/vllm-openai:v0.33.0", arguments=arguments)
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    until(lambda: [r["image"] for r in listening(fleet, namespace)] == ["vllm/vllm-openai:v0.33.0"])
    (new,) = listening(fleet, namespace)
    assert (new["max_num_seqs"], new["effect"]["slowdown"]) == (8, 4)


def test_a_container_that_crashes_drops_its_requests_and_starts_from_zero(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, fleet: Fleet
):
    deploy(cluster, namespace, 1)
    until(lambda: len(listening(fleet, namespace)) == 1)
    (before,) = listening(fleet, namespace)
    url = f"http://{before['address']}"
    requests.post(f"{url}/v1/completions", json={"prompt": "hi", "max_tokens": 3}, timeout=10)
    control_plane.kubelet.crash(namespace, before["pod"])
    until(lambda: not listening(fleet, namespace))
    control_plane.kubelet.restart(namespace, before["pod"])
    until(lambda: len(listening(fleet, namespace)) == 1)
    assert 'finished_reason="length",model_name="chat-70b"} 0.0' in requests.get(f"{url}/metrics", timeout=5).text


def test_prometheus_sees_an_overload_and_its_end(cluster: Cluster, namespace: str, fleet: Fleet, tmp_path: Path):
    """Found by service discovery; scaling the real Deployment brings the latency back."""
    deploy(cluster, namespace, 1)
    cluster.wait_until_rolled_out(namespace, "chat-70b")
    fleet.set_load("chat", namespace=namespace, selector={"app": "chat-70b"}, requests_per_second=15)
    jobs = [
        Job("vllm", http_sd_url=fleet.vllm_sd_url),
        Job("dcgm", http_sd_url=fleet.dcgm_sd_url, more={"honor_labels": True}),
    ]
    selector = f'namespace="{namespace}"'
    waiting = f"sum(vllm:num_requests_waiting{{{selector}}})"
    ttft = f"histogram_quantile(0.99, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket{{{selector}}}[5s])))"
    with Prometheus(tmp_path / "prometheus", jobs) as prometheus:

        def value(query: str) -> float:
            return next((sample.value for sample in prometheus.query(query)), -1)

        until(lambda: 0 < value(ttft) < 0.3, 30)
        (pod,) = [r["pod"] for r in listening(fleet, namespace)]
        (running,) = prometheus.query(f"vllm:num_requests_running{{{selector}}}")
        assert (running.labels["pod"], running.labels["job"], running.labels["model_name"]) == (pod, "vllm", "chat-70b")
        assert value(f'count(DCGM_FI_DEV_GPU_UTIL{{{selector},pod="{pod}"}})') == 4

        fleet.change_load("chat", requests_per_second=45)
        until(lambda: value(waiting) > 60 and value(ttft) > 1, 30)
        assert value(f"min(DCGM_FI_DEV_GPU_UTIL{{{selector}}})") > 90
        cluster.scale(namespace, "chat-70b", 3)
        until(lambda: value(f"count(vllm:num_requests_waiting{{{selector}}})") == 3, 30)
        until(lambda: value(waiting) < 10 and value(ttft) < 0.3, 30)

        cluster.scale(namespace, "chat-70b", 0)
        until(lambda: prometheus.query(f"vllm:num_requests_running{{{selector}}}") == [], 20)


def test_the_process_ends_when_told(control_plane: ControlPlane, tmp_path: Path):
    fleet = Fleet(tmp_path, control_plane.admin_kubeconfig).start()
    fleet.stop()
    assert fleet.part.wait(1) == 0


def test_an_outage_of_the_api_server_leaves_the_replicas_and_is_made_up_for(tmp_path: Path):
    with ControlPlane(tmp_path / "control-plane") as own:
        cluster = Cluster(own)
        cluster.seed([GpuNode("gpu-01")], [VllmDeployment(replicas=1, flags=FLAGS, cold_start_seconds=0.5)])
        with Fleet(tmp_path / "fleet", own.admin_kubeconfig) as fleet:
            until(lambda: len(listening(fleet, "llm")) == 1)
            with own.outage(refuse=True):
                (replica,) = listening(fleet, "llm")
                assert requests.get(f"http://{replica['address']}/health", timeout=5).ok
            cluster.scale("llm", "chat-70b", 2)
            until(lambda: len(listening(fleet, "llm")) == 2, 30)
