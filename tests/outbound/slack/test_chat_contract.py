"""What the announcer relies on holds for the fake as for a real Slack: unit tests with the fake are worth something."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.outbound.slack.chat import SlackChat, web_client
from bot.outbound.slack.people import People
from bot.ports import Chat, GoneError, Modal, NoChannelError, SourceError, TooManyError
from bot.report import Report
from sandbox.slack_rules.part import SlackRules
from tests.fake_chat import FakeChat
from tests.fixtures_slack import ALICE, CHANNEL

ELSEWHERE = "C04RANDOM"  # the bot is no member
LONG_AGO = timedelta(minutes=5)


class Fake:
    def __init__(self) -> None:
        self._fake = FakeChat(absent={ELSEWHERE}, groups={"S02LEADS": frozenset({"U03CAROL"})})
        self.chat: Chat = self._fake

    def delete(self, ts: str) -> None:
        self._fake.delete(ts)

    def be_strict(self) -> None:
        self._fake.paced = True


class Real:
    def __init__(self, slack: SlackRules) -> None:
        self._client = web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=3)
        self.chat: Chat = SlackChat(self._client, People(self._client))

    def delete(self, ts: str) -> None:
        self._client.chat_delete(channel=CHANNEL, ts=ts)

    def be_strict(self) -> None:
        pass  # it always is


@pytest.fixture(params=["fake", "real"])
def side(request: pytest.FixtureRequest) -> Fake | Real:
    return Fake() if request.param == "fake" else Real(request.getfixturevalue("slack"))


def long_ago() -> datetime:
    return datetime.now(UTC) - LONG_AGO


def test_messages_are_found_by_their_marker_alone(side: Fake | Real):
    first = side.chat.post(CHANNEL, Report("one"), marker="card-inc-1")
    second = side.chat.post(CHANNEL, Report("two"), marker="card-inc-2", call=ALICE)
    assert first != second and float(second) > 0
    assert side.chat.find(CHANNEL, "card-inc-1", since=long_ago()) == first
    assert side.chat.find(CHANNEL, "card-inc-2", since=long_ago()) == second
    assert side.chat.find(CHANNEL, "card-inc-3", since=long_ago()) is None


def test_a_reply_is_found_in_its_thread(side: Fake | Real):
    root = side.chat.post(CHANNEL, Report("one"), marker="card-inc-1")
    reply = side.chat.post(CHANNEL, Report("round 1"), marker="message-1", thread=root)
    assert side.chat.find(CHANNEL, "message-1", thread=root, since=long_ago()) == reply


def test_an_edit_keeps_the_message_findable_and_a_deleted_one_is_gone(side: Fake | Real):
    ts = side.chat.post(CHANNEL, Report("one"), marker="card-inc-1")
    side.chat.update(CHANNEL, ts, Report("two"), marker="card-inc-1")
    assert side.chat.find(CHANNEL, "card-inc-1", since=long_ago()) == ts
    side.delete(ts)
    with pytest.raises(GoneError):
        side.chat.update(CHANNEL, ts, Report("three"), marker="card-inc-1")


def test_a_channel_without_the_bot_is_refused_for_good(side: Fake | Real):
    with pytest.raises(NoChannelError) as caught:
        side.chat.post(ELSEWHERE, Report("one"), marker="card-inc-1")
    assert not caught.value.retryable and caught.value.hint


def test_too_fast_is_refused_with_a_time_and_has_no_effect(side: Fake | Real):
    side.be_strict()
    with pytest.raises(TooManyError) as caught:
        for n in range(12):
            side.chat.post(CHANNEL, Report("x"), marker=f"m{n}")
    assert caught.value.retryable and 0 < caught.value.wait_seconds <= 60
    assert side.chat.find(CHANNEL, "m11", since=long_ago()) is None


def test_a_picture_is_seen_by_its_name_in_its_thread(side: Fake | Real):
    root = side.chat.post(CHANNEL, Report("one"), marker="card-inc-1")
    side.chat.picture(CHANNEL, root, name="inc-1-signal-1.png", title="t", alt="a", png=b"\x89PNG\r\n\x1a\n")
    assert side.chat.has_picture(CHANNEL, root, "inc-1-signal-1.png")
    assert not side.chat.has_picture(CHANNEL, root, "inc-1-signal-2.png")


def test_a_whisper_is_taken_and_members_are_told(side: Fake | Real):
    side.chat.whisper(CHANNEL, ALICE, Report("for you"))
    assert side.chat.group_members("S02LEADS") == {"U03CAROL"}


def test_a_dialog_needs_the_click_that_asked_for_it(side: Fake | Real):
    if isinstance(side, Fake):
        assert side.chat.open_modal("1.2.3", Modal("Review", Report("x"), "t", "review")) == "V1.2.3"
        return
    with pytest.raises(SourceError):
        side.chat.open_modal("1.2.3", Modal("Review", Report("x"), "t", "review"))
