from datetime import UTC, datetime

from bot.report import link, mention, moment, plain


def test_foreign_text_cannot_mention_anybody():
    assert "<" not in plain("<!channel> <@U1>")


def test_foreign_text_cannot_format_its_surroundings():
    assert not set("*`~") & set(plain("*bold* `code` ~gone~"))


def test_tokens_name_what_they_stand_for():
    assert moment(datetime(2026, 11, 24, tzinfo=UTC)) == "<t:1795478400:time>"
    assert mention("S1") == "<@S1>"
    assert link("http://p/graph", "a|b<c") == "<http://p/graph|a|b&lt;c>"
