from datetime import UTC, datetime

from bot.outbound.slack.mrkdwn import called, escaped, label, lock_screen, mrkdwn, verbatim
from bot.report import link, mention, moment, plain

AT = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)


def at_name(who: str) -> str:
    return f"@name-of-{who}"


def test_a_time_is_shown_in_the_readers_zone_with_utc_for_clients_that_cannot():
    assert mrkdwn(moment(AT), at_name) == "<!date^1795486020^{time}|02:07 UTC>"
    assert mrkdwn(moment(AT, "date"), at_name) == "<!date^1795486020^{date_short_pretty} {time}|2026-11-24 02:07 UTC>"


def test_a_user_and_a_group_are_called_each_in_slacks_way():
    assert called("U01ALICE") == "<@U01ALICE>"
    assert called("S01ONCALL") == "<!subteam^S01ONCALL>"


def test_somebody_who_is_only_named_is_not_called():
    assert mrkdwn(f"ask {mention('U01ALICE')}", at_name) == "ask @name-of-U01ALICE"


def test_foreign_text_cannot_call_anybody():
    assert mrkdwn(plain("<!channel> & <@U1>"), called) == "&lt;!channel&gt; &amp; &lt;@U1&gt;"


def test_our_own_angle_brackets_and_ampersands_are_escaped_and_escaped_ones_are_not_twice():
    assert escaped("P99 < 0.3 s & 2 > 1 &amp; &lt;") == "P99 &lt; 0.3 s &amp; 2 &gt; 1 &amp; &lt;"


def test_a_link_stays_a_link_and_on_the_lock_screen_only_its_words():
    text = link("http://127.0.0.1:9090/graph?g0.expr=up", "up")
    assert mrkdwn(text, at_name) == "<http://127.0.0.1:9090/graph?g0.expr=up|up>"
    assert lock_screen(text, at_name) == "up"


def test_the_lock_screen_has_no_formatting_and_utc():
    assert lock_screen(f"*chat-70b* slow since {moment(AT)}", at_name) == "chat-70b slow since 02:07 UTC"


def test_a_label_is_plain_and_ends_with_dots_where_it_is_too_long():
    assert label(f"*Review*: {plain('a & b')}", 75) == "Review: a & b"
    assert label("x" * 80, 75) == "x" * 74 + "…"


def test_code_cannot_end_its_own_block():
    assert "```" not in verbatim("a ``` b")
    assert verbatim("<a> & b") == "&lt;a&gt; &amp; b"
