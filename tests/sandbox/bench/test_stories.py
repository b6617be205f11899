import pytest

from sandbox.bench.stories import STORY_SECONDS, Story, _section


@pytest.mark.parametrize(("seconds", "met"), [(STORY_SECONDS, True), (STORY_SECONDS + 0.1, False)])
def test_each_story_has_its_own_goal(seconds: float, met: bool) -> None:
    rows = _section([Story("overload", 11.0, 32.0), Story("bad revision", 20.0, seconds)]).rows
    assert [row.met for row in rows if row.goal] == [True, met]
