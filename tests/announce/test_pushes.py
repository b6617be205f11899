from dataclasses import replace
from datetime import timedelta

import pytest

from bot.announce.pushes import FirstPost, first_post, follow_ups, grace_ends, limit_ends
from bot.announce.seen import Seen
from bot.incidents.incident import IncidentState, RoundReason, Timing
from bot.remediation.proposal import ProposalState
from bot.runbook.schema import Severity
from tests import stories as s

TIMING = Timing()
QUIET, CALLED = Seen("x", called=False), Seen("x", called=True)
OPENED = s.incident().opened_at


def after(seconds: float):
    return OPENED + timedelta(seconds=seconds)


def keys(view, seen, now) -> list[str]:
    return [m.key for m in follow_ups(view, seen, TIMING, now)]


def test_the_first_post_waits_for_the_verdict_but_not_longer_than_its_grace():
    assert first_post(s.view(), TIMING, after(0.5)) is FirstPost.WAIT
    assert first_post(s.view(), TIMING, after(2)) is FirstPost.QUIET
    assert grace_ends(s.view(), TIMING) == after(2)


def test_the_first_post_calls_when_the_verdict_is_there_whatever_it_is():
    assert first_post(s.with_verdict(), TIMING, after(1)) is FirstPost.CALL
    assert first_post(s.inconclusive(), TIMING, after(1)) is FirstPost.CALL
    assert first_post(s.view(s.round_of(error="it broke")), TIMING, after(1)) is FirstPost.CALL


def test_without_a_runbook_there_is_nothing_to_wait_for():
    assert first_post(s.without_runbook(), TIMING, after(0)) is FirstPost.CALL


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.INFO])
def test_warnings_never_mention_anybody(severity: Severity):
    view = s.with_verdict(incident=s.incident(severity=severity))
    assert first_post(view, TIMING, after(1)) is FirstPost.QUIET
    assert keys(view, QUIET, after(3600)) == []


def test_one_that_is_over_or_taken_before_its_post_wakes_nobody():
    over = s.incident(state=IncidentState.RESOLVED, resolved_at=s.at(1))
    assert first_post(s.with_verdict(incident=over), TIMING, after(1)) is FirstPost.QUIET
    assert first_post(s.view(incident=over), TIMING, after(0)) is FirstPost.QUIET
    acked = s.incident(acked_by=s.BOB, acked_at=s.at(0.2))
    assert first_post(s.with_verdict(incident=acked), TIMING, after(1)) is FirstPost.QUIET


def test_the_verdict_follows_a_quiet_post_as_a_reply_that_carries_it():
    (push,) = follow_ups(s.with_verdict(), QUIET, TIMING, after(4))
    assert push.key == "verdict" and push.mention == s.ALICE
    assert "Under-provisioned: 138 requests wait" in push.report.text
    assert "Suggested: scale 3 → 4" in push.report.text


def test_at_the_limit_the_push_goes_out_without_a_verdict():
    assert keys(s.view(), QUIET, after(9.9)) == []
    (push,) = follow_ups(s.view(), QUIET, TIMING, limit_ends(s.view(), TIMING))
    assert push.key == "verdict" and "No verdict after 10 s" in push.report.text


def test_who_was_called_by_the_card_is_not_called_for_its_verdict_again():
    assert keys(s.with_verdict(), CALLED, after(3600)) == []


def test_before_the_card_stands_nothing_follows_it():
    assert keys(s.with_verdict(), None, after(4)) == []


def test_a_warning_that_turns_critical_calls():
    assert keys(s.with_verdict(incident=s.incident(severity=Severity.CRITICAL)), QUIET, after(60)) == ["verdict"]


def mild(number: int = 1):
    finding = replace(s.UNDER_PROVISIONED, rule="queue", title="Queue long", severity=Severity.WARNING)
    return s.round_of(number, findings=(finding,))


def test_a_worse_cause_than_any_before_calls_again_and_the_same_does_not():
    worse = s.round_of(2, 4, reason=RoundReason.BURNING)
    again = s.round_of(3, 8, reason=RoundReason.BURNING)
    assert keys(s.view(mild()), CALLED, after(5)) == []
    (push,) = follow_ups(s.view(mild(), worse), CALLED, TIMING, after(300))
    assert push.key == "worse:under_provisioned" and "got worse: Under-provisioned" in push.report.text
    assert keys(s.view(mild(), worse, again), CALLED, after(600)) == ["worse:under_provisioned"]


def test_the_first_cause_found_after_an_unclear_round_is_not_worse():
    assert keys(s.view(s.INCONCLUSIVE, s.round_of(2, 4)), CALLED, after(300)) == []


def test_after_the_ack_nobody_is_woken():
    acked = s.incident(acked_by=s.BOB, acked_at=s.at(0.5))
    view = s.view(mild(), s.round_of(2, 4), incident=acked)
    assert keys(view, QUIET, after(600)) == []


def test_somebody_who_approves_a_change_is_at_it():
    assert keys(s.running(), QUIET, after(600)) == []


def test_somebody_who_declines_a_change_may_have_done_no_more():
    declined = s.proposal(state=ProposalState.DECLINED, decided_by=s.BOB, decided_at=s.at(0.01))
    assert first_post(s.with_verdict(declined), TIMING, after(1)) is FirstPost.CALL
    assert keys(s.with_verdict(declined), QUIET, after(600)) == ["verdict"]


@pytest.mark.parametrize("proposal", [s.RUNNING, s.HELPED])
def test_what_was_approved_before_a_reopening_took_the_acknowledgment_back_silences_nothing(proposal):
    again = s.incident(opened_at=s.at(60), reopened_at=s.at(60), flaps=1)
    worse = s.round_of(2, 60.1)
    assert keys(s.view(mild(), worse, proposals=(proposal,), incident=again), CALLED, s.at(61)) == [
        "worse:under_provisioned"
    ]


def test_without_anybody_on_call_nobody_is_called():
    view = replace(s.with_verdict(), oncall=None)
    assert first_post(view, TIMING, after(1)) is FirstPost.QUIET
    assert keys(view, QUIET, after(60)) == []
