from dataclasses import replace
from datetime import timedelta

import pytest

from bot.incidents.incident import IncidentState
from bot.ports import SourceError
from bot.remediation.approve import Approve
from bot.remediation.proposal import ProposalState
from tests.remediation.stage import ALICE, BOB, MALLORY, Stage, finding, fleet

SLOW = SourceError("Kubernetes", "did not answer within 10 s", retryable=True)


def state(stage, proposal) -> ProposalState:
    return stage.proposal(proposal.id).state


def test_an_approval_is_written_down_with_who_and_what(stage):
    proposal = stage.scale_up()
    decision = stage.press(proposal)
    assert (decision.accepted, decision.starts) == (True, True)
    approved = stage.proposal(proposal.id)
    assert (approved.state, approved.decided_by) == (ProposalState.APPROVED, ALICE)
    with stage.store.read() as tx:
        assert [a.user for a in tx.approvals_of(proposal.id)] == [ALICE]
        entry = tx.audited(proposal.id, 1)[0].entry
    assert (entry.actor, entry.action) == (ALICE, "proposal.approved")
    assert entry.detail["diff"] == [["spec.replicas", 3, 4]]


def test_a_second_press_does_nothing_and_names_the_first_approver(stage):
    proposal = stage.scale_up()
    stage.press(proposal)
    second = stage.press(proposal, BOB)
    assert not second.accepted
    assert second.text == f"inc-1-p1 (scale 3 → 4) was approved by <@{ALICE}> already; it is approved."
    assert stage.audited().count("proposal.approved") == 1


def test_whoever_approves_has_acknowledged_the_incident_so_that_nobody_is_called(stage):
    stage.press(stage.scale_up(), BOB)
    incident = stage.incident()
    assert (incident.acked_by, incident.acked_at) == (BOB, stage.now)
    assert stage.audited().count("incident.acknowledged") == 1


def test_an_approval_takes_an_incident_from_nobody(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_incident(replace(stage.incident(), acked_by=ALICE, acked_at=stage.now))
    stage.now += timedelta(minutes=1)
    stage.press(proposal, BOB)
    assert stage.incident().acked_by == ALICE
    assert "incident.acknowledged" not in stage.audited()


def test_a_refused_approval_acknowledges_nothing(stage):
    stage.press(stage.scale_up(), MALLORY)
    assert stage.incident().acked_by is None


def test_who_lacks_the_role_is_refused_by_name_and_the_next_one_may(stage):
    proposal = stage.scale_up()
    refused = stage.press(proposal, MALLORY)
    assert not refused.accepted and state(stage, proposal) is ProposalState.PENDING
    (told,) = stage.said().values()
    assert f"pressed by <@{MALLORY}>" in told and "that takes the role oncall" in told
    assert stage.press(proposal, BOB).starts


def test_the_same_refusal_is_said_once_however_often_it_is_pressed(stage):
    proposal = stage.scale_up()
    for _ in range(3):
        stage.press(proposal, MALLORY)
    assert len(stage.said()) == 1


def test_a_user_group_that_cannot_be_read_refuses_and_says_so(stage):
    stage.group = SourceError("Slack", "did not answer within 10 s")
    proposal = stage.scale_up()
    refused = stage.press(proposal, BOB)
    assert "the members of <@SONCALL> could not be read" in refused.text
    assert stage.press(proposal, ALICE).starts  # named in person


# ---------------------------------------------------------------------------------------------- checked again


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lambda s: s.cluster.machines.pop("gpu-02"), "no free GPUs for 1 replica more"),
        (lambda s: s.change(paused=True), "chat-70b is paused"),
        (lambda s: setattr(s.cluster, "down", SLOW), "Kubernetes: did not answer within 10 s"),
    ],
)
def test_what_speaks_against_it_refuses_and_leaves_it_pending(stage, happens, reason):
    proposal = stage.scale_up()
    happens(stage)
    refused = stage.press(proposal)
    assert not refused.accepted and reason in refused.text
    assert state(stage, proposal) is ProposalState.PENDING


def test_who_is_refused_is_told_that_nothing_was_changed(stage):
    assert stage.press(stage.scale_up(), MALLORY).text.endswith("Nothing was changed.")


def test_a_cluster_that_does_not_answer_changes_nothing_and_the_same_press_goes_through_later(stage):
    proposal = stage.scale_up()
    stage.cluster.down = SLOW
    refused = stage.press(proposal)
    assert refused.text.endswith("Nothing was changed. It stays offered: approve it again once that works.")
    (told,) = stage.said().values()
    assert "Nothing was changed" in told
    stage.cluster.down = None
    assert stage.press(proposal).starts


def test_a_new_objection_stands_on_the_proposal_from_then_on(stage):
    proposal = stage.scale_up()
    stage.change(paused=True)
    stage.press(proposal)
    assert "is paused" in stage.proposal(proposal.id).objections[0]


def test_a_prometheus_that_does_not_answer_locks_no_button(stage):
    proposal = stage.scale_up()
    stage.metrics.down = SourceError("Prometheus", "did not answer within 10 s")
    assert stage.press(proposal).starts


def test_fields_that_changed_since_they_were_shown_end_it_and_a_round_looks_again(stage):
    proposal = stage.scale_up()
    stage.change(desired=5, updated=5)
    refused = stage.press(proposal)
    assert "5 replicas now, not 3" in refused.text
    assert state(stage, proposal) is ProposalState.SUPERSEDED
    assert [r.for_execution for r in stage.rounds()] == [proposal.id]


def test_an_expired_proposal_is_refused_and_closed(stage):
    proposal = stage.scale_up()
    stage.now = proposal.expires_at
    assert "it expired" in stage.press(proposal).text
    assert state(stage, proposal) is ProposalState.EXPIRED


def test_a_resolved_incident_needs_no_change(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_incident(replace(stage.incident(), state=IncidentState.RESOLVED, resolved_at=stage.now))
    assert "inc-1 is resolved" in stage.press(proposal).text


def test_a_freeze_refuses_until_it_is_lifted(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.freeze("UEVE", "launch day", stage.now)
    assert "changes are frozen by UEVE: launch day" in stage.press(proposal).text
    with stage.store.write() as tx:
        tx.unfreeze("UEVE", stage.now)
    assert stage.press(proposal).starts


def test_the_guard_is_asked_in_the_same_transaction(stage):
    proposal = stage.scale_up()
    other = replace(proposal, number=7, params={}, button="scale 2 → 3")
    with stage.store.write() as tx:
        for to in (ProposalState.PENDING, ProposalState.APPROVED, ProposalState.RUNNING):
            tx.save_proposal(replace(other, state=to))
    assert "one change at a time: inc-1-p7 (scale 2 → 3) is running" in stage.press(proposal).text


def test_changes_per_hour_are_counted_over_all_services(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        for number in range(10, 16):
            done = replace(proposal, number=number, params={}, service="other", state=ProposalState.ENDED)
            tx.save_proposal(replace(done, started_at=stage.now - timedelta(minutes=number)))
    assert "6 changes within the hour, 6 are allowed" in stage.press(proposal).text


def test_an_unknown_proposal_is_answered(stage):
    assert stage.press("inc-1-p99").text == "There is no proposal inc-1-p99."


# ---------------------------------------------------------------------------------------------- two people, break-glass


@pytest.fixture
def careful(sqlite) -> Stage:
    stage = Stage(sqlite)
    stage.fleet = fleet(stage.ref, two_people=("medium",))
    stage.world = replace(stage.world, fleet=stage.fleet)
    return stage


def test_two_people_approve_and_the_first_alone_starts_nothing(careful):
    proposal = careful.scale_up()
    first = careful.press(proposal, ALICE)
    assert (first.accepted, first.starts) == (True, False)
    assert state(careful, proposal) is ProposalState.PENDING
    again = careful.press(proposal, ALICE)
    assert not again.starts and "You approved inc-1-p1 already" in again.text
    assert careful.press(proposal, BOB).starts


def test_breaking_glass_needs_the_role_and_leaves_its_reason(careful):
    proposal = careful.scale_up()
    assert not careful.press(proposal, ALICE, break_glass_reason="hurry").accepted
    assert careful.press(proposal, "UEVE", break_glass_reason="prod is down").starts
    with careful.store.read() as tx:
        (approval,) = tx.approvals_of(proposal.id)
        assert tx.audited(proposal.id, 1)[0].entry.detail["break_glass_reason"] == "prod is down"
    assert approval.break_glass_reason == "prod is down"


def test_breaking_glass_does_not_override_what_speaks_against_it(careful):
    proposal = careful.scale_up()
    careful.cluster.machines.pop("gpu-02")
    assert "no free GPUs" in careful.press(proposal, "UEVE", break_glass_reason="prod is down").text


# ---------------------------------------------------------------------------------------------- declined


def test_declining_takes_the_role_too_and_makes_the_button_go_away(stage):
    proposal = stage.scale_up()
    approve = Approve(stage.world)
    assert "may not decline" in approve.declined(proposal.id, MALLORY, stage.now).text
    assert approve.declined(proposal.id, ALICE, stage.now).accepted
    assert state(stage, proposal) is ProposalState.DECLINED
    assert f"is declined by <@{ALICE}>" in stage.press(proposal).text
    assert stage.suggested(finding(), number=2) == []
