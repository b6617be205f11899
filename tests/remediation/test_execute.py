from dataclasses import replace
from shutil import copy

import pytest

from bot.actions import scale_workload
from bot.incidents.incident import IncidentState, RoundReason
from bot.outbound.store import SqlStore
from bot.ports import Risk, SourceError
from bot.remediation.due import Remediation
from bot.remediation.proposal import Applied, Helped, ProposalState
from tests.remediation.stage import ALICE, BACK, Crash, Journal, Stage, finding

SLOW = SourceError("Kubernetes", "did not answer within 10 s", retryable=True)


def approved(stage: Stage):
    proposal = stage.scale_up()
    assert stage.press(proposal).starts
    return proposal


# ---------------------------------------------------------------------------------------------- the whole story


def test_a_change_that_helps_is_applied_once_and_says_so(stage):
    stage.better_with(4)
    ended = stage.run(approved(stage))
    assert (ended.state, ended.applied, ended.helped) == (ProposalState.ENDED, Applied.YES, Helped.YES)
    assert ended.outcome == "TTFT P99 2.5–5 s → 0.25–0.5 s (limit 1 s), with 100 % of the traffic of before"
    assert stage.cluster.changes == [("scale", stage.ref)]
    assert [key for key in stage.said() if key.startswith("execution")] == ["execution:inc-1-p1:applied"]
    assert [a for a in stage.audited() if a.startswith(("proposal", "execution"))] == [
        "proposal.made", "proposal.approved", "execution.started", "execution.applied", "execution.ended",
    ]  # fmt: skip


def test_with_the_fault_left_on_the_same_change_did_not_help(stage):
    ended = stage.run(approved(stage))
    assert (ended.state, ended.applied, ended.helped) == (ProposalState.ENDED, Applied.YES, Helped.NO)
    assert ended.outcome.startswith("TTFT P99 2.5–5 s → 2.5–5 s")


def test_helped_is_not_said_before_the_signal_looks_back_on_nothing_but_the_change(stage):
    stage.better_with(4)
    ended = stage.run(approved(stage))
    applied_after = 5  # the poll that saw it ready
    assert (ended.ended_at - ended.started_at).total_seconds() >= applied_after + 60


def test_a_signal_that_crosses_its_limit_only_while_the_change_comes_into_place_can_be_compared(stage):
    """Approved at the first sign: a queue's alert, before the latency has followed."""
    readings = iter([(0.75, 1.0), (2.5, 5.0)])
    stage.latency = lambda: next(readings, (0.25, 0.5))
    stage.on_time = [stage.settle]
    ended = stage.run(approved(stage))
    assert (ended.helped, ended.outcome[:35]) == (Helped.YES, "TTFT P99 2.5–5 s → 0.25–0.5 s (limi")


def test_a_signal_that_never_crossed_its_limit_cannot_tell(stage):
    stage.latency = lambda: (0.75, 1.0)
    ended = stage.run(approved(stage))
    assert ended.helped is Helped.CANNOT_TELL and "within its limit before the change" in ended.outcome


def test_vanished_traffic_cannot_tell(stage):
    stage.better_with(4)
    stage.on_time.append(lambda: setattr(stage, "traffic", 1.0))
    ended = stage.run(approved(stage))
    assert ended.helped is Helped.CANNOT_TELL and "only 10 % of the traffic" in ended.outcome


def test_no_data_afterwards_cannot_tell(stage):
    proposal = approved(stage)
    stage.on_time.append(lambda: setattr(stage, "latency", lambda: None))
    assert stage.run(proposal).helped is Helped.CANNOT_TELL


def test_a_round_is_run_for_it_and_its_reading_decides(stage):
    """Our own look says better, the round's does not: it is watched on, and in the end the round is believed."""
    answers = iter([(2.5, 5.0), *[(0.25, 0.5)] * 1000])
    stage.latency = lambda: next(answers)
    stage.on_time = [stage.settle, lambda: end_rounds_with(stage, (2.5, 5.0))]
    ended = stage.run(approved(stage))
    assert ended.helped is Helped.NO
    rounds = [r for r in stage.rounds() if r.for_execution == ended.id]
    assert rounds and all(r.reason is RoundReason.AFTER_CHANGE for r in rounds)


def end_rounds_with(stage, edges):
    with stage.store.write() as tx:
        for due in tx.due_rounds(stage.now):
            signal = replace(stage.signal(), value=sum(edges) / 2, low=edges[0], high=edges[1])
            tx.save_round(replace(due, started_at=stage.now, ended_at=stage.now, signal=signal))


def test_a_round_that_never_ends_does_not_hold_up_the_outcome(stage):
    stage.better_with(4)
    stage.on_time = [stage.settle]
    assert stage.run(approved(stage)).helped is Helped.YES


def test_how_far_it_is_stands_in_the_row(stage):
    seen = []
    stage.on_time.insert(0, lambda: seen.append(stage.proposal("inc-1-p1").progress))
    stage.run(approved(stage))
    assert seen[0] == "3 of 4 ready"
    assert "4 of 4 ready" in seen


# ---------------------------------------------------------------------------------------------- applied partly, not


def test_what_stands_still_halfway_is_not_compared_with_itself(stage):
    """Within its limit at the approval, above it now: there is nothing that the change could be judged by."""
    readings = iter([(0.75, 1.0)])
    stage.latency = lambda: next(readings, (2.5, 5.0))
    proposal = approved(stage)
    stage.on_time.insert(0, lambda: gpus_vanish(stage))
    ended = stage.run(proposal)
    assert (ended.applied, ended.helped) == (Applied.PARTLY, Helped.CANNOT_TELL)


def test_gpus_that_vanish_after_the_approval_end_in_applied_partly_and_name_the_pod(stage):
    proposal = approved(stage)
    stage.on_time.insert(0, lambda: gpus_vanish(stage))
    ended = stage.run(proposal)
    assert (ended.state, ended.applied, ended.helped) == (ProposalState.ENDED, Applied.PARTLY, Helped.NO)
    assert "not in place after" in ended.outcome
    assert "is Pending: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu." in ended.outcome
    assert "It stands still" in stage.said()["execution:inc-1-p1:stuck"]
    undo = stage.review(ended.id, click="undo")  # the way back is offered
    assert undo.submit == "Scale 4 → 3"


def test_a_signal_that_got_better_though_little_was_done_is_not_claimed(stage):
    proposal = approved(stage)
    stage.cluster.machines["gpu-03"] = stage.cluster.add_node("gpu-03", gpus=0)
    stage.on_time = [lambda: stage.change(updated=4), stage.end_rounds]
    stage.on_time.append(lambda: setattr(stage, "latency", lambda: (0.25, 0.5)))
    ended = stage.run(proposal)
    assert (ended.applied, ended.helped) == (Applied.PARTLY, Helped.CANNOT_TELL)
    assert "only part of the change is in place" in ended.outcome


def test_somebody_who_sets_it_back_is_told(stage):
    proposal = approved(stage)
    stage.on_time = [lambda: stage.change(desired=3)]
    ended = stage.run(proposal)
    assert (ended.state, ended.applied, ended.helped) == (ProposalState.ENDED, Applied.NO, None)
    assert ended.outcome == "chat-70b is set to 3 replicas, not 4"


def test_a_dry_run_changes_nothing_and_says_so(sqlite):
    stage = Stage(sqlite, dry_run=True)
    ended = stage.run(approved(stage))
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.NO)
    assert ended.outcome.startswith("dry run: nothing was changed")
    assert stage.cluster.changes == [] and stage.workload.desired == 3


# ---------------------------------------------------------------------------------------------- refused at the begin


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lambda s: s.change(desired=5, updated=5), "set to 5 replicas now"),
        (lambda s: s.change(paused=True), "is paused"),
        (lambda s: s.cluster.machines.pop("gpu-02"), "no free GPUs"),
        (lambda s: setattr(s.cluster, "down", SLOW), "did not answer within 10 s"),
    ],
    ids=["changed", "paused", "no GPUs", "unreadable"],
)
def test_what_speaks_against_it_after_the_approval_refuses_it_before_anything_is_done(stage, happens, reason):
    proposal = approved(stage)
    happens(stage)
    ended = stage.run(proposal)
    assert ended.state is ProposalState.REFUSED
    assert reason in ended.refusal
    assert stage.cluster.changes == []


def test_a_cluster_that_answers_again_soon_is_asked_again(stage):
    stage.better_with(4)
    proposal = approved(stage)
    stage.cluster.down = SLOW
    stage.on_time.insert(0, lambda: setattr(stage.cluster, "down", None))
    assert stage.run(proposal).helped is Helped.YES


def test_a_freeze_between_approval_and_begin_refuses(stage):
    proposal = approved(stage)
    with stage.store.write() as tx:
        tx.freeze("UEVE", "launch", stage.now)
    assert "frozen by UEVE: launch" in stage.run(proposal).refusal


def test_an_incident_that_is_over_needs_no_change(stage):
    proposal = approved(stage)
    with stage.store.write() as tx:
        tx.save_incident(replace(stage.incident(), state=IncidentState.RESOLVED, resolved_at=stage.now))
    assert stage.run(proposal).refusal == "inc-1 is resolved, so the change is no longer needed"


def test_of_two_changes_of_one_service_approved_at_once_the_guard_lets_one_begin(stage):
    stage.cluster.add_node("gpu-03", gpus=8)
    first = stage.scale_up()
    second = replace(first, number=2, params={**first.params, "after": 5}, state=ProposalState.APPROVED)
    with stage.store.write() as tx:
        tx.save_proposal(replace(first, state=ProposalState.APPROVED))
        tx.save_proposal(replace(second, state=ProposalState.PENDING))
        tx.save_proposal(second)
    with stage.store.write() as tx:
        tx.save_proposal(replace(first, state=ProposalState.RUNNING, started_at=stage.now))
    refused = stage.run(second)
    assert refused.state is ProposalState.REFUSED
    assert "one change at a time: inc-1-p1 (scale 3 → 4) is running" in refused.refusal


def test_what_else_was_offered_for_the_service_is_withdrawn_when_one_begins(stage):
    first = approved(stage)
    with stage.store.write() as tx:
        tx.save_proposal(replace(first, number=2, params={**first.params, "after": 5}, state=ProposalState.PENDING))
    stage.run(first)
    assert stage.proposal("inc-1-p2").state is ProposalState.SUPERSEDED


# ---------------------------------------------------------------------------------------------- failed, interrupted


def test_a_request_whose_answer_is_lost_is_looked_for_before_it_is_repeated(stage, monkeypatch):
    stage.better_with(4)
    proposal = approved(stage)
    scale, lost = stage.cluster.scale, []

    def loses_its_answer(*args, dry_run=False, **named):
        change = scale(*args, dry_run=dry_run, **named)
        if not dry_run and not lost:
            lost.append(True)
            raise SLOW
        return change

    monkeypatch.setattr(stage.cluster, "scale", loses_its_answer)
    assert stage.run(proposal).helped is Helped.YES
    assert stage.cluster.changes == [("scale", stage.ref)]


def test_what_the_api_server_refuses_fails_with_its_words_and_nothing_to_undo(stage, monkeypatch):
    proposal = approved(stage)
    scale = stage.cluster.scale

    def forbidden(*args, dry_run=False, **named):
        if not dry_run:
            raise SourceError("Kubernetes", "may not patch deployments/scale in llm")
        return scale(*args, dry_run=dry_run, **named)

    monkeypatch.setattr(stage.cluster, "scale", forbidden)
    ended = stage.run(proposal)
    assert (ended.state, ended.applied) == (ProposalState.FAILED, Applied.NO)
    assert ended.outcome == "Kubernetes: may not patch deployments/scale in llm"


def test_a_mistake_of_ours_closes_the_row_and_tells(stage, monkeypatch):
    proposal = approved(stage)
    monkeypatch.setattr(scale_workload, "took_effect", lambda params, sources: 1 / 0)
    ended = stage.run(proposal)
    assert ended.state is ProposalState.INTERRUPTED
    assert ended.outcome.startswith("ZeroDivisionError")


def test_an_end_that_cannot_be_read_is_interrupted_not_failed(stage):
    proposal = approved(stage)
    stage.on_time = [lambda: setattr(stage.cluster, "down", SLOW)]
    ended = stage.run(proposal)
    assert ended.state is ProposalState.INTERRUPTED
    assert "it was sent, but whether it is in place could not be read" in ended.outcome


# ---------------------------------------------------------------------------------------------- abort, undo


def abort_when_stuck(stage: Stage):
    """The GPUs vanish; Alice sees that it stands still, opens the abort and submits it."""

    def people() -> None:
        running = stage.proposal("inc-1-p1")
        if running.progress and "Pending" in running.progress and len(stage.proposals()) == 1:
            modal = stage.review(running.id, click="abort")
            assert modal.submit == "Scale 4 → 3"
            assert stage.press(modal.token).starts
            leader(stage)

    stage.on_time = [lambda: gpus_vanish(stage), *stage.on_time, people]


def gpus_vanish(stage: Stage) -> None:
    stage.cluster.machines["gpu-02"] = replace(stage.cluster.machines["gpu-02"], gpus=4)


def leader(stage: Stage) -> None:
    Remediation(stage.world).step(stage.now)


def test_a_stuck_change_is_aborted_and_rolled_back_in_one_review(stage):
    proposal = approved(stage)
    begin(stage, proposal)
    abort_when_stuck(stage)
    stage.work(proposal.id)
    ended, abort = stage.proposal(proposal.id), stage.proposal("inc-1-p2")
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.NO)
    assert ended.outcome == f"aborted by <@{ALICE}> and rolled back: 3 of 3 ready"
    assert (abort.state, abort.applied, abort.aborts) == (ProposalState.ENDED, Applied.YES, "inc-1-p1")
    assert stage.workload.desired == 3
    assert stage.cluster.changes == [("scale", stage.ref)] * 2


def begin(stage, proposal):
    leader(stage)
    assert proposal.id in stage.engine.journals


def test_an_abort_while_it_is_watched_rolls_back_too(stage):
    proposal = approved(stage)
    begin(stage, proposal)

    def people() -> None:
        running = stage.proposal(proposal.id)
        if running.applied is Applied.YES and len(stage.proposals()) == 1:
            stage.press(stage.review(running.id, click="abort").token)
            leader(stage)

    stage.on_time.append(people)
    stage.work(proposal.id)
    assert stage.workload.desired == 3
    assert "rolled back" in stage.proposal(proposal.id).outcome


def test_an_abort_that_comes_after_the_end_is_refused_and_says_what_to_do(stage):
    proposal = approved(stage)
    begin(stage, proposal)
    abort_when_stuck(stage)
    stage.on_time.append(lambda: stage.change(desired=3) if len(stage.proposals()) == 2 else None)
    stage.work(proposal.id)
    assert stage.proposal(proposal.id).outcome == "chat-70b is set to 3 replicas, not 4"
    leader(stage)
    abort = stage.proposal("inc-1-p2")
    assert abort.state is ProposalState.REFUSED
    assert abort.refusal == "inc-1-p1 ended before the abort reached it; undo it instead"


def test_an_abort_before_anything_arrived_takes_nothing_back(stage, monkeypatch):
    proposal = approved(stage)
    begin(stage, proposal)
    scale = stage.cluster.scale

    def never_arrives(*args, dry_run=False, **named):
        if not dry_run:
            raise SLOW
        return scale(*args, dry_run=dry_run, **named)

    def people() -> None:
        if len(stage.proposals()) == 1:
            stage.press(stage.review(proposal.id, click="abort").token)
            leader(stage)

    monkeypatch.setattr(stage.cluster, "scale", never_arrives)
    stage.on_time.append(people)
    stage.work(proposal.id)
    assert stage.proposal(proposal.id).outcome == f"aborted by <@{ALICE}> and rolled back: nothing is left to take back"
    assert stage.cluster.changes == []


def test_undo_is_a_proposal_of_its_own_and_is_not_asked_whether_it_helped(stage):
    stage.better_with(4)
    done = stage.run(approved(stage))
    modal = stage.review(done.id, click="undo")
    assert stage.press(modal.token).starts
    undone = stage.run(modal.token)
    assert (undone.state, undone.applied, undone.helped) == (ProposalState.ENDED, Applied.YES, None)
    assert (undone.undoes, undone.outcome) == (done.id, "undone: 3 of 3 ready")
    assert stage.workload.desired == 3


def test_a_bad_revision_is_rolled_back_and_it_helps(stage):
    good = stage.workload.template
    stage.bad_revision()
    stage.latency = lambda: (0.25, 0.5) if stage.workload.template == good else (2.5, 5.0)
    (proposal,) = stage.suggested(finding(BACK, rule="began_with_rollout"))
    assert proposal.risk is Risk.MEDIUM and stage.press(proposal).starts
    ended = stage.run(proposal)
    assert (ended.applied, ended.helped) == (Applied.YES, Helped.YES)
    assert stage.workload.template == good


# ---------------------------------------------------------------------------------------------- kill -9 anywhere


class _CrashOnce:
    def __init__(self, at: int) -> None:
        self.left = at
        self.place = ""

    def __call__(self, when: str, index: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.place = f"{when}, operation {index}"
            raise Crash


def _helped(stage: Stage):
    stage.better_with(4)
    proposal = approved(stage)
    begin(stage, proposal)
    return proposal


def _partly_and_aborted(stage: Stage):
    proposal = approved(stage)
    begin(stage, proposal)
    abort_when_stuck(stage)
    return proposal


def _summary(stage: Stage, proposal) -> tuple:
    ended = stage.proposal(proposal.id)
    others = [(p.id, p.state, p.applied) for p in stage.proposals()]
    audited = [a for a in stage.audited() if a.startswith(("proposal", "execution"))]
    return (
        ended.state,
        ended.applied,
        ended.helped,
        ended.outcome,
        others,
        audited,
        stage.cluster.changes,
        [*stage.said()],
    )


@pytest.mark.parametrize("story", [_helped, _partly_and_aborted])
def test_killed_at_any_point_it_ends_the_same_and_nothing_happens_twice(tmp_path, story):
    empty = tmp_path / "empty.sqlite"
    SqlStore.open(f"sqlite:///{empty}").close()

    def played(name: str, crash: _CrashOnce) -> tuple:
        copy(empty, tmp_path / f"{name}.sqlite")
        store = SqlStore.open(f"sqlite:///{tmp_path}/{name}.sqlite")
        try:
            stage = Stage(store, poll_seconds=20)
            proposal = story(stage)
            try:
                stage.work(proposal.id, crash)
            except Crash:
                stage.work(proposal.id)  # the next leader's launch
            return _summary(stage, proposal)
        finally:
            store.close()

    undisturbed = _CrashOnce(0)
    expected = played("undisturbed", undisturbed)
    points = -undisturbed.left
    assert points > 30
    for at in range(1, points + 1):
        crash = _CrashOnce(at)
        assert played(f"crash-{at}", crash) == expected, f"seen after a crash {crash.place}"
        assert crash.place


def test_a_journal_that_ended_is_not_run_again(stage):
    stage.better_with(4)
    proposal = approved(stage)
    stage.run(proposal)
    records = list(stage.engine.journals[proposal.id].records)
    stage.work(proposal.id)
    assert stage.engine.journals[proposal.id].records == records
    assert isinstance(stage.engine.journals[proposal.id], Journal)
