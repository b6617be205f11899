"""A drain from its proposal to its end: minutes of waiting, crashes in between, and everything that may stop it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from bot.fleet import Service
from bot.outbound.store import SqlStore
from bot.remediation.due import Remediation
from bot.remediation.proposal import Applied, Proposal, ProposalState
from bot.remediation.propose import Propose
from tests.fakes import NOT_ANSWERING, FakeCluster
from tests.remediation.stage import ALICE, Crash, Stage


class DrainStage(Stage):
    """gpu-01 runs two of three replicas, gpu-02 the third. Controllers replace what goes, when time passes."""

    def __init__(self, store: SqlStore, *, minimum: int = 2, **rules: Any) -> None:
        super().__init__(store, **rules)
        self.cluster.add_node("gpu-03", gpus=8)
        self.serve(minimum)
        self.on_time = [self.cluster.replace_pods, self.end_rounds]

    def serve(self, minimum: int) -> None:
        services = (self.fleet.services[0].model_copy(update={"minimum_ready_replicas": minimum}),)
        self.fleet = self.fleet.model_copy(update={"services": services})
        self.world = replace(self.world, fleet=self.fleet, bot_node="cpu-01")

    def node(self, **fields: Any) -> None:
        self.cluster.machines["gpu-01"] = replace(self.cluster.machines["gpu-01"], **fields)

    def propose(self, action: str = "drain_node", **with_: Any) -> Proposal:
        return Propose(self.world).by_hand(self.incident(), action, {"node": "gpu-01", **with_}, ALICE, self.now)

    def drained(self, **with_: Any) -> Proposal:
        proposal = self.propose(**with_)
        decision = self.press(proposal)
        assert decision.starts, decision.text
        return self.run(proposal)

    def evicted(self) -> list[str]:
        return [str(name) for what, name in self.cluster.changes if what == "evict"]


@pytest.fixture
def stage(sqlite: SqlStore) -> DrainStage:
    return DrainStage(sqlite)


def here(cluster: FakeCluster) -> list[str]:
    return sorted(f"{pod.namespace}/{pod.name}" for pod in cluster.pods if pod.node == "gpu-01")


# ---------------------------------------------------------------------------------------------- the whole story


def test_a_node_is_emptied_one_replica_after_the_other_and_says_so(stage: DrainStage) -> None:
    tenants = here(stage.cluster)
    ended = stage.drained()
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.YES)
    assert stage.cluster.changes[0] == ("cordon", "gpu-01")
    assert stage.evicted() == tenants and here(stage.cluster) == []
    applied = stage.said()["execution:inc-1-p1:applied"]
    assert "gpu-01 is empty: 2 of 2 pods gone" in applied
    assert stage.workload.ready == 3


def test_the_review_tells_what_it_costs_and_who_goes(stage: DrainStage) -> None:
    modal = stage.review(stage.propose().id)
    text = str(modal.report.parts)
    assert "replaces 2 of 3 replicas of chat-70b; up to 1 of 3 ready missing meanwhile (33 %)" in text
    assert "needs 8 GPUs, 12 are free" in text  # those of gpu-01 itself are not counted
    assert "spec.unschedulable" in text and "evicted" in text
    assert "kubectl drain gpu-01 --ignore-daemonsets" in text
    assert modal.submit == "Drain gpu-01"


def test_its_undo_uncordons_the_node(stage: DrainStage) -> None:
    drained = stage.drained()
    undo = Propose(stage.world).undo(drained.id, ALICE, stage.now)
    assert (undo.action, undo.params, undo.button) == (
        "uncordon_node", {"node": "gpu-01", "schedulable": True}, "uncordon gpu-01",
    )  # fmt: skip
    assert stage.press(undo).starts
    ended = stage.run(undo)
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.YES)
    assert stage.cluster.machines["gpu-01"].schedulable
    assert ended.outcome == "undone: gpu-01 takes new pods again"


def test_a_drain_that_a_budget_blocks_ends_partly_and_names_pod_and_budget(stage: DrainStage) -> None:
    stage.serve(0)
    stage.cluster.add_budget(stage.ref, minimum=2)
    first, second = here(stage.cluster)
    third = next(pod.uid for pod in stage.cluster.pods if pod.node == "gpu-02")
    proposal = stage.propose()
    assert stage.press(proposal).starts
    stage.on_time.append(lambda: unready(stage, third))
    ended = stage.run(proposal)
    waits = (
        f"{second.removeprefix('llm/')} waits: The disruption budget chat-70b needs 2 healthy pods and has 2 currently"
    )
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.PARTLY)
    assert f"1 of 2 pods gone; {waits}" in str(ended.outcome)
    assert stage.evicted() == [first] and here(stage.cluster) == [second]
    assert not stage.cluster.machines["gpu-01"].schedulable
    assert Propose(stage.world).undo(ended.id, ALICE, stage.now).action == "uncordon_node"


def unready(stage: DrainStage, uid: str) -> None:
    stage.cluster.pods = [replace(pod, ready=False) if pod.uid == uid else pod for pod in stage.cluster.pods]


def test_a_replacement_without_gpus_is_told_and_waited_for(stage: DrainStage) -> None:
    proposal = stage.propose()
    assert stage.press(proposal).starts

    def taken() -> None:
        """Somebody else takes the GPUs when the drain has begun."""
        for name, left in (("gpu-02", 4), ("gpu-03", 0)):
            stage.cluster.machines[name] = replace(stage.cluster.machines[name], gpus=left)

    stage.on_time.insert(0, taken)
    ended = stage.run(proposal)
    assert ended.applied is Applied.PARTLY
    assert "is Pending: 0/3 nodes are available" in str(ended.outcome)
    assert "*It stands still*" in stage.said()[f"execution:{proposal.id}:stuck"]
    assert len(stage.evicted()) == 1  # the other one goes on serving


def test_whoever_uncordons_the_node_calls_the_drain_off(stage: DrainStage) -> None:
    stage.on_time.append(lambda: stage.node(schedulable=True))
    ended = stage.drained()
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.NO)
    assert "somebody uncordoned it, which calls the drain off" in str(ended.outcome)
    assert len(stage.evicted()) == 1


def test_an_api_server_that_is_silent_for_a_while_is_asked_again(stage: DrainStage) -> None:
    silent = iter([True, True, True, False])
    stage.on_time.append(lambda: setattr(stage.cluster, "down", NOT_ANSWERING if next(silent, False) else None))
    stage.on_time[0] = lambda: stage.cluster.replace_pods() if stage.cluster.down is None else None
    ended = stage.drained()
    assert (ended.applied, len(stage.evicted())) == (Applied.YES, 2)


# ---------------------------------------------------------------------------------------------- abort


def aborted(stage: DrainStage, proposal: Proposal) -> Proposal:
    """Somebody aborts it as soon as one replica is gone."""

    def abort() -> None:
        running = stage.proposal(proposal.id).state is ProposalState.RUNNING
        if stage.evicted() and running and not any(p.aborts for p in stage.proposals()):
            abort = Propose(stage.world).abort(proposal.id, ALICE, stage.now)
            assert stage.press(abort).starts
            Remediation(stage.world).step(stage.now)

    stage.on_time.append(abort)
    assert stage.press(proposal).starts
    return stage.run(proposal)


def test_an_abort_stops_it_and_uncordons_the_node(stage: DrainStage) -> None:
    stage.on_time.remove(stage.cluster.replace_pods)  # nothing is replaced, so it waits
    ended = aborted(stage, stage.propose())
    assert "aborted by" in str(ended.outcome) and "gpu-01 takes new pods again" in str(ended.outcome)
    assert len(stage.evicted()) == 1
    assert stage.cluster.machines["gpu-01"].schedulable


def test_a_drain_without_a_way_back_can_be_stopped_all_the_same(stage: DrainStage) -> None:
    stage.node(schedulable=False)
    stage.on_time.remove(stage.cluster.replace_pods)
    ended = aborted(stage, stage.propose())
    assert ended.state is ProposalState.ENDED
    assert "but not rolled back: drain_node has no way back" in str(ended.outcome)
    assert len(stage.evicted()) == 1
    assert not stage.cluster.machines["gpu-01"].schedulable  # as it was before
    abort = next(p for p in stage.proposals() if p.aborts)
    assert abort.description.endswith("What it has done stays; it does nothing more")
    with pytest.raises(ValueError, match="drain_node has no way back"):
        Propose(stage.world).undo(ended.id, ALICE, stage.now)


# ---------------------------------------------------------------------------------------------- refused


def refused(stage: DrainStage, proposal: Proposal) -> str:
    decision = stage.press(proposal)
    assert not decision.accepted
    assert stage.cluster.changes == []
    return decision.text


def test_never_below_a_services_minimum(stage: DrainStage) -> None:
    stage.serve(3)
    text = refused(stage, stage.propose())
    assert "chat-70b would fall to 2 ready of 3 while it runs; at least 3 must stay" in text


def test_another_service_that_runs_there_keeps_its_minimum_too(stage: DrainStage) -> None:
    ref = stage.cluster.add_workload(name="whisper", replicas=1, node="gpu-01", gpus=0)
    whisper = Service(name="whisper", workloads=(ref,), channel="#llm", minimum_ready_replicas=1)
    services = (*stage.fleet.services, whisper)
    stage.fleet = stage.fleet.model_copy(update={"services": services})
    stage.world = replace(stage.world, fleet=stage.fleet)
    text = refused(stage, stage.propose())
    assert "whisper would fall to 0 ready of 1 while it runs; at least 1 must stay" in text
    assert "chat-70b would" not in text


def test_one_gpu_node_out_at_a_time(stage: DrainStage) -> None:
    stage.cluster.add_node("gpu-04", ready=False)
    assert "one GPU node out at a time: gpu-04 is out" in refused(stage, stage.propose())


def test_not_the_node_that_the_bot_runs_on_nor_any_while_that_is_not_known(stage: DrainStage) -> None:
    proposal = stage.propose()
    stage.world = replace(stage.world, bot_node="gpu-01")
    assert "this bot runs on gpu-01" in refused(stage, proposal)
    stage.world = replace(stage.world, bot_node=None)
    assert "set VLLM_ONCALL_NODE" in refused(stage, proposal)


def test_a_node_comes_back_whatever_else_is_out(stage: DrainStage) -> None:
    stage.cluster.add_node("gpu-04", ready=False)
    stage.node(schedulable=False)
    stage.world = replace(stage.world, bot_node=None)
    back = stage.propose("uncordon_node")
    assert stage.press(back).starts
    assert stage.run(back).applied is Applied.YES


def test_a_pod_that_hangs_may_be_restarted_below_the_minimum(stage: DrainStage) -> None:
    stage.serve(3)
    pod = stage.cluster.pods[0]
    with_ = {"pod": pod.name}
    ready = Propose(stage.world).by_hand(stage.incident(), "restart_pod", with_, ALICE, stage.now)
    assert "would fall to 2 ready of 3" in refused(stage, ready)
    hung = Propose(stage.world).by_hand(stage.incident(), "restart_pod", {**with_, "hung": True}, ALICE, stage.now)
    assert stage.press(hung).starts
    stage.cluster.pods = [replace(p, created_at=p.created_at - timedelta(hours=1)) for p in stage.cluster.pods]
    assert stage.run(hung).applied is Applied.YES
    assert stage.cluster.changes == [("evict", f"llm/{pod.name}")]


# ---------------------------------------------------------------------------------------------- crashes


class _CrashOnce:
    def __init__(self, at: int) -> None:
        self.left = at
        self.place = ""

    def __call__(self, when: str, index: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.place = f"{when}, operation {index}"
            raise Crash


def test_a_crash_at_any_boundary_leaves_the_same_story_and_evicts_nobody_twice(tmp_path: Path) -> None:
    empty = tmp_path / "empty.sqlite"
    SqlStore.open(f"sqlite:///{empty}").close()

    def played(name: str, crash: _CrashOnce) -> tuple[Any, ...]:
        copy(empty, tmp_path / f"{name}.sqlite")
        store = SqlStore.open(f"sqlite:///{tmp_path}/{name}.sqlite")
        try:
            stage = DrainStage(store, poll_seconds=20)
            proposal = stage.propose()
            assert stage.press(proposal).starts
            Remediation(stage.world).step(stage.now)
            try:
                stage.work(proposal.id, crash)
            except Crash:
                stage.work(proposal.id)  # the next leader's launch
            ended = stage.proposal(proposal.id)
            audited = [a for a in stage.audited() if a.startswith(("proposal", "execution"))]
            return ended.state, ended.applied, ended.helped, stage.cluster.changes, audited, list(stage.said())
        finally:
            store.close()

    undisturbed = _CrashOnce(0)
    expected = played("undisturbed", undisturbed)
    assert [what for what, _ in expected[3]] == ["cordon", "evict", "evict"]
    points = -undisturbed.left
    assert points > 30
    for at in range(1, points + 1):
        crash = _CrashOnce(at)
        assert played(f"crash-{at}", crash) == expected, f"seen after a crash {crash.place}"
        assert crash.place
