"""What is written around each call. The story with time and many of them is test_announcer's."""

from dataclasses import replace

import pytest

from bot.announce.delivery import PICTURE_TRIES, Delivery
from bot.announce.seen import read
from bot.incidents.incident import ThreadMessage, Timing
from bot.outbound.store import SqlStore
from bot.ports import GoneError, SourceError, TooManyError, UnclearError
from bot.report import Report
from tests import stories as s
from tests.fake_chat import FakeChat

NOW = s.at(0.2)


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with opened.write() as tx:
        tx.save_incident(s.incident())
        tx.save_round(s.round_of())
        tx.show(142)
    yield opened
    opened.close()


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat(clock=lambda: NOW)


def draws(incident: int, picture: str) -> bytes | None:
    return b"png"


@pytest.fixture
def delivery(store: SqlStore, chat: FakeChat) -> Delivery:
    return Delivery(store, chat, s.FLEET, s.RUNBOOKS, Timing(), draws, lambda: NOW)


def card_of(store: SqlStore):
    with store.read() as tx:
        return tx.card(142)


def waiting_of(store: SqlStore):
    with store.read() as tx:
        return next(iter(tx.waiting_messages(10)))


def say(store: SqlStore, **more: object) -> None:
    with store.write() as tx:
        tx.say(ThreadMessage(142, "round:1", Report("round 1"), **more))


def test_the_attempt_is_on_disk_before_slack_is_asked(store: SqlStore, chat: FakeChat, delivery: Delivery):
    seen_then = []
    chat.clock = lambda: seen_then.append(card_of(store).attempted_at) or NOW
    delivery.post_card(142, 1)
    assert seen_then[0] == NOW
    assert card_of(store).attempted_at is None, "and gone when the answer is written down"


def test_the_card_is_written_with_its_ts_its_words_and_whether_it_called(
    store: SqlStore, chat: FakeChat, delivery: Delivery
):
    assert delivery.post_card(142, 1) is True
    card = card_of(store)
    assert card.ts == chat.messages[0].ts
    seen = read(card.shown)
    assert seen is not None and seen.called and seen.digest
    with store.read() as tx:
        assert not tx.stale_cards()


def test_a_card_that_stands_is_not_posted_again(delivery: Delivery, chat: FakeChat):
    delivery.post_card(142, 1)
    assert delivery.post_card(142, 1) is False
    assert len(chat.messages) == 1


def test_an_edit_with_the_same_words_calls_nobody_up(store: SqlStore, delivery: Delivery, chat: FakeChat):
    delivery.post_card(142, 1)
    with store.write() as tx:
        tx.show(142)
    calls = len(chat.calls)
    assert delivery.edit_card(142, 2) is False
    assert len(chat.calls) == calls
    with store.read() as tx:
        assert not tx.stale_cards()


def test_a_change_during_the_call_keeps_the_card_stale(store: SqlStore, delivery: Delivery, chat: FakeChat):
    def meanwhile():
        with store.write() as tx:
            tx.show(142)
        chat.clock = lambda: NOW
        return NOW

    chat.clock = meanwhile
    delivery.post_card(142, 1)
    with store.read() as tx:
        assert [c.incident for c in tx.stale_cards()] == [142]


@pytest.mark.parametrize(
    ("error", "looks"),
    [
        (UnclearError("Slack", "no answer", retryable=True), True),
        (TooManyError("wait", 1), False),
        (SourceError("Slack", "cannot be reached", retryable=True), False),
    ],
)
def test_only_after_an_unclear_answer_slack_is_searched(
    delivery: Delivery, chat: FakeChat, error: SourceError, looks: bool
):
    chat.errors.append(error)
    with pytest.raises(type(error)):
        delivery.post_card(142, 1)
    delivery.post_card(142, 1)
    assert any(call.startswith("find") for call in chat.calls) is looks
    assert len(chat.messages) == 1


def test_the_first_attempts_time_stays_so_that_slack_is_searched_from_there(
    store: SqlStore, delivery: Delivery, chat: FakeChat
):
    chat.errors.append(UnclearError("Slack", "no answer", retryable=True))
    with pytest.raises(UnclearError):
        delivery.post_card(142, 1)
    first = card_of(store).attempted_at
    chat.errors.append(SourceError("Slack", "no answer to find", retryable=True))
    with pytest.raises(SourceError):
        delivery.post_card(142, 1)
    assert card_of(store).attempted_at == first and chat.messages == []


def test_a_message_waits_for_its_card(store: SqlStore, delivery: Delivery, chat: FakeChat):
    delivery.post_card(142, 1)
    say(store)
    waiting = waiting_of(store)
    with store.write() as tx:
        tx.save_incident(replace(s.incident(), number=143))
        tx.show(143)
    orphan = replace(waiting, message=replace(waiting.message, incident=143))
    assert delivery.post_message(orphan) is False
    assert delivery.post_message(waiting) is True
    assert chat.thread(chat.messages[0].ts)[0].marker == f"message-{waiting.id}"


def test_a_picture_takes_a_call_of_its_own(store: SqlStore, delivery: Delivery, chat: FakeChat):
    delivery.post_card(142, 1)
    say(store, picture="signal:1")
    waiting = waiting_of(store)
    delivery.post_message(waiting)
    assert chat.pictures == [] and waiting_of(store).id == waiting.id
    delivery.post_message(waiting)
    assert len(chat.pictures) == 1
    with store.read() as tx:
        assert not tx.waiting_messages(10)


def test_a_mistake_in_drawing_does_not_keep_the_thread_for_ever(store: SqlStore, chat: FakeChat):
    def broken(incident: int, picture: str) -> bytes:
        raise ZeroDivisionError

    delivery = Delivery(store, chat, s.FLEET, s.RUNBOOKS, Timing(), broken, lambda: NOW)
    delivery.post_card(142, 1)
    say(store, picture="signal:1")
    waiting = waiting_of(store)
    delivery.post_message(waiting)
    for _ in range(PICTURE_TRIES):
        with pytest.raises(ZeroDivisionError):
            delivery.post_message(waiting)
    delivery.post_message(waiting)
    with store.read() as tx:
        assert not tx.waiting_messages(10)


def test_a_reply_to_a_deleted_card_makes_the_card_stale(store: SqlStore, delivery: Delivery, chat: FakeChat):
    delivery.post_card(142, 1)
    say(store)
    chat.errors.append(GoneError("Slack", "thread_not_found"))
    delivery.post_message(waiting_of(store))
    with store.read() as tx:
        assert [c.incident for c in tx.stale_cards()] == [142]
        assert tx.waiting_messages(10)


def test_a_whisper_that_slack_refuses_for_good_is_given_up(store: SqlStore, delivery: Delivery, chat: FakeChat):
    with store.write() as tx:
        tx.whisper(s.CHANNEL, s.BOB, Report("answer"), NOW)
    with store.read() as tx:
        (whisper,) = tx.waiting_whispers(10)
    chat.errors.append(SourceError("Slack", "user_not_found"))
    delivery.whisper(whisper)
    with store.read() as tx:
        assert not tx.waiting_whispers(10)


def test_a_whisper_that_may_not_have_arrived_stays(store: SqlStore, delivery: Delivery, chat: FakeChat):
    with store.write() as tx:
        tx.whisper(s.CHANNEL, s.BOB, Report("answer"), NOW)
    with store.read() as tx:
        (whisper,) = tx.waiting_whispers(10)
    chat.errors.append(UnclearError("Slack", "no answer", retryable=True))
    with pytest.raises(UnclearError):
        delivery.whisper(whisper)
    with store.read() as tx:
        assert tx.waiting_whispers(10)
