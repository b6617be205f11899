"""The ground that all stories stand on: one control plane, one fleet. Each story brings the rest for itself."""

from collections.abc import Iterator

import pytest

from sandbox.world import Ground


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Room for four services of three replicas at once, with one more each."""
    with Ground(tmp_path_factory.mktemp("ground"), nodes=8) as running:
        yield running
