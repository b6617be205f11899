"""On a real local-slack, behind the strict rules."""

import struct
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from bot.outbound.slack.chat import SlackChat, web_client
from bot.outbound.slack.people import People
from bot.ports import GoneError, Modal, NoChannelError, SourceError, TooManyError, UnclearError
from bot.report import Button, Buttons, Code, Report, Text, mention, moment
from sandbox.faults import Outage, Where
from sandbox.slack_rules.part import SlackRules
from tests.fixtures_slack import ALICE, CHANNEL

AT = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)
REPORT = Report("chat-70b slow", (Text("*chat-70b* is slow"), Buttons((Button("Ack", "ack", "inc-1"),))))


def long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=5)


@pytest.fixture
def chat(slack: SlackRules) -> SlackChat:
    client = web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=2)
    return SlackChat(client, People(client))


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00")) + chunk(b"IEND", b"")


def test_a_post_stands_with_its_marker_and_is_found_by_it(chat: SlackChat, slack: SlackRules):
    ts = chat.post(CHANNEL, REPORT, marker="card-inc-1")
    (message,) = slack.control.messages(CHANNEL)
    assert (message["text"], message["blocks"][0]["block_id"]) == ("chat-70b slow", "card-inc-1")
    assert chat.find(CHANNEL, "card-inc-1", since=long_ago()) == ts
    assert chat.find(CHANNEL, "card-inc-2", since=long_ago()) is None


def test_a_reply_is_found_in_its_thread(chat: SlackChat):
    root = chat.post(CHANNEL, REPORT, marker="card-inc-1")
    ts = chat.post(CHANNEL, Report("round 1"), marker="message-7", thread=root)
    assert chat.find(CHANNEL, "message-7", thread=root, since=long_ago()) == ts


def test_only_who_is_called_is_mentioned(chat: SlackChat, slack: SlackRules):
    report = Report("x", (Text(f"{mention('U02BOB')} and {mention(ALICE)}, in {mention('S01ONCALL')}"),))
    chat.post(CHANNEL, report, marker="m1", call=ALICE)
    (message,) = slack.control.messages(CHANNEL)
    assert message["blocks"][0]["text"]["text"] == f"@bob and <@{ALICE}>, in @ml-oncall"
    assert message["text"] == f"x <@{ALICE}>"


def test_an_edit_keeps_the_marker_and_may_mention(chat: SlackChat, slack: SlackRules):
    ts = chat.post(CHANNEL, REPORT, marker="card-inc-1")
    chat.update(CHANNEL, ts, Report("fixed", (Text(f"fixed by {mention('U02BOB')}"),)), marker="card-inc-1")
    (message,) = slack.control.messages(CHANNEL)
    assert (message["ts"], message["text"]) == (ts, "fixed")
    assert message["blocks"][0]["text"]["text"] == "fixed by <@U02BOB>"
    assert chat.find(CHANNEL, "card-inc-1", since=long_ago()) == ts


def test_a_channel_by_name_can_be_posted_to_edited_and_searched(chat: SlackChat, slack: SlackRules):
    client = web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=2)
    ts = chat.post("#inc-chat", REPORT, marker="card-inc-1")
    after_a_restart = SlackChat(client, People(client))
    after_a_restart.update("#inc-chat", ts, Report("edited"), marker="card-inc-1")
    assert after_a_restart.find("#inc-chat", "card-inc-1", since=long_ago()) == ts
    with pytest.raises(SourceError, match="#nowhere"):
        chat.update("#nowhere", ts, REPORT, marker="x")


def test_an_edit_of_a_deleted_message_says_that_it_is_gone(chat: SlackChat, slack: SlackRules):
    ts = chat.post(CHANNEL, REPORT, marker="card-inc-1")
    web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=2).chat_delete(
        channel=CHANNEL, ts=ts
    )
    with pytest.raises(GoneError):
        chat.update(CHANNEL, ts, REPORT, marker="card-inc-1")


def test_a_channel_without_the_bot_is_an_error_of_its_own(chat: SlackChat):
    with pytest.raises(NoChannelError, match="Invite the bot"):
        chat.post("C04RANDOM", REPORT, marker="x")


def test_too_fast_is_said_with_a_time(chat: SlackChat):
    with pytest.raises(TooManyError) as caught:
        for n in range(10):
            chat.post(CHANNEL, REPORT, marker=f"m{n}")
    assert caught.value.wait_seconds >= 1


def test_a_slack_that_hangs_is_unclear(chat: SlackChat, slack: SlackRules):
    with slack.control.down(Outage.HANG), pytest.raises(UnclearError):
        chat.post(CHANNEL, REPORT, marker="card-inc-1")
    assert chat.find(CHANNEL, "card-inc-1", since=long_ago()) is None


def test_a_post_that_was_taken_but_not_answered_is_unclear_and_can_be_found(chat: SlackChat, slack: SlackRules):
    hold = slack.control.hold_next(Where.AFTER, method="chat.postMessage")
    with pytest.raises(UnclearError):
        chat.post(CHANNEL, REPORT, marker="card-inc-1")
    hold.wait_reached()
    hold.cut()
    (message,) = slack.control.messages(CHANNEL)
    assert chat.find(CHANNEL, "card-inc-1", since=long_ago()) == message["ts"]


def test_a_picture_lands_in_the_thread_once_it_can_be_seen_by_its_name(chat: SlackChat):
    root = chat.post(CHANNEL, REPORT, marker="card-inc-1")
    assert not chat.has_picture(CHANNEL, root, "inc-1-signal-1.png")
    chat.picture(CHANNEL, root, name="inc-1-signal-1.png", title="TTFT P99", alt="a curve", png=png())
    assert chat.has_picture(CHANNEL, root, "inc-1-signal-1.png")
    assert not chat.has_picture(CHANNEL, root, "inc-1-signal-2.png")


def test_a_whisper_is_for_one_person(chat: SlackChat, slack: SlackRules):
    chat.whisper(CHANNEL, ALICE, Report("only for you"))
    (message,) = slack.control.messages(CHANNEL)
    assert (message["text"], message["subtype"]) == ("only for you", "ephemeral")


def test_a_whisper_where_the_bot_is_no_member_goes_to_the_person(chat: SlackChat, slack: SlackRules):
    chat.whisper("C04RANDOM", ALICE, Report("only for you"))
    assert slack.control.messages("C04RANDOM") == []


def test_members_come_from_the_user_group(chat: SlackChat):
    assert chat.group_members("S02LEADS") == {"U03CAROL"}


def test_a_dialog_with_a_stale_trigger_is_refused_with_what_to_do(chat: SlackChat):
    with pytest.raises(SourceError, match="trigger"):
        chat.open_modal("1.2.3", Modal("Review", Report("Checking…"), "inc-1-p2", "review"))


def test_the_richest_message_is_taken_by_the_strict_slack(chat: SlackChat, slack: SlackRules):
    parts = [Text(f"*part {n}* since {moment(AT)} " + "x" * 500) for n in range(60)]
    chat.post(CHANNEL, Report("long", (*parts, Code("y" * 9000), Buttons(REPORT.parts[1].buttons))), marker="m1")
    (message,) = slack.control.messages(CHANNEL)
    assert len(message["blocks"]) <= 50
    assert "more lines in the thread" in str(message["blocks"])
