"""The bot's own way into the real control plane: the ServiceAccount and the roles of deploy/, never as admin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.outbound.kubernetes_http import KubernetesHttp
from sandbox.controlplane.cluster import Cluster
from sandbox.controlplane.control_plane import ControlPlane
from tests.outbound.worlds import FakeWorld, RealWorld, World

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "base"


@pytest.fixture(scope="session")
def bot_token(control_plane: ControlPlane) -> str:
    """Of the ServiceAccount in deploy/, bound to what deploy/ says it may read."""
    for file in ("namespace.yaml", "service-account.yaml", "rbac-read.yaml"):
        control_plane.kubectl("apply", "-f", str(DEPLOY / file))
    # The example there binds the bot in `llm`; here each test binds it in a namespace of its own.
    change = (DEPLOY / "rbac-change.yaml").read_text().split("\n---\n")
    wanted = [document for document in change if "\nkind: RoleBinding\n" not in document]
    control_plane.kubectl("apply", "-f", "-", stdin="\n---\n".join(wanted))
    return control_plane.token("vllm-oncall", "vllm-oncall")


@pytest.fixture
def bot_http(control_plane: ControlPlane, bot_token: str, namespace: str, tmp_path: Path) -> KubernetesHttp:
    """As the bot asks; in this test's namespace it may change things."""
    control_plane.api.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "vllm-oncall-change", "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "vllm-oncall-change",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "vllm-oncall", "namespace": "vllm-oncall"}],
        }
    )
    token_file = tmp_path / "token"
    token_file.write_text(bot_token)
    return KubernetesHttp(control_plane.url, token_file=token_file, ca_file=control_plane.ca, timeout_seconds=10)


@pytest.fixture
def real_world(
    control_plane: ControlPlane, cluster: Cluster, namespace: str, bot_http: KubernetesHttp
) -> Iterator[RealWorld]:
    yield RealWorld(control_plane, cluster, namespace, bot_http)
    for node in cluster.nodes():
        cluster.set_schedulable(node["metadata"]["name"], True)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    """The contract of the Kubernetes ports holds in both."""
    if request.param == "fake":
        return FakeWorld()
    real: RealWorld = request.getfixturevalue("real_world")
    return real
