import pytest

from sandbox.bench.xid import AGENT_SECONDS, Turn, _section


@pytest.mark.parametrize(("worst", "met"), [(1.0, True), (2.0 - AGENT_SECONDS + 0.01, False)])
def test_both_parts_together_are_what_was_promised(worst: float, met: bool) -> None:
    near = [Turn(0.5, 0.1, 0.2, 0.1), Turn(worst, 0.1, 0.3, 0.1)]
    rows = _section(near, [Turn(0.7, 0.1, 0.2, 0.1)] * 2).rows
    assert [row.met for row in rows if row.goal] == [met, True]
    assert f"{AGENT_SECONDS + worst:.2f} s" in [row.measured for row in rows]
