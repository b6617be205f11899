from dataclasses import replace

from bot.actions import drain_node, scale_workload, uncordon_node
from bot.ports import ConflictError, SourceError
from bot.remediation.draft import as_proposal, drafted, look, look_again
from bot.remediation.guard import Share


def params(stage, before=3, after=4):
    return scale_workload.Params(**stage.ref.model_dump(), before=before, after=after)


def looked(stage, **numbers):
    return look(scale_workload, params(stage, **numbers), "chat-70b", stage.world, stage.sources(stage.now))


def test_a_change_is_looked_at_from_all_sides(stage):
    seen = looked(stage)
    assert seen.blocked == ()
    assert [line.path for line in seen.diff] == ["spec.replicas"]
    assert (seen.facts.ready, seen.facts.minimum_ready, seen.facts.lost, seen.facts.node) == (3, 2, 0, None)
    assert seen.cold_start_seconds == 300


def test_ready_replicas_are_counted_over_all_workloads_of_the_service(stage):
    canary = stage.cluster.add_workload(name="chat-70b-canary", replicas=1, gpus=0)
    service = stage.fleet.services[0].model_copy(update={"workloads": (stage.ref, canary)})
    stage.world = replace(stage.world, fleet=stage.fleet.model_copy(update={"services": (service,)}))
    assert looked(stage, after=2).facts.ready == 4
    assert looked(stage, after=2).facts.lost == 1


def test_what_it_starts_from_being_gone_is_a_drift(stage):
    stage.change(desired=5)
    assert "5 replicas now, not 3" in looked(stage).drift
    assert looked(stage).unreadable is None


def test_a_cluster_that_does_not_answer_blocks(stage):
    stage.cluster.down = SourceError("Kubernetes", "did not answer", retryable=True)
    seen = looked(stage)
    assert seen.blocked == ("Kubernetes: did not answer",) and seen.retryable and seen.facts is None


def test_a_dry_run_that_is_refused_blocks_but_for_objections_that_say_it_better(stage, monkeypatch):
    def refuses(*args, **named):
        raise SourceError("Kubernetes", "admission webhook says no")

    monkeypatch.setattr(stage.cluster, "scale", refuses)
    assert looked(stage).blocked == ("Kubernetes: admission webhook says no",)
    stage.change(paused=True)
    (only,) = looked(stage).blocked
    assert "is paused" in only


def test_a_conflict_in_the_dry_run_is_a_drift(stage, monkeypatch):
    def conflicts(*args, **named):
        raise ConflictError("Kubernetes", "somebody was faster")

    monkeypatch.setattr(stage.cluster, "scale", conflicts)
    assert looked(stage).drift == "somebody was faster"


def test_a_prometheus_that_does_not_answer_blocks_nothing(stage):
    stage.metrics.down = SourceError("Prometheus", "did not answer")
    seen = looked(stage)
    assert seen.blocked == () and "load per replica: cannot tell (Prometheus did not answer)" in seen.blast_radius


def test_the_identity_of_a_draft_is_its_action_and_its_params(stage):
    draft = drafted("scale_workload", params(stage), "chat-70b", stage.world, stage.sources(stage.now), why="138 wait")
    proposal = as_proposal(draft, 1, 1, "chat-70b", stage.now, 60)
    assert draft.is_same_as(proposal)
    assert not draft.is_same_as(replace(proposal, params={**proposal.params, "after": 5}))
    assert not draft.is_same_as(replace(proposal, aborts="inc-1-p0"))
    assert look_again(proposal, stage.world, stage.now) == draft.look


# ---------------------------------------------------------------------------------------------- a node's change


def drained(stage, **world):
    stage.cluster.add_node("gpu-03", gpus=8)
    stage.world = replace(stage.world, bot_node="cpu-01", **world)
    return look(drain_node, drain_node.Params(node="gpu-01"), None, stage.world, stage.sources(stage.now))


def test_a_change_of_a_node_is_looked_at_for_every_service_that_it_touches(stage):
    seen = drained(stage)
    assert seen.blocked == ()
    assert (seen.facts.node, seen.facts.bot_node, seen.facts.lost) == ("gpu-01", "cpu-01", 0)
    assert seen.facts.others == (Share("chat-70b", 3, 2, 1),)
    assert seen.blast_radius.startswith("replaces 2 of 3 replicas of chat-70b; up to 1 of 3 ready missing meanwhile")
    assert "needs 8 GPUs, 12 are free" in seen.blast_radius  # those of the node itself are of no use
    assert (seen.cold_start_seconds, seen.waves) == (300, 2)


def test_what_serves_nothing_that_is_known_has_no_capacity_to_speak_of(stage):
    stage.cluster.pods.clear()
    seen = drained(stage)
    assert (seen.blast_radius, seen.facts.others, seen.waves) == ("", (), 1)


def test_a_node_that_comes_back_is_taken_out_by_nobody(stage):
    stage.cluster.add_node("gpu-03", schedulable=False)
    back = uncordon_node.Params(node="gpu-03")
    assert look(uncordon_node, back, None, stage.world, stage.sources(stage.now)).facts.node is None
