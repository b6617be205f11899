import pytest

from sandbox.bench import message
from sandbox.bench.message import Turn
from sandbox.bench.table import Row


def goals(rows: list[Row]) -> dict[str, bool]:
    return {row.what.strip(): row.met for row in rows if row.met is not None}


@pytest.mark.parametrize(("ours", "met"), [(0.36, True), (0.37, False)])
def test_with_slack_far_away_the_bot_may_take_a_fifth_longer_than_alertmanager(ours: float, met: bool):
    rows = message._far([Turn(ours)] * 3, [Turn(0.3)] * 3)
    assert goals(rows) == {"as a multiple of Alertmanager's": met}


def known(seconds: float, phone: float = 1.0) -> dict[str, bool]:
    """A diagnosis of 200 ms in it, Alertmanager's own message after 20 ms."""
    return goals(message._known([Turn(seconds, round_seconds=0.2, phone_seconds=phone)] * 3, [Turn(0.02)] * 3))


def test_the_diagnosis_itself_does_not_count_against_the_bot():
    assert known(0.27)["the rest is more than Alertmanager's by"]
    assert not known(0.29)["the rest is more than Alertmanager's by"]


def test_the_slowest_push_decides_not_the_median():
    ours = [Turn(0.25, 0.2, phone_seconds=phone) for phone in (1.0, 1.0, 3.1)]
    assert not goals(message._known(ours, [Turn(0.02)] * 3))["verdict on the phone, worst"]
    assert known(0.25, phone=3.0)["verdict on the phone, worst"]


def test_what_never_comes_is_an_error_and_no_number():
    with pytest.raises(TimeoutError):
        message._awaited(lambda: None, seconds=0.1)
    assert message._awaited(lambda: "there", seconds=0.1) == "there"
