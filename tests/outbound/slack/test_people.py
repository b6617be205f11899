import threading

import pytest

from bot.outbound.slack.chat import web_client
from bot.outbound.slack.people import MEMBERS_SECONDS, NO_NAME_SECONDS, People, Remembered
from bot.ports import SourceError
from sandbox.faults import Outage
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(slack: SlackRules, clock: Clock) -> People:
    token = slack.workspace.apps[0].bot_token
    return People(web_client(token, api_url=slack.api_url, timeout_seconds=2), clock)


def test_an_answer_holds_until_its_time_is_over(clock: Clock):
    remembered: Remembered[str] = Remembered(clock)
    remembered.keep("a", "x", 10)
    clock.now += 9
    assert remembered.get("a") == "x"
    clock.now += 2
    assert remembered.get("a") is None


def test_users_and_groups_have_names(people: People):
    assert people.name("U01ALICE") == "@alice"
    assert people.name("S01ONCALL") == "@ml-oncall"


def test_a_known_name_is_not_asked_for_again(people: People, slack: SlackRules):
    people.meet(["U01ALICE", "S01ONCALL"])
    slack.control.outage(Outage.ERROR)
    assert (people.name("U01ALICE"), people.name("S02LEADS")) == ("@alice", "@sre-leads")


def test_a_name_that_cannot_be_had_is_the_id_and_never_an_error(people: People, slack: SlackRules, clock: Clock):
    slack.control.outage(Outage.ERROR)
    assert people.name("U02BOB") == "@U02BOB"
    slack.control.outage(Outage.NONE)
    assert people.name("U02BOB") == "@U02BOB", "not with every message"
    clock.now += NO_NAME_SECONDS + 1
    assert people.name("U02BOB") == "@bob"


def test_members_of_a_group_are_remembered_for_a_minute_and_an_error_is_no_membership(
    people: People, slack: SlackRules, clock: Clock
):
    assert people.members("S01ONCALL") == {"U01ALICE"}
    slack.control.outage(Outage.ERROR)
    assert people.members("S01ONCALL") == {"U01ALICE"}
    clock.now += MEMBERS_SECONDS + 1
    with pytest.raises(SourceError):
        people.members("S01ONCALL")


def test_many_threads_ask_at_once(people: People, slack: SlackRules):
    slack.control.switch(Rule.METHOD_TIERS, on=False)
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(people.name("U03CAROL"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["@carol"] * 12
