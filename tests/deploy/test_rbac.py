"""What the bot's account may do, asked of the real API server after the manifests have been applied as users do."""

from pathlib import Path

import pytest
import requests

from sandbox.controlplane import bot_account
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane, KubectlError

READS = {
    ("", "pods"): {"get", "list"},
    ("", "pods/log"): {"get"},
    ("", "nodes"): {"get", "list"},
    ("", "events"): {"list"},
    ("policy", "poddisruptionbudgets"): {"list"},
    ("apps", "deployments"): {"get"},
    ("apps", "statefulsets"): {"get"},
    ("apps", "replicasets"): {"get", "list"},
    ("autoscaling", "horizontalpodautoscalers"): {"list"},
}
NODES = {("", "nodes"): {"patch"}}  # they are in no namespace
CHANGES = {
    ("", "pods"): {"delete"},
    ("", "pods/eviction"): {"create"},
    ("apps", "deployments"): {"patch"},
    ("apps", "statefulsets"): {"patch"},
    ("apps", "deployments/scale"): {"get", "patch"},
    ("apps", "statefulsets/scale"): {"get", "patch"},
}


@pytest.fixture
def bot(control_plane: ControlPlane, bot_token_file: Path) -> Path:
    return control_plane.kubeconfig_for(bot_account.NAMESPACE, bot_account.SERVICE_ACCOUNT)


def test_the_bot_reads_everywhere_and_changes_nothing_but_nodes(
    control_plane: ControlPlane, bot_token_file: Path, namespace: str
) -> None:
    assert _rights(control_plane, bot_token_file.read_text(), namespace) == _all_of(READS, NODES)


def test_where_a_binding_allows_it_the_bot_changes_what_its_actions_change_and_no_more(
    control_plane: ControlPlane, bot_token_file: Path, bot_namespace: str
) -> None:
    assert _rights(control_plane, bot_token_file.read_text(), bot_namespace) == _all_of(READS, NODES, CHANGES)


def test_its_requests_are_served(control_plane: ControlPlane, cluster: Cluster, bot: Path, bot_namespace: str) -> None:
    cluster.deploy(VllmDeployment(namespace=bot_namespace, replicas=1, cold_start_seconds=0.1))
    cluster.wait_until_rolled_out(bot_namespace, "chat-70b")
    cluster.roll_out(bot_namespace, "chat-70b", image="vllm/vllm-openai:v0.33.0", cause="vLLM 0.33.0")
    cluster.wait_until_rolled_out(bot_namespace, "chat-70b")
    deployment = ("-n", bot_namespace, "deployment/chat-70b")
    control_plane.kubectl("scale", *deployment, "--replicas=2", "--dry-run=server", kubeconfig=bot)
    control_plane.kubectl("scale", *deployment, "--replicas=2", kubeconfig=bot)
    control_plane.kubectl("rollout", "undo", *deployment, kubeconfig=bot)
    cluster.wait_until_rolled_out(bot_namespace, "chat-70b")
    (first, second) = cluster.pods(bot_namespace, "chat-70b")
    assert first["spec"]["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"
    control_plane.kubectl("logs", "-n", bot_namespace, second["metadata"]["name"], kubeconfig=bot)
    control_plane.kubectl("-n", bot_namespace, "delete", "pod", second["metadata"]["name"], kubeconfig=bot)
    control_plane.kubectl("cordon", "gpu-04", kubeconfig=bot)
    control_plane.kubectl("uncordon", "gpu-04", kubeconfig=bot)


def test_a_change_in_a_namespace_without_binding_is_refused_even_as_a_dry_run(
    control_plane: ControlPlane, cluster: Cluster, bot: Path, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=1))
    scale = ("scale", "-n", namespace, "deployment/chat-70b", "--replicas=2")
    with pytest.raises(KubectlError, match="cannot patch resource"):
        control_plane.kubectl(*scale, "--dry-run=server", kubeconfig=bot)
    assert cluster.deployment(namespace, "chat-70b")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    "what",
    [
        ("delete", "deployment/chat-70b"),
        ("delete", "node/gpu-01"),
        ("delete", "pdb/chat-70b"),
        ("-n", "kube-system", "delete", "pod", "etcd"),
        ("get", "secrets"),
        ("get", "configmaps"),
        ("exec", "deployment/chat-70b", "--", "id"),
        ("create", "token", "default"),
        ("patch", "node", "gpu-01", "--subresource=status", "-p", '{"status":{"capacity":{"cpu":"1"}}}'),
    ],
    ids=" ".join,
)
def test_what_it_does_not_need_is_forbidden(
    control_plane: ControlPlane, cluster: Cluster, bot: Path, bot_namespace: str, what: tuple[str, ...]
) -> None:
    cluster.deploy(VllmDeployment(namespace=bot_namespace, replicas=1, cold_start_seconds=0.1))
    cluster.wait_until_rolled_out(bot_namespace, "chat-70b")
    with pytest.raises(KubectlError, match=r"[Ff]orbidden"):
        control_plane.kubectl("-n", bot_namespace, *what, kubeconfig=bot)


def _all_of(*rights: dict[tuple[str, str], set[str]]) -> dict[tuple[str, str], set[str]]:
    return {key: set().union(*(r.get(key, set()) for r in rights)) for r in rights for key in r}


def _rights(control_plane: ControlPlane, token: str, namespace: str) -> dict[tuple[str, str], set[str]]:
    """All that the token may do with resources there, but for what every authenticated user may ask about himself."""
    answer = requests.post(
        f"{control_plane.url}/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        json={"spec": {"namespace": namespace}},
        headers={"Authorization": f"Bearer {token}"},
        verify=str(control_plane.ca),
        timeout=10,
    )
    review = answer.json()["status"]
    assert not review["incomplete"]
    found: dict[tuple[str, str], set[str]] = {}
    for rule in review["resourceRules"]:
        for group in set(rule["apiGroups"]) - {"authorization.k8s.io", "authentication.k8s.io"}:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found
