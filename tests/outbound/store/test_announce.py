from datetime import timedelta

import pytest

from bot.announce.outbox import Card
from bot.incidents.incident import ThreadMessage
from bot.report import Code, Note, Report, Text
from tests.fixtures_store import NOW, an_incident

MINUTE = timedelta(minutes=1)
REPORT = Report("queue long", (Text("x"), Note("x"), Code("x")))


@pytest.fixture
def store(store):
    with store.write() as tx:
        tx.save_incident(an_incident(1))
        tx.save_incident(an_incident(2))
    return store


def test_a_card_is_stale_from_its_first_mark_until_it_is_shown(store):
    with store.write() as tx:
        assert (tx.card(1), tx.card_mark(1), tx.stale_cards()) == (None, 0, ())
        tx.show(1)
    with store.write() as tx:
        assert tx.stale_cards() == (Card(1, "C0INCIDENTS", None, None, None),)
        tx.card_attempted(1, NOW)
        assert tx.card(1).attempted_at == NOW
        tx.card_shown(1, "17.01", "digest", tx.card_mark(1))
    with store.read() as tx:
        assert tx.stale_cards() == ()
        assert tx.card(1) == Card(1, "C0INCIDENTS", "17.01", "digest", None)


def test_a_change_made_while_slack_answered_is_not_forgotten(store):
    with store.write() as tx:
        tx.show(1)
        seen = tx.card_mark(1)
    with store.write() as tx:
        tx.show(1)
    with store.write() as tx:
        tx.card_shown(1, "17.01", "digest", seen)
        assert [c.incident for c in tx.stale_cards()] == [1]
        tx.card_shown(1, "17.01", "digest", tx.card_mark(1))
        assert tx.stale_cards() == ()


def test_the_card_that_waits_longest_comes_first(store):
    with store.write() as tx:
        tx.show(2)
    with store.write() as tx:
        tx.show(1)
        tx.show(2)  # marked again: it waits since its first mark
    with store.read() as tx:
        assert [c.incident for c in tx.stale_cards()] == [2, 1]


def test_a_card_of_an_incident_that_is_not_saved_is_refused(store):
    with pytest.raises(LookupError, match="inc-9 is not saved"), store.write() as tx:
        tx.show(9)


def test_a_thread_message_waits_for_its_card_and_then_its_turn(store):
    with store.write() as tx:
        tx.show(1)
        tx.say(ThreadMessage(1, "round:1", REPORT, "S1", "signal:1", True))
        tx.say(ThreadMessage(1, "round:2", REPORT))
        assert tx.waiting_messages(10) == ()
        tx.card_shown(1, "17.01", "digest", 1)
    with store.write() as tx:
        (first,) = tx.waiting_messages(10)
        assert first.message == ThreadMessage(1, "round:1", REPORT, "S1", "signal:1", True)
        tx.message_attempted(first.id, NOW)
        assert tx.waiting_messages(10)[0].attempted_at == NOW
        tx.message_posted(first.id, "17.02")
        (second,) = tx.waiting_messages(10)
        assert (second.message.key, first.id < second.id) == ("round:2", True)
        tx.message_posted(second.id, "17.03")
        assert tx.waiting_messages(10) == ()


def test_many_waiting_in_one_thread_do_not_hide_another(store):
    with store.write() as tx:
        for incident in (1, 2):
            tx.show(incident)
            tx.card_shown(incident, f"17.0{incident}", "digest", 1)
        for n in range(5):
            tx.say(ThreadMessage(1, f"round:{n}", REPORT))
        tx.say(ThreadMessage(2, "round:1", REPORT))
        assert [(w.message.incident, w.message.key) for w in tx.waiting_messages(2)] == [(1, "round:0"), (2, "round:1")]


def test_a_card_moves_to_another_channel_only_before_its_post(store):
    with store.write() as tx:
        tx.show(1)
        tx.card_attempted(1, NOW)
        tx.card_moved(1, "C0OTHER")
        assert tx.card(1) == Card(1, "C0OTHER", None, None, None)
        tx.card_shown(1, "17.01", "digest", 1)
        tx.card_moved(1, "C0THIRD")
        assert tx.card(1).channel == "C0OTHER"


def test_saying_the_same_thing_twice_is_saying_it_once(store):
    with store.write() as tx:
        tx.show(1)
        tx.card_shown(1, "17.01", "digest", 1)
        tx.say(ThreadMessage(1, "round:1", REPORT))
    with store.write() as tx:
        tx.say(ThreadMessage(1, "round:1", Report("another text")))
        (waiting,) = tx.waiting_messages(10)
        assert waiting.message.report == REPORT
        tx.message_posted(waiting.id, "17.02")
        tx.say(ThreadMessage(1, "round:1", REPORT))
        assert tx.waiting_messages(10) == ()


def test_whispers_wait_in_order_until_they_are_done(store):
    with store.write() as tx:
        tx.whisper("C1", "U1", REPORT, NOW)
        tx.whisper("C1", "U2", REPORT, NOW + MINUTE)
    with store.write() as tx:
        first, second = tx.waiting_whispers(10)
        assert (first.user, first.report, first.created_at, first.attempted_at) == ("U1", REPORT, NOW, None)
        tx.whisper_attempted(first.id, NOW)
        assert tx.waiting_whispers(1)[0].attempted_at == NOW
        tx.whisper_done(first.id)
        assert tx.waiting_whispers(10) == (second,)


def test_an_id_is_never_given_out_twice_since_slack_knows_messages_by_it(store):
    with store.write() as tx:
        tx.whisper("C1", "U1", REPORT, NOW)
        (first,) = tx.waiting_whispers(1)
        tx.whisper_done(first.id)
        tx.whisper("C1", "U1", REPORT, NOW)
        assert tx.waiting_whispers(1)[0].id > first.id
