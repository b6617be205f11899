"""On a real store, with a Slack that is slow, refuses, loses its answers, or dies with us."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from bot.announce.announcer import Announcer
from bot.announce.seen import read
from bot.incidents.incident import IncidentState, Round, RoundReason, ThreadMessage, Timing
from bot.outbound.store import SqlStore
from bot.ports import SourceError, TooManyError, UnclearError
from bot.remediation.proposal import ProposalState
from bot.report import Report
from bot.runbook.schema import Severity
from tests import stories as s
from tests.fake_chat import FakeChat, Told

NOT_THERE = SourceError("Slack", "cannot be reached", retryable=True)


class Desk:
    """The leader's loop with a clock of its own: time passes only when nothing is left to do at this moment."""

    def __init__(self, store: SqlStore, chat: FakeChat) -> None:
        self.now = s.incident().opened_at
        self.store = store
        self.chat = chat
        chat.clock = lambda: self.now
        self.draw: Callable[[int, str], bytes | None] = lambda incident, picture: None
        self.woken = threading.Event()
        self.announcer = self.new_announcer()

    def new_announcer(self, **more: object) -> Announcer:
        """As after a restart: nothing is remembered but what is in the store."""
        return Announcer(
            self.store,
            self.chat,
            s.FLEET,
            s.RUNBOOKS,
            Timing(),
            lambda incident, picture: self.draw(incident, picture),
            clock=lambda: self.now,
            wake=self.woken.set,
            **more,
        )

    def restart(self) -> None:
        self.announcer.close()
        self.announcer = self.new_announcer()

    def settle(self) -> None:
        """Everything that can be done at this moment is done."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.woken.clear()
            begun = self.announcer.step(self.now)
            if not begun and self.announcer.is_idle and not self.woken.is_set():
                return
            self.woken.wait(0.05)
        raise AssertionError(f"it never settled; Slack was told {self.chat.calls[-20:]}")

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        end = self.now + timedelta(seconds=seconds)
        self.settle()
        while self.now < end:
            self.now = min(end, self.now + timedelta(seconds=step))
            self.settle()

    def write(self, *rounds: Round, incident=None, alerts=(), proposals=(), approvals=()) -> None:
        """What other floors write, with the mark that the card may have changed."""
        incident = incident or s.incident()
        with self.store.write() as tx:
            tx.save_incident(incident)
            for alert in alerts:
                tx.join_alert(incident.number, alert)
            for round in rounds:
                tx.save_round(replace(round, incident=incident.number))
            for proposal in proposals:  # each is a move of the one before
                tx.save_proposal(proposal)
            for approval in approvals:
                tx.save_approval(approval)
            tx.show(incident.number)

    def say(self, key: str, incident: int = 142, **more: object) -> None:
        with self.store.write() as tx:
            tx.say(ThreadMessage(incident, key, Report(f"about {key}"), **more))

    @property
    def card(self) -> Told:
        (only,) = self.chat.cards()
        return only

    @property
    def thread(self) -> list[str]:
        return [m.report.text for m in self.chat.thread(self.card.ts)]


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def desk(store: SqlStore):
    made = Desk(store, FakeChat(paced=True))
    yield made
    for gate in made.chat.gates.values():
        gate.set()
    made.announcer.close()


# ---------------------------------------------------------------------------------------------- the push


def test_a_verdict_within_the_grace_makes_one_message_that_calls(desk: Desk):
    desk.write()
    desk.pass_time(1)
    assert desk.chat.messages == []
    desk.write(s.round_of(), proposals=(s.proposal(),))
    desk.settle()
    assert (desk.card.call, "Under-provisioned" in desk.card.report.text) == (s.ALICE, True)
    desk.pass_time(30)
    assert [m.call for m in desk.chat.messages if m.call] == [s.ALICE]


def test_without_a_verdict_in_time_the_card_goes_out_and_the_verdict_follows_with_the_call(desk: Desk):
    desk.write()
    desk.pass_time(2)
    assert desk.card.call is None and "Diagnosing" in str(desk.card.report)
    desk.write(s.round_of())
    desk.pass_time(1)
    calls = [m for m in desk.chat.thread(desk.card.ts) if m.call]
    assert [m.call for m in calls] == [s.ALICE] and "Under-provisioned" in calls[0].report.text
    assert "Under-provisioned" in str(desk.card.report), "and the card is edited"


def test_a_verdict_that_arrives_while_the_quiet_card_is_being_posted_still_calls(desk: Desk):
    gate = desk.chat.gates[s.CHANNEL] = threading.Event()
    desk.write()
    desk.now += timedelta(seconds=2)
    desk.announcer.step(desk.now)
    desk.write(s.round_of())
    desk.announcer.step(desk.now)
    gate.set()
    desk.pass_time(3)
    assert desk.card.call is None
    assert [m.call for m in desk.chat.thread(desk.card.ts) if m.call] == [s.ALICE]


def test_after_ten_seconds_the_push_says_that_there_is_no_verdict(desk: Desk):
    desk.write()
    desk.pass_time(9)
    assert not [m for m in desk.chat.messages if m.call]
    desk.pass_time(2)
    (push,) = [m for m in desk.chat.messages if m.call]
    assert "No verdict after 10 s" in push.report.text
    desk.write(s.round_of())
    desk.pass_time(20)
    assert len([m for m in desk.chat.messages if m.call]) == 1, "the late verdict wakes nobody twice"


def test_a_warning_calls_nobody(desk: Desk):
    desk.write(s.round_of(), incident=s.incident(severity=Severity.WARNING))
    desk.pass_time(30)
    assert len(desk.chat.cards()) == 1 and not [m for m in desk.chat.messages if m.call]


def test_without_a_runbook_the_card_is_out_at_once(desk: Desk):
    strange = s.without_runbook().incident
    desk.write(incident=strange)
    desk.settle()
    assert desk.card.call == s.ALICE and desk.card.channel == s.DEFAULT_CHANNEL
    assert len([c for c in desk.chat.calls if c.startswith("post")]) == 1


# ---------------------------------------------------------------------------------------------- in step


def test_the_card_is_edited_when_its_words_change_and_only_then(desk: Desk):
    desk.write(s.round_of(), proposals=(s.proposal(),))
    desk.pass_time(5)
    assert desk.card.edits == 0
    desk.write()
    desk.pass_time(5)
    assert desk.card.edits == 0, "shown again, but with the same words"
    desk.write(incident=s.incident(acked_by=s.BOB, acked_at=s.at(1)))
    desk.pass_time(5)
    assert desk.card.edits == 1 and "Acknowledged" in str(desk.card.report)


def test_many_changes_while_slack_is_slow_are_one_edit_with_the_latest(desk: Desk):
    desk.write(s.round_of(), proposals=(s.proposal(),))
    desk.pass_time(2)
    desk.chat.errors.append(NOT_THERE)
    desk.write(proposals=(s.proposal(state=ProposalState.APPROVED),))
    for n in range(20):
        desk.write(proposals=(replace(s.RUNNING, progress=f"{n} of 20"),))
        desk.settle()
    desk.pass_time(10)
    assert "19 of 20" in str(desk.card.report)
    assert desk.card.edits <= 3


def test_the_thread_is_told_in_order_and_once(desk: Desk):
    view = s.resolved()
    desk.write(*view.rounds[:1])
    desk.pass_time(3)
    life = (s.proposal(), s.proposal(state=ProposalState.APPROVED), s.RUNNING, s.HELPED)
    desk.write(*view.rounds, incident=view.incident, proposals=life, approvals=(s.APPROVED,), alerts=view.alerts)
    desk.pass_time(30)
    assert len(desk.thread) == 7
    words = " | ".join(desk.thread)
    order = ["Round 1", "Acknowledged", "Approved", "Running", "Helped", "Resolved", "Round 3"]
    assert [words.index(w) for w in order] == sorted(words.index(w) for w in order)
    desk.restart()
    desk.write()
    desk.pass_time(10)
    assert len(desk.thread) == 7


def test_a_round_gets_its_picture_below_it_once(desk: Desk):
    desk.draw = lambda incident, picture: f"{incident} {picture}".encode()
    desk.write(s.round_of())
    desk.pass_time(6)
    assert desk.chat.pictures == [(s.CHANNEL, desk.card.ts, "inc-142-signal-1.png")]
    names = [c.split()[0] for c in desk.chat.calls if c.startswith(("post", "picture"))]
    assert names == ["post", "post", "picture"]


def test_a_picture_that_cannot_be_drawn_keeps_no_message_back(desk: Desk):
    def fails(incident: int, picture: str) -> bytes:
        raise SourceError("Prometheus", "did not answer", retryable=True)

    desk.draw = fails
    desk.write(s.round_of())
    desk.settle()
    desk.say("later")
    desk.pass_time(30)
    assert [t.partition(":")[0] for t in desk.thread] == ["Round 1", "about later"]
    assert desk.chat.pictures == []
    assert desk.announcer.backlog.trouble is None, "Prometheus is down, Slack is not"


def test_an_answer_to_one_person_is_given_at_once_and_once(desk: Desk):
    desk.write(s.round_of())
    with desk.store.write() as tx:
        tx.whisper(s.CHANNEL, s.BOB, Report("Refused: no role"), desk.now)
    desk.settle()
    assert [(u, r.text) for _, u, r in desk.chat.whispers] == [(s.BOB, "Refused: no role")]
    desk.pass_time(5)
    assert len(desk.chat.whispers) == 1


def test_an_answer_an_hour_late_is_not_given_any_more(desk: Desk):
    with desk.store.write() as tx:
        tx.whisper(s.CHANNEL, s.BOB, Report("late"), desk.now - timedelta(minutes=61))
    desk.settle()
    assert desk.chat.whispers == []
    with desk.store.read() as tx:
        assert not tx.waiting_whispers(10)


# ---------------------------------------------------------------------------------------------- Slack's pace


def test_a_channel_gets_one_message_a_second_however_much_there_is_to_say(desk: Desk):
    for number in range(1, 16):
        desk.write(s.round_of(), incident=s.incident(number))
    desk.pass_time(60)
    assert desk.chat.refused == 0
    times = sorted(m.at for m in desk.chat.messages)
    assert min((b - a).total_seconds() for a, b in pairwise(times)) >= 1
    assert len(desk.chat.cards()) == 15 and len(desk.chat.messages) == 30


def test_first_messages_go_before_evidence_and_critical_ones_before_the_rest(desk: Desk):
    for number in range(1, 6):
        severity = Severity.WARNING if number < 4 else Severity.CRITICAL
        desk.write(s.round_of(), incident=s.incident(number, severity=severity))
    desk.pass_time(30)
    markers = [m.marker for m in sorted(desk.chat.messages, key=lambda m: m.at)]
    assert markers[:2] == ["card-inc-4-called", "card-inc-5-called"]
    assert all(m.startswith("card") for m in markers[:5])
    assert all(m.startswith("message") for m in markers[5:])


def test_retry_after_is_honoured_and_nothing_is_lost(desk: Desk):
    desk.chat.errors.append(TooManyError("wants patience", 7))
    desk.write(s.round_of())
    desk.pass_time(6)
    assert desk.chat.messages == [] and len(desk.chat.calls) == 1
    desk.pass_time(3)
    assert desk.card.call == s.ALICE
    assert not [c for c in desk.chat.calls if c.startswith("find")], "a clear refusal needs no looking"


def test_a_slow_channel_delays_no_other(desk: Desk):
    desk.chat.gates[s.CHANNEL] = threading.Event()
    for number in range(1, 40):
        desk.write(s.round_of(), incident=s.incident(number))
    desk.announcer.step(desk.now)
    elsewhere = s.incident(99, channel="C02INCCODE")
    desk.write(s.round_of(), incident=elsewhere)
    deadline = time.monotonic() + 10
    while not [m for m in desk.chat.messages if m.channel == "C02INCCODE"]:
        desk.announcer.step(desk.now)
        assert time.monotonic() < deadline, "the other channel waited"
        time.sleep(0.01)
    assert not [m for m in desk.chat.messages if m.channel == s.CHANNEL]


# ---------------------------------------------------------------------------------------------- Slack's faults


def test_a_minute_without_slack_is_caught_up_in_order(desk: Desk):
    desk.write(s.round_of())
    desk.pass_time(3)
    desk.chat.errors.extend([NOT_THERE] * 1000)
    for n in range(5):
        desk.say(f"turn {n}")
    desk.write(incident=s.incident(acked_by=s.BOB, acked_at=s.at(1)))
    desk.write(s.round_of(), incident=s.incident(7))
    calls = len(desk.chat.calls)
    desk.pass_time(60)
    assert len(desk.chat.calls) - calls <= 20, "an outage is not hammered at"
    assert desk.announcer.backlog.trouble is not None and desk.announcer.backlog.cards == 1
    desk.chat.errors.clear()
    desk.pass_time(40)
    assert len(desk.chat.cards()) == 2
    first = next(m for m in desk.chat.cards() if m.marker.startswith("card-inc-142"))
    told = [m.report.text for m in desk.chat.thread(first.ts)]
    assert [t for t in told if t.startswith("about")] == [f"about turn {n}" for n in range(5)]
    assert "Acknowledged" in str(first.report)
    assert desk.announcer.backlog.trouble is None and desk.announcer.backlog.cards == 0


def test_a_card_that_was_late_says_how_late(desk: Desk):
    desk.chat.errors.extend([NOT_THERE] * 1000)
    desk.write(s.round_of())
    desk.pass_time(60)
    desk.chat.errors.clear()
    desk.pass_time(20)
    assert "Slack got this" in str(desk.card.report)


def test_a_post_that_slack_took_without_answering_is_not_posted_twice(desk: Desk):
    desk.chat.lose_answers = 1
    desk.write(s.round_of())
    desk.pass_time(10)
    assert desk.card.call == s.ALICE
    assert [c.split()[0] for c in desk.chat.calls[:2]] == ["post", "find"]
    with desk.store.read() as tx:
        card = tx.card(142)
    assert card is not None and card.ts == desk.card.ts
    assert not [m for m in desk.chat.thread(desk.card.ts) if m.call], "its call counts"


def test_a_reply_that_slack_took_without_answering_is_not_posted_twice(desk: Desk):
    desk.write(s.round_of())
    desk.pass_time(5)
    desk.chat.lose_answers = 1
    desk.say("execution:inc-142-p2:running")
    desk.pass_time(10)
    assert desk.thread.count("about execution:inc-142-p2:running") == 1


def test_a_post_that_got_lost_is_posted_again(desk: Desk):
    desk.chat.errors.append(UnclearError("Slack", "did not answer", retryable=True))
    desk.write(s.round_of())
    desk.pass_time(10)
    assert desk.card.call == s.ALICE


def test_killed_between_the_post_and_its_note_the_next_one_finds_it(desk: Desk):
    desk.write(s.round_of())
    with desk.store.write() as tx:
        tx.card_attempted(142, desk.now)
    ts = desk.chat.post(s.CHANNEL, Report("posted by the one that died"), marker="card-inc-142-called", call=s.ALICE)
    desk.restart()
    desk.pass_time(10)
    assert desk.card.ts == ts and desk.card.edits == 1, "found, and brought up to date"
    with desk.store.read() as tx:
        card = tx.card(142)
    seen = read(card.shown) if card else None
    assert seen is not None and seen.called
    assert len([m for m in desk.chat.messages if m.call]) == 1


def test_killed_after_a_quiet_post_the_verdict_still_calls(desk: Desk):
    desk.write()
    with desk.store.write() as tx:
        tx.card_attempted(142, desk.now)
    desk.chat.post(s.CHANNEL, Report("posted by the one that died"), marker="card-inc-142")
    desk.write(s.round_of())
    desk.restart()
    desk.pass_time(10)
    assert len(desk.chat.cards()) == 1
    assert [m.call for m in desk.chat.thread(desk.card.ts) if m.call] == [s.ALICE]


def test_killed_between_a_reply_and_its_picture_both_stand_once(desk: Desk):
    desk.draw = lambda incident, picture: b"png"
    desk.write(s.round_of())
    desk.settle()
    desk.now += timedelta(seconds=1)
    desk.chat.errors.clear()
    desk.settle()
    assert len(desk.thread) == 1 and desk.chat.pictures == []
    desk.restart()
    desk.pass_time(10)
    assert len(desk.thread) == 1 and len(desk.chat.pictures) == 1


def test_a_picture_that_slack_took_without_answering_stands_once(desk: Desk):
    desk.draw = lambda incident, picture: b"png"
    desk.write(s.round_of())
    desk.settle()
    desk.now += timedelta(seconds=1)
    desk.settle()
    desk.chat.lose_answers = 1
    desk.pass_time(10)
    assert len(desk.chat.pictures) == 1 and len(desk.thread) == 1
    with desk.store.read() as tx:
        assert not tx.waiting_messages(10)


# ---------------------------------------------------------------------------------------------- people's faults


def test_a_channel_without_the_bot_sends_the_card_to_the_default_one_with_the_reason(desk: Desk):
    desk.chat.absent.add(s.CHANNEL)
    desk.write(s.round_of())
    desk.pass_time(10)
    assert (desk.card.channel, desk.card.call) == (s.DEFAULT_CHANNEL, s.ALICE)
    assert f"Slack refused this in {s.CHANNEL}" in str(desk.card.report)
    assert len(desk.thread) == 1 and desk.chat.thread(desk.card.ts)[0].channel == s.DEFAULT_CHANNEL
    with desk.store.read() as tx:
        assert [e.entry.action for e in tx.audited("inc-142", 9)] == ["card.moved"]


def test_no_channel_at_all_is_tried_again_until_somebody_invites_the_bot(desk: Desk):
    desk.chat.absent |= {s.CHANNEL, s.DEFAULT_CHANNEL}
    desk.write(s.round_of())
    desk.pass_time(30, step=1)
    assert desk.announcer.backlog.trouble is not None and "Invite" in desk.announcer.backlog.trouble
    desk.chat.absent.clear()
    desk.pass_time(60, step=1)
    assert desk.card.channel == s.DEFAULT_CHANNEL


def test_a_deleted_card_comes_back_and_calls_nobody_again(desk: Desk):
    desk.write(s.round_of())
    desk.pass_time(3)
    desk.chat.delete(desk.card.ts)
    desk.write(incident=s.incident(acked_by=s.BOB, acked_at=s.at(1)))
    desk.pass_time(5)
    assert desk.card.call is None and "Acknowledged" in str(desk.card.report)
    with desk.store.read() as tx:
        card = tx.card(142)
    assert card is not None and card.ts == desk.card.ts


def test_a_deleted_card_of_a_resolved_incident_stays_away(desk: Desk):
    desk.write(s.round_of())
    desk.pass_time(3)
    desk.chat.delete(desk.card.ts)
    desk.write(incident=s.incident(state=IncidentState.RESOLVED, resolved_at=s.at(5), resolution="by hand"))
    desk.pass_time(5)
    assert desk.chat.cards() == []
    with desk.store.read() as tx:
        assert not tx.stale_cards()


def test_one_message_that_slack_refuses_holds_up_its_thread_only(desk: Desk):
    desk.write(s.round_of())
    desk.write(s.round_of(), incident=s.incident(7))
    desk.pass_time(10)
    desk.say("bad")
    desk.chat.errors.append(SourceError("Slack", "refused chat.postMessage: restricted_action"))
    desk.settle()
    desk.say("good", incident=7)
    desk.pass_time(5)
    other = next(m for m in desk.chat.cards() if m.marker.startswith("card-inc-7"))
    assert "about good" in [m.report.text for m in desk.chat.thread(other.ts)]
    assert "about bad" not in [m.report.text for m in desk.chat.messages]
    desk.pass_time(61, step=1)
    assert "about bad" in [m.report.text for m in desk.chat.messages]


# ---------------------------------------------------------------------------------------------- many


def test_a_storm_over_many_channels_is_shown_once_each_within_the_pace(desk: Desk):
    for number in range(1, 101):
        channel = f"C{number % 10:02d}"
        desk.write(s.round_of(), incident=s.incident(number, channel=channel))
    desk.pass_time(30)
    assert desk.chat.refused == 0
    assert sorted(m.marker for m in desk.chat.cards()) == sorted(f"card-inc-{n}-called" for n in range(1, 101))
    assert len(desk.chat.messages) == 200


def test_the_next_moment_worth_a_look_is_known(desk: Desk):
    desk.write()
    desk.settle()
    assert desk.announcer.next_at == s.incident().opened_at + timedelta(seconds=Timing().verdict_grace_seconds)


def test_a_burning_incident_costs_nothing_while_nothing_changes(desk: Desk):
    desk.write(s.round_of())
    desk.pass_time(5)
    calls = len(desk.chat.calls)
    for n in range(2, 6):
        desk.write(s.round_of(n, 4 * n, reason=RoundReason.BURNING))
        desk.pass_time(3)
    edits = len(desk.chat.calls) - calls
    assert edits == 4, "the round's number is on the card; the thread is not told"


def test_a_mistake_in_rendering_hurts_one_incident_only(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.write(s.round_of(), incident=s.incident(7))
    desk.draw = lambda incident, picture: 1 / 0  # type: ignore[return-value, func-returns-value]
    desk.write(s.round_of())
    desk.pass_time(8)
    assert len(desk.chat.cards()) == 2
