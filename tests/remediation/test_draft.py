from dataclasses import replace

from bot.actions import scale_workload
from bot.ports import ConflictError, SourceError
from bot.remediation.draft import as_proposal, drafted, look, look_again


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
