"""One real Kubernetes control plane for the whole run, four GPU nodes in it, a namespace for each test that asks."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.controlplane import bot_account
from sandbox.controlplane.cluster import Cluster, default_nodes
from sandbox.controlplane.control_plane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Shared: a test that takes the API server away starts its own `ControlPlane` instead (4 s)."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Cluster:
    """gpu-01 to gpu-04 with 8 GPUs each, and nothing on them. A test gives back what it takes."""
    made = Cluster(control_plane)
    made.seed(default_nodes(), [])
    return made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test's own; what it deploys there is gone afterwards, and its GPUs are free."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="session")
def bot_token_file(control_plane: ControlPlane) -> Path:
    """The token of the bot's own account, with the roles of `deploy/`: it reads everywhere and changes nothing."""
    return bot_account.install(control_plane, namespaces=())


@pytest.fixture
def bot_namespace(control_plane: ControlPlane, bot_token_file: Path, namespace: str) -> str:
    """A namespace in which the bot's account may change what `deploy/` lets it change."""
    bot_account.allow_changes(control_plane, namespace)
    return namespace
