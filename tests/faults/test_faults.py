"""Every row of the fault table that needs no real vLLM, side by side on one control plane. `make faults` has all."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sandbox.fault_table.ground import Ground
from sandbox.fault_table.outcome import Outcome
from sandbox.fault_table.rows import light, load
from sandbox.fault_table.scene import Scene

ROWS = light(load())
SIDE_BY_SIDE = 8
ROW_SECONDS = 240

pytestmark = pytest.mark.timeout(ROW_SECONDS + 60)


@pytest.fixture(scope="module")
def outcomes(request, control_plane, bot_token_file, tmp_path_factory) -> Iterator[Mapping[str, "Future[Outcome]"]]:
    """All rows that this run has selected are begun at once; each test waits for its own."""
    selected = {item.callspec.params["row"].name for item in request.session.items if "outcomes" in item.fixturenames}
    folder = tmp_path_factory.mktemp("faults")
    with Ground(folder, control_plane, bot_token_file) as ground, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        rows = [row for row in ROWS if row.name in selected]
        yield {row.name: pool.submit(Scene(ground, row).play) for row in rows}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_verdict_is_the_expected_one(row, outcomes):
    outcome = outcomes[row.name].result(ROW_SECONDS)
    assert outcome.right, outcome.story
