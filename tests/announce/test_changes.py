from dataclasses import replace

from bot.announce import changes
from bot.outbound.terminal import render
from bot.remediation.proposal import Applied, Approval, Helped, ProposalState
from bot.report import Button, Buttons
from tests import stories as s


def said(proposal, approvals=()) -> list[tuple[str, str]]:
    return [(m.key, render(m.report, width=10_000)) for m in changes.messages(proposal, approvals)]


def test_a_suggestion_that_nobody_touched_says_nothing():
    assert said(s.proposal()) == []
    assert changes.line(s.proposal(), ()) is None


def test_a_proposal_by_hand_names_who_made_it():
    ((key, text),) = said(s.proposal(proposed_by=s.BOB))
    assert key == "proposal:inc-142-p2" and "Proposed by @U02BOB: Scale chat-70b from 3 to 4 replicas" in text


def test_the_whole_life_of_a_change_that_helped_is_told_in_order():
    keys = [key for key, _ in said(s.HELPED, (s.APPROVED,))]
    assert keys == [
        "approval:inc-142-p2:U02BOB",
        "execution:inc-142-p2:running",
        "execution:inc-142-p2:ended",
    ]
    approved, running, ended = (text for _, text in said(s.HELPED, (s.APPROVED,)))
    assert "Approved by @U02BOB: Scale chat-70b from 3 to 4 replicas" in approved and "Why: all replicas" in approved
    assert "Running: Scale chat-70b" in running
    assert "Helped: Scale chat-70b" in ended and "TTFT P99 2.5–5 s → 0.25–0.5 s" in ended
    assert "9 min 54 s" in ended


def test_times_follow_the_order():
    times = [m.at for m in changes.messages(s.HELPED, (s.APPROVED,))]
    assert times == sorted(times)


def test_a_second_approval_is_waited_for_by_name():
    assert changes.line(s.proposal(), (s.APPROVED,)) == (
        ":hourglass: *Waiting for a second approval*: Scale chat-70b from 3 to 4 replicas (approved by <@U02BOB>)"
    )


def test_break_glass_is_announced_with_its_reason():
    ((_, text),) = said(s.proposal(), (Approval("inc-142-p2", s.BOB, s.at(2), "customers are down"),))
    assert "overriding the policy: “customers are down”" in text


def test_what_was_refused_names_reason_person_and_the_command_by_hand():
    refused = s.proposal(
        state=ProposalState.REFUSED, refusal="chat-70b would fall below 2 ready", decided_by=s.BOB, decided_at=s.at(2)
    )
    key, text = said(refused)[-1]
    assert key == "execution:inc-142-p2:refused"
    assert "Refused: Scale chat-70b" in text and "chat-70b would fall below 2 ready" in text
    assert "Nothing was changed (asked by @U02BOB)" in text
    assert "kubectl -n llm scale deployment/chat-70b --current-replicas=3 --replicas=4" in text


def test_an_interrupted_change_says_to_look_first():
    interrupted = replace(s.RUNNING, state=ProposalState.INTERRUPTED, ended_at=s.at(5), outcome="the bot was killed")
    _, text = said(interrupted)[-1]
    assert "look before you repeat it" in text and "kubectl" in text and "the bot was killed" in text


def test_declined_and_expired_are_told_only_where_somebody_cared():
    declined = s.proposal(state=ProposalState.DECLINED, decided_by=s.BOB, decided_at=s.at(3))
    assert "Declined by @U02BOB" in said(declined)[-1][1]
    assert said(s.proposal(state=ProposalState.EXPIRED)) == []
    assert "Expired without a second approval" in said(s.proposal(state=ProposalState.EXPIRED), (s.APPROVED,))[-1][1]


def test_the_way_back_is_offered_with_the_outcome():
    buttons = [p for p in changes.messages(s.HELPED, ())[-1].report.parts if isinstance(p, Buttons)]
    assert buttons == [Buttons((Button("Undo: scale 3 → 4…", "undo", "inc-142-p2"),))]


def test_what_changed_nothing_and_what_undoes_is_not_undone():
    assert changes.may_be_undone(s.HELPED)
    assert changes.may_be_undone(replace(s.HELPED, applied=Applied.PARTLY))
    assert not changes.may_be_undone(replace(s.HELPED, applied=Applied.NO))
    assert not changes.may_be_undone(replace(s.HELPED, undoes="inc-142-p1"))
    assert not changes.may_be_undone(replace(s.HELPED, before=None))
    assert not changes.may_be_undone(s.RUNNING)


def test_a_change_in_place_whose_help_is_awaited_says_so():
    watching = replace(s.RUNNING, applied=Applied.YES, progress="4 of 4 ready")
    line = changes.line(watching, (s.APPROVED,))
    assert line is not None and "*Applied*, watching whether it helps" in line


def test_an_end_without_a_word_on_help_is_cannot_tell():
    assert changes.ended_as(replace(s.HELPED, helped=None))[1] == "Cannot tell whether it helped"
    assert changes.ended_as(replace(s.HELPED, helped=Helped.NO))[1] == "Did not help"


def test_no_command_is_made_up_for_an_action_that_is_gone_or_means_something_else():
    assert changes.by_hand(s.proposal(action="no_such_action")) is None
    assert changes.by_hand(s.proposal(params={"something": "else"})) is None


def test_a_terminals_user_is_named_and_not_mentioned():
    assert changes.who("U02BOB") == "<@U02BOB>"
    assert changes.who("terminal:bob") == "terminal:bob"
    assert changes.who(None) == "nobody known"


def test_a_way_back_is_undone_or_rolled_back_and_not_judged_by_whether_it_helped():
    undo = replace(s.HELPED, undoes="inc-142-p1", helped=Helped.NO)
    assert changes.ended_as(undo)[1] == "Undone"
    assert changes.ended_as(replace(undo, helped=Helped.YES))[1] == "Helped"
    assert changes.ended_as(replace(s.HELPED, aborts="inc-142-p1", helped=None))[1] == "Rolled back"
    assert changes.ended_as(replace(undo, applied=Applied.PARTLY))[1] == "Applied partly"


def test_what_has_no_way_back_offers_none():
    params = {"node": "gpu-01", "schedulable": False}
    drained = replace(s.HELPED, action="drain_node", params=params, before={"schedulable": True, "pods": {}})
    assert changes.may_be_undone(drained)
    assert not changes.may_be_undone(replace(drained, before={"schedulable": False, "pods": {}}))
    assert not changes.may_be_undone(replace(s.HELPED, action="no_such_action"))
