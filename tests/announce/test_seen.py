from bot.announce.seen import Seen, digest, marker, read, written
from bot.report import Note, Report, Text


def test_what_is_written_is_read_back():
    for seen in (Seen("abc", True), Seen("abc", False), Seen("", False)):
        assert read(written(seen)) == seen
    assert read(None) is None


def test_equal_reports_have_equal_digests_and_others_others():
    one, two = Report("x", (Text("a"),)), Report("x", (Note("a"),))
    assert digest(one) == digest(Report("x", (Text("a"),)))
    assert digest(one) != digest(two)


def test_the_marker_tells_a_post_that_called_from_one_that_did_not():
    assert marker(142, called=True) != marker(142, called=False)
    assert marker(14, called=False) != marker(142, called=False)
