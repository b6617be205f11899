from datetime import UTC, datetime, timedelta

import pytest

from bot.report import duration, link, mention, moment, plain


def test_foreign_text_cannot_mention_anybody():
    assert "<" not in plain("<!channel> <@U1>")


def test_foreign_text_cannot_format_its_surroundings():
    assert not set("*`~") & set(plain("*bold* `code` ~gone~"))


def test_tokens_name_what_they_stand_for():
    assert moment(datetime(2026, 11, 24, tzinfo=UTC)) == "<t:1795478400:time>"
    assert mention("S1") == "<@S1>"
    assert link("http://p/graph", "a|b<c") == "<http://p/graph|a|b&lt;c>"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.4, "1.4 s"), (48, "48 s"), (60, "1 min"), (400, "6 min 40 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_how_long_takes_two_units_at_most(seconds: float, words: str):
    assert duration(timedelta(seconds=seconds)) == words
