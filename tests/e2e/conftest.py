"""The ground that all stories stand on: one control plane, one fleet. Each story brings the rest for itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.world import Ground

LONGEST_SECONDS = 900  # a story takes one minute, on a busy machine several


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Room for four services of three replicas at once, with one more each."""
    with Ground(tmp_path_factory.mktemp("ground"), nodes=8) as running:
        yield running
