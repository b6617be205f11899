from datetime import UTC, datetime, timedelta, timezone

from bot.outbound.terminal import render
from bot.report import Button, Buttons, Code, Fields, Note, Report, Text, link, mention, moment, plain

AT = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=1))


def test_times_are_in_the_readers_zone():
    report = Report(f"since {moment(AT)}, {moment(AT, 'date')}")
    assert render(report, zone=BERLIN) == "since 03:07, 2026-11-24 03:07\n"


def test_marks_that_only_slack_knows_are_gone_and_foreign_ones_are_as_they_were():
    report = Report("x", (Text(f"*Service* `{plain('a*b<c>')}` by {mention('U1')}: {link('http://h/q', 'query')}"),))
    assert render(report) == "Service a*b<c> by @U1: query (http://h/q)\n"


def test_an_icon_that_says_something_says_it_and_a_metric_with_colons_keeps_them():
    report = Report("x", (Text(":red_circle: *chat-70b* :hourglass: running, job:vllm_requests:rate5m is 3"),))
    assert render(report) == "!! chat-70b running, job:vllm_requests:rate5m is 3\n"


def test_parts_stand_apart_code_is_indented_and_buttons_are_slacks():
    report = Report(
        "x",
        (
            Text("one"),
            Fields(("Queue 138", "KV 91 %")),
            Code("a *b*\n  c"),
            Buttons((Button("Ack", "ack", "inc-1"),)),
            Note("small"),
        ),
    )
    assert render(report) == "one\n\n  Queue 138\n  KV 91 %\n\n    a *b*\n      c\n\nsmall\n"


def test_long_lines_are_wrapped_between_words():
    lines = render(Report("word " * 60), width=40).splitlines()
    assert all(len(line) <= 40 for line in lines) and len(lines) > 1
