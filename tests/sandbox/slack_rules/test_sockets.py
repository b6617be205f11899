"""Socket Mode: with a bare connection where it is about timing, with Bolt's own client where it is about manners."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from sandbox.faults import Outage
from sandbox.local_slack import LocalSlack
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from sandbox.slack_rules.settings import RulesSettings
from tests.fixtures_slack import ALICE, CHANNEL, Bot, RawSocket, eventually


@pytest.fixture(scope="module")
def hasty(local_slack: LocalSlack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackRules]:
    """Waits 0.4 s where Slack waits 3, and 0.2 s where Slack waits a minute."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    with SlackRules(local_slack, folder, ack_seconds=0.4, event_retry_seconds=(0, 0.2)) as rules:
        yield rules


@pytest.fixture
def connect(hasty: SlackRules) -> Iterator[Callable[[], RawSocket]]:
    made: list[RawSocket] = []

    def one() -> RawSocket:
        made.append(RawSocket(hasty))
        return made[-1]

    yield one
    hasty.control.switch(*Rule, on=True)
    for raw in made:
        raw.die()
    hasty.control.wait_connected(0)


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def open_home(slack: SlackRules) -> None:
    requests.post(f"{slack.page_url}_control/open-home", json={"user": ALICE}, timeout=5).raise_for_status()


def test_slack_waits_three_seconds_and_repeats_after_a_minute_and_five():
    settings = RulesSettings
    assert settings.ack_seconds == 3
    assert settings.event_retry_seconds == (0, 60, 300)


def test_hello_counts_the_connections(connect):
    assert connect().hello["num_connections"] == 1
    assert connect().hello["num_connections"] == 2
    assert connect().hello["connection_info"] == {"app_id": "A01ONCALL"}


def test_of_two_connections_exactly_one_gets_each_envelope(hasty, connect):
    first, second = connect(), connect()
    for raw in (first, second, first):
        typing = in_background(lambda: hasty.control.command(ALICE, CHANNEL, "/vllm", "status"))
        envelope = raw.receive()  # in turn; the other one would wait in vain
        assert envelope["type"] == "slash_commands" and envelope["accepts_response_payload"]
        raw.ack(envelope)
        typing.join()
    envelopes = hasty.control.log(kind="envelope", method="slash_commands")
    assert all(len(envelope["connections"]) == 1 for envelope in envelopes)
    with hasty.control.without(Rule.ONE_DELIVERY):
        typing = in_background(lambda: hasty.control.command(ALICE, CHANNEL, "/vllm", "to all"))
        envelopes = [raw.receive() for raw in (first, second)]
        assert envelopes[0] == envelopes[1]
        first.ack(envelopes[0])
        typing.join()


def test_a_late_acknowledgement_is_an_error_for_the_person_and_changes_nothing(hasty, connect):
    raw, before = connect(), hasty.control.mark()
    hasty.control.command(ALICE, CHANNEL, "/vllm", "status")
    [lost] = hasty.control.log(before, kind="operation_timeout")
    assert (lost["user"], lost["method"], lost["error"]) == (ALICE, "/vllm", "timeout")
    messages = len(hasty.control.messages(CHANNEL))
    raw.ack(raw.receive(), {"text": "too late"})
    hasty.control.wait_log(since=before, kind="ack", late=True)
    assert len(hasty.control.messages(CHANNEL)) == messages


def test_an_acknowledgement_in_time_is_posted_to_the_person_alone(hasty, connect):
    raw = connect()
    typing = in_background(lambda: hasty.control.command(ALICE, CHANNEL, "/vllm", "status"))
    raw.ack(raw.receive(), {"text": "all is well"})
    typing.join()
    said = hasty.control.messages(CHANNEL)[-1]
    assert (said["text"], said["subtype"], said["ephemeral_to"]) == ("all is well", "ephemeral", ALICE)


def test_without_the_rule_nobody_is_told_of_a_missing_acknowledgement(hasty, connect):
    raw, before = connect(), hasty.control.mark()
    with hasty.control.without(Rule.ACK):
        typing = in_background(lambda: hasty.control.command(ALICE, CHANNEL, "/vllm", "status"))
        hasty.control.wait_log(since=before, kind="envelope")
        assert not eventually(lambda: hasty.control.log(before, kind="operation_timeout"), seconds=0.8)
    raw.ack(raw.receive())
    typing.join()


def test_with_nobody_connected_a_command_fails_at_once(hasty):
    before = hasty.control.mark()
    hasty.control.command(ALICE, CHANNEL, "/vllm", "status")
    assert hasty.control.log(before, kind="operation_timeout")[0]["error"] == "no_connection"


def test_what_a_person_did_is_not_sent_again_when_the_connection_dies(hasty, connect):
    dying, living = connect(), connect()
    before = hasty.control.mark()
    typing = in_background(lambda: hasty.control.command(ALICE, CHANNEL, "/vllm", "status"))
    dying.receive()
    dying.die()
    typing.join()
    assert hasty.control.log(before, kind="lost")[0]["error"] == "connection_closed"
    assert len(hasty.control.log(before, kind="envelope")) == 1
    living.ping()


def test_an_event_is_sent_again_to_another_connection_when_the_first_dies(hasty, connect):
    dying, living = connect(), connect()
    before = hasty.control.mark()
    open_home(hasty)
    first = dying.receive()
    dying.die()
    again = living.receive()
    assert again["payload"] == first["payload"]
    assert (again["retry_attempt"], again["retry_reason"]) == (1, "connection_closed")
    assert again["envelope_id"] != first["envelope_id"]
    living.ack(again)
    hasty.control.wait_log(since=before, kind="ack")
    assert hasty.control.log(before, kind="event_given_up") == []


def test_an_event_that_is_never_acknowledged_is_given_up(hasty, connect):
    raw, before = connect(), hasty.control.mark()
    open_home(hasty)
    [given_up] = hasty.control.wait_log(since=before, kind="event_given_up")
    attempts = hasty.control.log(before, kind="envelope", event_id=given_up["event_id"])
    assert [attempt.get("retry_attempt") for attempt in attempts] == [None, 1, 2]
    assert raw.receive()["type"] == "events_api"


def test_an_event_that_the_manifest_does_not_subscribe_to_does_not_come(hasty, connect):
    raw, before = connect(), hasty.control.mark()
    said = {"channel": CHANNEL, "user": ALICE, "text": "hi"}
    requests.post(f"{hasty.page_url}_control/message", json=said, timeout=5).raise_for_status()
    open_home(hasty)
    raw.ack(raw.receive())
    events = hasty.control.wait_log(since=before, kind="envelope")
    assert [event["event"] for event in events] == ["app_home_opened"]


def test_the_eleventh_connection_is_sent_away(hasty, connect):
    for _ in range(10):
        assert connect().hello["type"] == "hello"
    assert connect().hello == {"type": "disconnect", "reason": "too_many_websockets", "debug_info": {}}
    with hasty.control.without(Rule.SOCKET_COUNT):
        assert connect().hello["type"] == "hello"


def test_a_ticket_opens_one_connection(hasty):
    used = requests.get(hasty.api_url.replace("/api/", "/link?ticket=used"), timeout=5)
    assert used.status_code == 403


def test_bolt_survives_the_routine_refresh(slack: SlackRules, bot: Bot):
    @bot.app.command("/vllm")
    def command(ack, command):
        ack()
        bot.note(text=command["text"])

    bot.connect()
    slack.control.wait_connected(1)
    before = slack.control.mark()
    slack.control.refresh_sockets()
    slack.control.wait_log(since=before, kind="socket", method="connected")
    slack.control.wait_connected(1)
    slack.control.command(ALICE, CHANNEL, "/vllm", "after")
    assert bot.received == [{"text": "after"}]


def test_a_slack_that_refuses_drops_its_sockets_and_takes_new_ones_later(slack: SlackRules, bot: Bot):
    bot.connect()
    slack.control.wait_connected(1)
    with slack.control.down(Outage.REFUSE):
        slack.control.wait_connected(0)
        with pytest.raises(OSError):
            bot.client.auth_test()
    bot.socket.connect_to_new_endpoint(force=True)
    slack.control.wait_connected(1)
