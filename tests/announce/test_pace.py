from datetime import UTC, datetime, timedelta

from bot.announce.pace import EDITS_AT_ONCE, LONGEST_PAUSE_SECONDS, Kind, Pace

NOW = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_one_post_a_second_in_a_channel_and_others_are_free():
    pace = Pace()
    assert pace.free_at("C1", Kind.POST, NOW) == NOW
    pace.sent("C1", Kind.POST, NOW)
    assert pace.free_at("C1", Kind.POST, NOW) == later(1)
    assert pace.free_at("C2", Kind.POST, NOW) == NOW
    assert pace.free_at("C1", Kind.EDIT, NOW) == NOW


def test_edits_are_limited_for_the_whole_app():
    pace = Pace()
    for n in range(int(EDITS_AT_ONCE)):
        pace.sent(f"C{n}", Kind.EDIT, NOW)
    assert pace.free_at("C99", Kind.EDIT, NOW) > NOW
    assert pace.free_at("C99", Kind.POST, NOW) == NOW
    assert pace.free_at("C99", Kind.EDIT, later(2)) == later(2)


def test_edits_never_exceed_slacks_tier_however_long_the_storm():
    pace, sent = Pace(), 0
    now = NOW
    while now < later(600):
        if pace.free_at("C1", Kind.EDIT, now) <= now:
            pace.sent("C1", Kind.EDIT, now)
            sent += 1
        now += timedelta(seconds=0.1)
    assert sent <= 50 * 10 + EDITS_AT_ONCE


def test_retry_after_is_honoured_by_channel_for_posts_and_by_app_for_edits():
    pace = Pace()
    pace.told_to_wait("C1", Kind.POST, NOW, 7)
    assert (pace.free_at("C1", Kind.POST, NOW), pace.free_at("C2", Kind.POST, NOW)) == (later(7), NOW)
    pace.told_to_wait("C1", Kind.EDIT, NOW, 5)
    assert pace.free_at("C2", Kind.EDIT, NOW) == later(5)


def test_failures_pause_a_channel_longer_each_time_and_a_success_ends_that():
    pace, now, pauses = Pace(), NOW, []
    for _ in range(6):
        pace.failed("C1", now)
        pauses.append((pace.free_at("C1", Kind.POST, now) - now).total_seconds())
        now = pace.free_at("C1", Kind.POST, now)
    assert pauses == sorted(pauses) and pauses[0] == 1 and pauses[-1] == LONGEST_PAUSE_SECONDS
    pace.sent("C1", Kind.POST, now)
    now += timedelta(seconds=5)
    pace.failed("C1", now)
    assert pace.free_at("C1", Kind.POST, now) == now + timedelta(seconds=1)


def test_whispers_have_no_gap():
    pace = Pace()
    pace.sent("@U1", Kind.WHISPER, NOW)
    assert pace.free_at("@U1", Kind.WHISPER, NOW) == NOW
