from datetime import UTC, datetime

from bot.outbound.markup import Link, Moment, Person, pieces, unescaped, unformatted
from bot.report import link, mention, moment, plain

AT = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)


def test_every_token_that_the_report_makes_is_read_back():
    text = f"since {moment(AT)} by {mention('U01ALICE')}: {link('http://127.0.0.1/g?a=b', 'the query')}."
    assert list(pieces(text)) == [
        "since ",
        Moment(AT, "time"),
        " by ",
        Person("U01ALICE"),
        ": ",
        Link("http://127.0.0.1/g?a=b", "the query"),
        ".",
    ]


def test_foreign_text_is_never_a_token():
    for foreign in ("<@U01ALICE>", "<t:1:time>", "<http://evil.example|click>", "<!channel>"):
        assert list(pieces(plain(foreign))) == [plain(foreign)]


def test_what_plain_changed_comes_back_for_places_without_formatting():
    assert unescaped(plain("a*b~c`d & <e>")) == "a*b~c`d & <e>"


def test_our_own_marks_go_and_foreign_ones_stay():
    assert unescaped(unformatted(f"*Queue* of `{plain('a*b')}`")) == "Queue of a*b"
