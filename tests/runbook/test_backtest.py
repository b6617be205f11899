from datetime import UTC, datetime, timedelta

from bot.runbook.backtest import Stretch, moments, of, stretches

START = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_moments_reach_the_end_even_where_the_steps_do_not_meet_it():
    assert list(moments(at(0), at(2), timedelta(minutes=1))) == [at(0), at(1), at(2)]
    assert list(moments(at(0), at(2.5), timedelta(minutes=1))) == [at(0), at(1), at(2), at(2.5)]
    assert list(moments(at(0), at(1), timedelta(hours=1))) == [at(0), at(1)]


def test_what_was_seen_in_a_row_is_one_stretch():
    found = stretches([(at(0), "a"), (at(1), "a"), (at(2), "b"), (at(3), "a")])
    assert found == (Stretch(at(0), at(1), "a", 2), Stretch(at(2), at(2), "b", 1), Stretch(at(3), at(3), "a", 1))
    assert [one.start for one in of("a", found)] == [at(0), at(3)]


def test_nothing_seen_is_no_stretch():
    assert stretches([]) == ()
