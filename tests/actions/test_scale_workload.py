from dataclasses import replace

import pytest
from pydantic import ValidationError

from bot.actions import scale_workload
from bot.actions.contract import Action, Aim, Progress
from bot.actions.scale_workload import Params
from bot.fleet import Service, WorkloadRef
from bot.ports import Autoscaler, ConflictError, ContainerState
from tests.fakes import EMPTY_FLEET, container, fake_controls, fake_sources

FITS_THE_CONTRACT: Action = scale_workload  # judged by mypy


def params(before: int = 3, after: int = 4) -> Params:
    return Params(namespace="llm", name="chat-70b", before=before, after=after)


def sources(chat, fleet=EMPTY_FLEET):
    return fake_sources(cluster=chat.cluster, fleet=fleet)


def aim(ref: WorkloadRef | None) -> Aim:
    return Aim("chat-70b", ref, None, None)


def fleet_with(ref: WorkloadRef, **limits):
    service = Service(name="chat-70b", workloads=(ref,), channel="#llm", **limits)
    return EMPTY_FLEET.model_copy(update={"services": (service,)})


# ---------------------------------------------------------------------------------------------- from words to params


@pytest.mark.parametrize(
    ("words", "after"), [({"add": 1}, 4), ({"add": "2"}, 5), ({"add": -1}, 2), ({"replicas": 6}, 6)]
)
def test_words_become_absolute(chat, words, after):
    assert scale_workload.relative(words, aim(chat.ref), sources(chat)) == params(3, after)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "say either add=1 or replicas=4"),
        ({"add": 1, "replicas": 4}, "say either add=1 or replicas=4"),
        ({"replicas": 3}, "has 3 replicas already"),
        ({"add": -4}, "after: Input should be greater than or equal to 0"),
        ({"by": 2}, "by: Extra inputs"),
        ({"add": "many"}, "add: Input should be a valid integer"),
    ],
)
def test_words_that_mean_nothing_are_answered_in_words(chat, words, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        scale_workload.relative(words, aim(chat.ref), sources(chat))
    assert not isinstance(refused.value, ValidationError)


def test_without_a_known_workload_it_says_what_is_missing(chat):
    with pytest.raises(ValueError, match="the alert names no service"):
        scale_workload.relative({"add": 1}, aim(None), sources(chat))


def test_what_it_is_called_and_how_it_is_done_by_hand():
    assert scale_workload.describe(params()) == ("Scale chat-70b from 3 to 4 replicas. Undo: scale it back to 3.")
    assert scale_workload.button(params()) == "scale 3 → 4"
    assert scale_workload.by_hand(params()) == (
        "kubectl -n llm scale deployment/chat-70b --current-replicas=3 --replicas=4"
    )


# ---------------------------------------------------------------------------------------------- objections


def test_with_room_and_no_other_owner_nothing_is_objected(chat):
    assert scale_workload.objections(params(), sources(chat)) == ()


def test_an_autoscaler_is_named_with_its_own_front_door(chat):
    chat.cluster.autoscalers[chat.ref] = Autoscaler("chat-70b", 2, 3, 3, 3, keda=False)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert "HorizontalPodAutoscaler chat-70b owns the replicas" in objection
    assert """patch hpa chat-70b --type merge -p '{"spec":{"minReplicas":4,"maxReplicas":4}}'""" in objection


def test_keda_is_asked_through_its_scaled_object(chat):
    chat.cluster.autoscalers[chat.ref] = Autoscaler("keda-hpa-chat", 1, 8, 3, 3, keda=True)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert """patch scaledobject chat --type merge -p '{"spec":{"minReplicaCount":4}}'""" in objection


@pytest.mark.parametrize(
    ("tool", "labels", "door"),
    [
        ("Argo CD", {"argocd.argoproj.io/instance": "chat-prod"}, "argocd app rollback chat-prod"),
        ("Flux", {"helm.toolkit.fluxcd.io/name": "chat"}, "flux suspend helmrelease chat -n llm"),
        ("Flux", {"kustomize.toolkit.fluxcd.io/name": "apps"}, "flux suspend kustomization apps -n llm"),
        ("Helm", {}, "its next upgrade puts its own values back"),
    ],
)
def test_a_deployment_tool_is_named_with_its_front_door(chat, tool, labels, door):
    chat.change(managed_by=tool, labels=labels)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert objection.startswith(f"{tool} manages chat-70b") and door in objection


def test_a_paused_workload_is_left_to_whoever_works_on_it(chat):
    chat.change(paused=True)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert "is paused: somebody works on it" in objection


def test_a_rollout_in_progress_is_waited_for(chat):
    chat.change(updated=1)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert "a rollout of chat-70b is in progress (1 of 3 replicas updated)" in objection


def test_replicas_that_somebody_changed_meanwhile_are_told(chat):
    chat.change(desired=5, updated=5)
    assert "set to 5 replicas now, no longer 3" in scale_workload.objections(params(), sources(chat))[0]


def test_a_workload_that_has_it_already_is_told(chat):
    chat.change(desired=4, updated=4)
    assert scale_workload.objections(params(), sources(chat))[0] == "chat-70b is set to 4 replicas already"


def test_the_fleets_limits_hold_over_all_workloads_of_the_service(chat):
    canary = chat.cluster.add_workload(name="chat-70b-canary", replicas=1, node="gpu-02")
    service = Service(
        name="chat-70b", workloads=(chat.ref, canary), channel="#llm", maximum_replicas=4, minimum_ready_replicas=3
    )
    fleet = EMPTY_FLEET.model_copy(update={"services": (service,)})
    up = scale_workload.objections(params(3, 4), sources(chat, fleet))
    assert up[0] == "chat-70b would have 5 replicas; fleet.yaml allows 4"
    down = scale_workload.objections(params(3, 1), sources(chat, fleet))
    assert down == ("chat-70b would be left with 2 replicas; fleet.yaml demands 3 ready ones",)


def test_a_workload_that_is_gone_is_told(chat):
    del chat.cluster.workloads[chat.ref]
    assert scale_workload.objections(params(), sources(chat)) == ("llm/Deployment/chat-70b does not exist",)


# ---------------------------------------------------------------------------------------------- free GPUs


def test_without_free_gpus_it_says_what_each_replica_needs_and_what_is_free(chat):
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=6)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert objection == (
        "no free GPUs for 1 replica more: each needs 4 on one node that it may run on, and there is room for 0; "
        "free GPUs by node: gpu-02 2"
    )


def test_gpus_scattered_over_nodes_are_no_room_for_one_replica(chat):
    for number in range(3, 7):
        chat.cluster.add_node(f"gpu-{number:02}", gpus=2)
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert "there is room for 0" in objection


def test_gpus_on_a_cordoned_node_are_not_free(chat):
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], schedulable=False)
    assert "no free GPUs" in scale_workload.objections(params(), sources(chat))[0]


def test_a_pending_pod_stands_before_the_new_one(chat):
    chat.cluster.add_pod(chat.ref, node=None, unschedulable="0/2 nodes are available")
    (objection,) = scale_workload.objections(params(), sources(chat))
    assert "no free GPUs for 1 replica more (1 Pending before it)" in objection


def test_taking_replicas_away_needs_no_gpus(chat):
    chat.cluster.machines.clear()
    assert scale_workload.objections(params(3, 2), sources(chat)) == ()


# ---------------------------------------------------------------------------------------------- doing it


def test_a_preview_changes_nothing_and_keeps_what_undo_needs(chat):
    preview = scale_workload.preview(params(), sources(chat), fake_controls(cluster=chat.cluster))
    assert preview.change.after["spec"]["replicas"] == 4
    assert preview.before == {"replicas": 3}
    assert chat.workload.desired == 3


def test_a_preview_of_what_is_no_longer_there_is_a_conflict(chat):
    chat.change(desired=5)
    with pytest.raises(ConflictError, match="5 replicas now, not 3"):
        scale_workload.preview(params(), sources(chat), fake_controls(cluster=chat.cluster))


def test_executing_twice_changes_once(chat):
    for _ in range(2):
        scale_workload.execute(params(), {}, sources(chat), fake_controls(cluster=chat.cluster))
    assert chat.workload.desired == 4
    assert chat.cluster.changes == [("scale", chat.ref)]


def test_what_somebody_else_set_meanwhile_is_not_overwritten(chat):
    chat.change(desired=6)
    with pytest.raises(ConflictError):
        scale_workload.execute(params(), {}, sources(chat), fake_controls(cluster=chat.cluster))
    assert chat.workload.desired == 6


def test_undo_is_the_same_action_the_other_way_round():
    assert scale_workload.undo(params(3, 4), {}) == params(4, 3)


# ---------------------------------------------------------------------------------------------- did it take effect


def scaled(chat, **fields):
    chat.change(desired=4, **fields)
    return scale_workload.took_effect(params(), sources(chat))


def test_it_took_effect_when_all_are_ready(chat):
    chat.cluster.add_pod(chat.ref, node="gpu-02")
    effect = scaled(chat, ready=4, updated=4)
    assert (effect.progress, effect.detail) == (Progress.YES, "4 of 4 ready")


def test_a_replica_that_starts_is_named_and_waited_for(chat):
    pod = chat.cluster.add_pod(chat.ref, node="gpu-02", ready=False)
    effect = scaled(chat)
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, f"3 of 4 ready; starting: {pod.name}")


def test_without_gpus_it_stands_still_and_names_the_pod_and_the_schedulers_words(chat):
    words = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    pod = chat.cluster.add_pod(chat.ref, node=None, unschedulable=words)
    effect = scaled(chat)
    assert (effect.progress, effect.detail) == (Progress.PARTLY, f"3 of 4 ready; {pod.name} is Pending: {words}")


def test_a_crash_looping_replica_stands_still(chat):
    looping = container(ready=False, state=ContainerState("waiting", "CrashLoopBackOff", "back-off 40s"))
    pod = chat.cluster.add_pod(chat.ref, node="gpu-02", ready=False, containers=[looping])
    effect = scaled(chat)
    assert effect.progress is Progress.PARTLY
    assert f"{pod.name} is in CrashLoopBackOff: back-off 40s" in effect.detail


def test_somebody_who_set_it_back_is_seen(chat):
    effect = scale_workload.took_effect(params(), sources(chat))
    assert (effect.progress, effect.detail) == (Progress.NO, "chat-70b is set to 3 replicas, not 4")


def test_going_down_is_done_only_when_the_pod_is_gone(chat):
    chat.change(desired=2, ready=2)
    assert scale_workload.took_effect(params(3, 2), sources(chat)).progress is Progress.NOT_YET
    chat.cluster.pods.pop()
    assert scale_workload.took_effect(params(3, 2), sources(chat)).progress is Progress.YES


# ---------------------------------------------------------------------------------------------- capacity


def test_adding_replicas_loses_none_and_needs_their_gpus(chat):
    change = scale_workload.capacity_change(params(3, 5), sources(chat))
    assert (change.ready, change.lost, change.added, change.gpus_needed) == (3, 0, 2, 8)


def test_removing_takes_those_first_that_do_not_serve(chat):
    chat.change(ready=2)
    change = scale_workload.capacity_change(params(3, 2), sources(chat))
    assert (change.removed, change.lost) == (1, 0)
    assert scale_workload.capacity_change(params(3, 1), sources(chat)).lost == 1
