"""The agent's files in `deploy/agent`, as a user applies them, beside what the agent and the bot expect of them."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bot.outbound.gpu_agents import LABELS
from bot.settings import AgentAccess, AgentSettings
from sandbox.controlplane.build import built
from sandbox.controlplane.cluster import Cluster, GpuNode
from sandbox.controlplane.control_plane import ControlPlane, KubectlError
from tests.fixtures_fleet import until

DEPLOY = Path(__file__).parents[2] / "deploy"
NAMESPACE = AgentAccess().namespace
OFF = "agent-off"


@pytest.fixture(scope="module")
def applied(control_plane: ControlPlane, cluster: Cluster) -> Iterator[ControlPlane]:
    """The manifests, on GPU nodes of which one is kept free of agents, and one is cordoned."""
    cluster.add_node(GpuNode(OFF))
    control_plane.kubectl("label", "node", OFF, "vllm-oncall/agent=off")
    control_plane.kubectl("cordon", "gpu-02")
    control_plane.kubectl("apply", "-f", "-", stdin=_RUNTIME_CLASS)
    try:
        control_plane.kubectl("apply", "-k", str(DEPLOY / "agent"))
        yield control_plane
    finally:
        control_plane.kubectl("delete", "-k", str(DEPLOY / "agent"), "--wait=false")
        cluster.delete_namespace(NAMESPACE)
        control_plane.kubectl("uncordon", "gpu-02")
        cluster.remove_node(OFF)


def test_one_runs_on_every_gpu_node_but_those_kept_free_of_it(applied: ControlPlane, cluster: Cluster) -> None:
    expected = {node["metadata"]["name"] for node in cluster.nodes()} - {OFF}
    assert "gpu-02" in expected, "a cordoned node is one to look at"
    until(lambda: _nodes_of_agents(applied) == expected, seconds=30)


def test_a_label_takes_it_off_a_node_before_a_gpu_reset_and_gives_it_back(
    applied: ControlPlane, cluster: Cluster
) -> None:
    """As the notes of the runbook gpu_hardware_failure say."""
    until(lambda: "gpu-01" in _nodes_of_agents(applied), seconds=30)
    applied.kubectl("label", "node", "gpu-01", "vllm-oncall/agent=off")
    try:
        until(lambda: "gpu-01" not in _nodes_of_agents(applied), seconds=30)
        assert "gpu-03" in _nodes_of_agents(applied)
    finally:
        applied.kubectl("label", "node", "gpu-01", "vllm-oncall/agent-")
    until(lambda: "gpu-01" in _nodes_of_agents(applied), seconds=30)


def test_the_runbook_names_the_label_that_the_daemon_set_looks_for() -> None:
    affinity = _daemon_set()["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (label,) = [e["key"] for e in term["matchExpressions"] if e["operator"] == "NotIn" and e["values"] == ["off"]]
    text = (DEPLOY.parent / "runbooks" / "gpu_hardware_failure.yaml").read_text()
    assert f"kubectl label node $node {label}=off" in text and f"{label}-" in text


def test_the_bots_namespace_would_not_admit_it(control_plane: ControlPlane, bot_token_file: Path) -> None:
    """Which is why it has its own."""
    control_plane.kubectl("apply", "-f", "-", stdin=_RUNTIME_CLASS)
    template = _daemon_set()["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent"}, "spec": template["spec"]}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        control_plane.kubectl("-n", "vllm-oncall", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_the_bot_finds_it_by_its_labels_namespace_and_port() -> None:
    daemon_set = _daemon_set()
    assert daemon_set["spec"]["template"]["metadata"]["labels"].items() >= LABELS.items()
    assert daemon_set["spec"]["selector"]["matchLabels"] == LABELS
    assert daemon_set["metadata"]["namespace"] == NAMESPACE
    assert _container()["ports"] == [{"name": "http", "containerPort": AgentAccess().port}]
    assert AgentSettings(node="n").port == AgentAccess().port


def test_every_environment_variable_is_a_setting_of_the_agents() -> None:
    named = {entry["name"] for entry in _container()["env"]} | _example_secret("agent")
    ours = {name for name in named if name.startswith("VLLM_")}
    prefix = AgentSettings.model_config["env_prefix"]
    assert ours == {f"{prefix}NODE", f"{prefix}TOKEN"}
    assert {name.removeprefix(prefix).lower() for name in ours} <= set(AgentSettings.model_fields)


def test_the_bot_and_the_agent_share_a_token() -> None:
    assert _example_secret("agent") <= _example_secret("base")


def test_it_is_started_as_the_image_starts_python() -> None:
    entry = re.search(r'^ENTRYPOINT \["([^"]+)"', (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert entry is not None
    assert _container()["command"] == [entry[1], "-m", "bot.agent"]


def test_what_it_reads_is_mounted_where_it_looks_and_only_its_history_can_be_written() -> None:
    settings = AgentSettings(node="n")
    assert settings.history is not None and settings.pod_resources is not None
    mounts = {m["mountPath"]: m.get("readOnly", False) for m in _container()["volumeMounts"]}
    read = {str(settings.kmsg): True, str(settings.pod_resources.parent): True}
    assert mounts == {**read, str(settings.history.parent): False, "/tmp": False}
    assert _container()["securityContext"]["readOnlyRootFilesystem"]


def test_it_holds_no_more_than_the_kernels_log_takes() -> None:
    spec, security = _daemon_set()["spec"]["template"]["spec"], _container()["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYSLOG"]}
    assert not security["allowPrivilegeEscalation"]
    assert "privileged" not in security
    assert not spec["automountServiceAccountToken"]
    assert "hostNetwork" not in spec


def test_only_the_bot_and_prometheus_reach_it_and_it_calls_nobody() -> None:
    (policy,) = [o for o in _render() if o["kind"] == "NetworkPolicy"]
    assert policy["spec"]["podSelector"]["matchLabels"] == LABELS
    assert policy["spec"]["egress"] == []
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": AgentAccess().port}]
    callers = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]]
    assert callers == ["vllm-oncall", "monitoring"]
    (bot,) = [o for o in _render("base") if o["kind"] == "Deployment"]
    assert rule["from"][0]["podSelector"]["matchLabels"] == bot["spec"]["template"]["metadata"]["labels"]


# ---------------------------------------------------------------------------------------------- helpers


def _nodes_of_agents(control_plane: ControlPlane) -> set[str | None]:
    pods = control_plane.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
    return {pod["spec"].get("nodeName") for pod in pods}


def _example_secret(folder: str) -> set[str]:
    return set(re.findall(r"^(VLLM_ONCALL_AGENT__\w+)=", (DEPLOY / folder / "secret.example.env").read_text(), re.M))


def _daemon_set() -> dict[str, Any]:
    (found,) = [o for o in _render() if o["kind"] == "DaemonSet"]
    return found


def _container() -> dict[str, Any]:
    (found,) = _daemon_set()["spec"]["template"]["spec"]["containers"]
    container: dict[str, Any] = found
    return container


def _render(variant: str = "agent") -> list[dict[str, Any]]:
    ran = subprocess.run(
        [built("kubectl"), "kustomize", str(DEPLOY / variant)], capture_output=True, text=True, check=True
    )
    return list(YAML(typ="safe").load_all(ran.stdout))


_RUNTIME_CLASS = """
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nvidia}
handler: nvidia
"""
