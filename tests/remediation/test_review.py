from dataclasses import replace

import pytest

from bot.ports import SourceError
from bot.remediation.proposal import Approval, ProposalState
from bot.remediation.review import opening
from bot.report import Code, Fields, Note, Text
from tests.remediation.stage import ALICE, BOB, MALLORY, Stage, fleet


def words(modal) -> str:
    texts = []
    for part in modal.report.parts:
        if isinstance(part, Text | Note | Code):
            texts.append(part.text)
        elif isinstance(part, Fields):
            texts += part.fields
    return "\n".join(texts)


def test_it_opens_at_once_and_says_what_it_does():
    modal = opening("review", "inc-1-p1")
    assert (modal.title, modal.submit, modal.token) == ("Review change", None, "inc-1-p1")
    assert words(modal) == "Checking the cluster…"


def test_the_contract_says_everything_before_anything_changes(stage):
    stage.metrics.answers = {"num_requests_running": 120.0}
    proposal = stage.scale_up()
    modal = stage.review(proposal.id)
    assert (modal.submit, modal.callback, modal.token) == ("Scale 3 → 4", "review", "inc-1-p1")
    told = words(modal)
    for line in (
        "*Scale chat-70b from 3 to 4 replicas.*",
        "Why: 138 requests wait",
        "spec.replicas\n- 3\n+ 4",
        "needs 4 GPUs, 4 are free; last cold start 5 min; requests per ready replica 40 → 30 if the load stays",
        "*Risk:* medium",
        f"*May approve:* oncall (<@{ALICE}>, <@SONCALL>)",
        "*Takes:* one person",
        f"*Expires:* <t:{int(proposal.expires_at.timestamp())}:time>",
        "*Undo:* scale it back to 3.",
        "kubectl -n llm scale deployment/chat-70b --current-replicas=3 --replicas=4",
    ):
        assert line in told
    assert stage.cluster.changes == []


def test_an_open_contract_pins_its_proposal(stage):
    proposal = stage.scale_up()
    stage.review(proposal.id)
    assert stage.proposal(proposal.id).is_pinned(stage.now)


def test_what_speaks_against_it_now_leaves_nothing_to_submit(stage):
    proposal = stage.scale_up()
    stage.cluster.machines.pop("gpu-02")
    modal = stage.review(proposal.id)
    assert modal.submit is None
    assert ":no_entry: *It cannot be done now:*\n• no free GPUs for 1 replica more" in words(modal)


def test_a_cluster_that_does_not_answer_leaves_nothing_to_submit(stage):
    proposal = stage.scale_up()
    stage.cluster.down = SourceError("Kubernetes", "did not answer within 10 s")
    modal = stage.review(proposal.id)
    assert modal.submit is None and "Kubernetes: did not answer within 10 s" in words(modal)
    assert "spec.replicas" in words(modal)  # as it was when it was proposed


def test_the_guards_reasons_are_told(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        for to in (ProposalState.PENDING, ProposalState.APPROVED):
            tx.save_proposal(replace(proposal, number=7, params={}, state=to))
    modal = stage.review(proposal.id)
    assert modal.submit is None and "one change at a time: inc-1-p7" in words(modal)


def test_who_lacks_the_role_is_told_before_pressing(stage):
    modal = stage.review(stage.scale_up().id, MALLORY)
    assert "You do not hold the role oncall; your approval would be refused." in words(modal)
    stage.group = SourceError("Slack", "did not answer")
    assert "could not be read" in words(stage.review("inc-1-p1", BOB))


def test_a_freeze_is_told_and_only_breaking_glass_gets_past_it(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.freeze("UEVE", "launch", stage.now)
    assert stage.review(proposal.id).submit is None
    broken = stage.review(proposal.id, "UEVE")
    assert broken.submit == "Scale 3 → 4"
    assert [i.name for i in broken.inputs] == ["break_glass_reason"]
    assert "changes are frozen by UEVE: launch" in words(broken)


def test_nobody_else_is_asked_to_break_glass(stage):
    assert stage.review(stage.scale_up().id).inputs == ()


def test_how_many_approved_so_far_is_told(sqlite):
    stage = Stage(sqlite)
    stage.world = replace(stage.world, fleet=fleet(stage.ref, two_people=("medium",)))
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_approval(Approval(proposal.id, BOB, stage.now))
    assert f"*Takes:* 2 people, 1 so far: <@{BOB}>" in words(stage.review(proposal.id))


def test_a_dry_run_says_so(sqlite):
    stage = Stage(sqlite, dry_run=True)
    assert "*Dry run is on*" in words(stage.review(stage.scale_up().id))


@pytest.mark.parametrize(
    ("subject", "click", "told"),
    [
        ("inc-1-p9", "review", "There is no proposal inc-1-p9."),
        ("inc-1-p1", "undo", "inc-1-p1 is pending: there is nothing to undo."),
        ("inc-1-p1", "abort", "inc-1-p1 is pending: there is nothing to abort."),
    ],
)
def test_what_cannot_be_reviewed_is_answered(stage, subject, click, told):
    stage.scale_up()
    modal = stage.review(subject, click=click)
    assert (modal.submit, words(modal)) == (None, told)


def test_a_proposal_that_was_decided_meanwhile_says_by_whom(stage):
    proposal = stage.scale_up()
    stage.press(proposal)
    modal = stage.review(proposal.id, BOB)
    assert modal.submit is None
    assert words(modal) == f"inc-1-p1 (scale 3 → 4) is approved by <@{ALICE}>"


def test_an_expired_one_cannot_be_submitted(stage):
    proposal = stage.scale_up()
    stage.now = proposal.expires_at
    modal = stage.review(proposal.id)
    assert modal.submit is None and "it has expired" in words(modal)


def test_foreign_text_cannot_mention_anybody(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_proposal(replace(proposal, why="<!channel> look"))
    assert "<!channel>" not in words(stage.review(proposal.id))


def test_titles_and_verbs_fit_into_slacks_limits(stage):
    for click in ("review", "undo", "abort"):
        assert len(opening(click, "inc-1-p1").title) <= 24
    assert len(stage.review(stage.scale_up().id).submit) <= 24
