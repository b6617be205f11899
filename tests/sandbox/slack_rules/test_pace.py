from sandbox.slack_rules.methods import METHODS
from sandbox.slack_rules.pace import Pace


def test_a_short_burst_passes_and_then_one_message_a_second():
    pace = Pace(post_burst=3)
    assert [pace.post("A", "C", 0.0) for _ in range(4)] == [None, None, None, 1]
    assert pace.post("A", "C", 1.0) is None
    assert pace.post("A", "C", 1.1) == 1
    assert pace.post("A", "C", 2.0) is None


def test_channels_and_apps_do_not_share_a_pace():
    pace = Pace(post_burst=1)
    assert pace.post("A", "C1", 0.0) is None
    assert pace.post("A", "C2", 0.0) is None
    assert pace.post("B", "C1", 0.0) is None
    assert pace.post("A", "C1", 0.0) == 1


def test_a_refused_call_costs_nothing():
    pace = Pace(post_burst=1)
    pace.post("A", "C", 0.0)
    for _ in range(10):
        pace.post("A", "C", 0.5)
    assert pace.post("A", "C", 1.0) is None


def test_a_method_has_its_tier_and_says_how_long_to_wait():
    pace = Pace()
    calls = METHODS["usergroups.list"].per_minute
    assert [pace.call("A", "usergroups.list", 0.0) for _ in range(calls)] == [None] * calls
    assert pace.call("A", "usergroups.list", 0.0) == 3  # 20 a minute: one every three seconds
    assert pace.call("A", "usergroups.list", 3.0) is None


def test_an_unknown_method_has_no_tier():
    pace = Pace()
    assert [pace.call("A", "pins.add", 0.0) for _ in range(500)] == [None] * 500
