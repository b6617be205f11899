from dataclasses import replace

import pytest

from bot.actions.contract import Aim
from bot.incidents.incident import IncidentState
from bot.incidents.judge import Verdict
from bot.ports import Autoscaler, SourceError
from bot.remediation.proposal import ProposalState
from bot.remediation.propose import Propose
from bot.remediation.review import PIN
from bot.runbook.schema import Suggestion
from tests.remediation.stage import ALICE, BACK, MORE, Stage, finding

ARGS = Suggestion(
    action="set_engine_args",
    **{"with": {"max_num_seqs": 512}},
    why="all sequences are taken",
    by_hand="kubectl -n llm edit deployment/chat-70b",
)
SLOW = SourceError("Kubernetes", "did not answer within 10 s", retryable=True)


def manual(stage) -> str:
    (only,) = stage.manuals()
    return only.reason


# ---------------------------------------------------------------------------------------------- a round's suggestions


def test_a_confirmed_finding_becomes_an_absolute_proposal_with_all_that_a_review_shows(stage):
    proposal = stage.scale_up()
    assert (proposal.id, proposal.state, proposal.button) == ("inc-1-p1", ProposalState.PENDING, "scale 3 → 4")
    assert (proposal.params["before"], proposal.params["after"], proposal.rule) == (3, 4, "under_provisioned")
    assert [(line.path, line.before, line.after) for line in proposal.diff] == [("spec.replicas", 3, 4)]
    assert proposal.before == {"replicas": 3}
    assert "adds 1 to 3 replicas of chat-70b; needs 4 GPUs, 4 are free; last cold start 5 min" in proposal.blast_radius
    assert "load per replica: cannot tell (no data)" in proposal.blast_radius
    assert proposal.objections == ()
    assert (proposal.expires_at - proposal.created_at).total_seconds() == 1800
    assert stage.cluster.changes == []


@pytest.mark.parametrize(
    "changed", [{"verdict": Verdict.RULED_OUT}, {"verdict": Verdict.INCONCLUSIVE}, {"suppressed_by": "engine_hung"}]
)
def test_what_is_not_confirmed_or_is_only_a_symptom_proposes_nothing(stage, changed):
    assert stage.suggested(replace(finding(MORE), **changed)) == []


def test_two_findings_that_suggest_the_same_make_one_proposal(stage):
    assert len(stage.suggested(finding(MORE), finding(MORE, rule="saturated"))) == 1


def test_the_same_suggestion_in_the_next_round_is_the_same_proposal_brought_up_to_date(stage):
    first = stage.scale_up()
    stage.now += (first.expires_at - first.created_at) / 2
    stage.cluster.add_node("gpu-03", gpus=8)
    (again,) = stage.suggested(finding(MORE), number=2)
    assert again.id == first.id
    assert again.expires_at > first.expires_at
    assert "12 are free" in again.blast_radius


def test_what_the_next_round_no_longer_suggests_is_withdrawn(stage):
    first = stage.scale_up()
    assert stage.suggested(finding(), number=2) == []
    assert stage.proposal(first.id).state is ProposalState.SUPERSEDED
    assert "proposal.superseded" in stage.audited()


def test_an_open_review_keeps_its_proposal_and_its_numbers(stage):
    first = stage.scale_up()
    stage.review(first.id)
    stage.cluster.add_node("gpu-03", gpus=8)
    (pinned,) = stage.suggested(finding(MORE), number=2)
    assert pinned.blast_radius == first.blast_radius and pinned.expires_at == first.expires_at
    stage.suggested(finding(), number=3)
    assert stage.proposal(first.id).state is ProposalState.PENDING


def test_a_review_that_was_closed_pins_nothing_for_longer_than_reading_takes(stage):
    first = stage.scale_up()
    stage.review(first.id)
    stage.cluster.add_node("gpu-03", gpus=8)
    stage.now += PIN
    (unpinned,) = stage.suggested(finding(MORE), number=2)
    assert unpinned.id == first.id and "12 are free" in unpinned.blast_radius
    stage.suggested(finding(), number=3)
    assert stage.proposal(first.id).state is ProposalState.SUPERSEDED


def test_a_rule_that_became_inconclusive_withdraws_nothing(stage):
    """A broken Prometheus must not lock every button at 2 AM."""
    first = stage.scale_up()
    stage.suggested(replace(finding(MORE), verdict=Verdict.INCONCLUSIVE), number=2)
    assert stage.proposal(first.id).state is ProposalState.PENDING


def test_a_round_that_failed_or_looks_at_the_past_changes_nothing(stage):
    first = stage.scale_up()
    stage.suggested(number=2, error="no runbook")
    stage.suggested(number=3, as_of=stage.now)
    assert stage.proposal(first.id).state is ProposalState.PENDING


def test_a_resolved_incident_is_offered_nothing(stage):
    with stage.store.write() as tx:
        tx.save_incident(replace(stage.incident(), state=IncidentState.RESOLVED, resolved_at=stage.now))
    assert stage.suggested(finding(MORE)) == []


def test_what_somebody_declined_is_not_offered_again(stage):
    first = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_proposal(replace(first, state=ProposalState.DECLINED, decided_by=ALICE))
    assert stage.suggested(finding(MORE), number=2) == []
    assert manual(stage) == f"declined by <@{ALICE}>"


# ---------------------------------------------------------------------------------------------- what is no button


def test_an_action_that_does_not_exist_yet_is_told_with_its_command(stage):
    assert stage.suggested(finding(ARGS)) == []
    (told,) = stage.manuals()
    assert (told.command, told.text) == ("kubectl -n llm edit deployment/chat-70b", "all sequences are taken")
    assert told.reason.startswith("set_engine_args is not a button yet")


def test_params_that_cannot_be_made_are_told_in_words(stage):
    stage.suggested(finding(BACK))
    assert manual(stage) == "chat-70b has no earlier revision"


def test_a_cluster_that_does_not_answer_offers_no_button_and_withdraws_none(stage):
    first = stage.scale_up()
    stage.cluster.down = SLOW
    stage.suggested(finding(MORE), number=2)
    assert manual(stage) == "Kubernetes: did not answer within 10 s"
    assert stage.proposal(first.id).state is ProposalState.PENDING


def test_a_role_that_may_not_change_things_is_told_before_anybody_presses(stage, monkeypatch):
    def forbidden(*args, **named):
        raise SourceError("Kubernetes", "may not patch deployments/scale in llm", "Bind the role of deploy/.")

    monkeypatch.setattr(stage.cluster, "scale", forbidden)
    assert stage.suggested(finding(MORE)) == []
    assert "may not patch deployments/scale" in manual(stage)
    assert stage.manuals()[0].command.startswith("kubectl -n llm scale")


def test_switched_off_it_offers_nothing_and_says_so(sqlite):
    stage = Stage(sqlite, enabled=False)
    assert stage.suggested(finding(MORE)) == []
    assert "remediation.enabled is false" in manual(stage)


def test_while_another_change_of_the_service_runs_the_suggestion_waits(stage):
    first = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_proposal(replace(first, state=ProposalState.APPROVED))
        tx.save_proposal(replace(first, state=ProposalState.RUNNING, started_at=stage.now))
    stage.cluster.add_node("gpu-03", gpus=8)
    stage.change(desired=4, updated=4)
    assert stage.suggested(finding(MORE), number=2) == []
    assert manual(stage) == "one change at a time: inc-1-p1 (scale 3 → 4) is running on chat-70b"


def test_an_objection_is_shown_in_the_review_of_a_proposal(stage):
    stage.cluster.autoscalers[stage.ref] = Autoscaler("chat-70b", 2, 8, 3, 3, keda=False)
    proposal = stage.scale_up()
    assert "HorizontalPodAutoscaler chat-70b owns the replicas" in proposal.objections[0]


# ---------------------------------------------------------------------------------------------- by hand


def by_hand(stage, words, action="scale_workload", aim=None):
    return Propose(stage.world).by_hand(stage.incident(), action, words, ALICE, stage.now, aim)


def test_a_person_proposes_under_the_same_rules(stage):
    proposal = by_hand(stage, {"replicas": "5"})
    assert (proposal.proposed_by, proposal.button, proposal.rule) == (ALICE, "scale 3 → 5", None)
    assert "no free GPUs for 2 replicas more" in proposal.objections[0]


def test_asking_twice_makes_one_proposal(stage):
    assert by_hand(stage, {"add": 1}).id == by_hand(stage, {"add": 1}).id


def test_what_a_person_proposed_is_not_withdrawn_by_a_round(stage):
    mine = by_hand(stage, {"add": 1})
    stage.suggested(finding())
    assert stage.proposal(mine.id).state is ProposalState.PENDING


@pytest.mark.parametrize(
    ("action", "words", "reason"),
    [
        ("scale_worklod", {}, "did you mean scale_workload"),
        ("scale_workload", {}, "say either add=1 or replicas=4"),
        ("rollback_workload", {"revision": "9"}, "has no revision 9"),
    ],
)
def test_wrong_words_are_answered(stage, action, words, reason):
    with pytest.raises(ValueError, match=reason):
        by_hand(stage, words, action)


def test_another_workload_may_be_meant(stage):
    other = stage.cluster.add_workload(name="whisper", replicas=1, gpus=0)
    proposal = by_hand(stage, {"add": 1}, aim=Aim(None, other, None, None))
    assert (proposal.service, proposal.params["name"]) == (None, "whisper")


# ---------------------------------------------------------------------------------------------- the way back


def test_what_has_not_ended_cannot_be_undone_and_what_does_not_run_not_aborted(stage):
    pending = stage.scale_up()
    with pytest.raises(ValueError, match="inc-1-p1 is pending: there is nothing to undo"):
        Propose(stage.world).undo(pending.id, ALICE, stage.now)
    with pytest.raises(ValueError, match="inc-1-p1 is pending: there is nothing to abort"):
        Propose(stage.world).abort(pending.id, ALICE, stage.now)
    with pytest.raises(ValueError, match="there is no proposal inc-9-p9"):
        Propose(stage.world).undo("inc-9-p9", ALICE, stage.now)
