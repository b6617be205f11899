from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import Autoscaler, ContainerState, SourceError
from bot.probes.replicas import Params, observe
from tests.fakes import NOT_ANSWERING, NOW, container
from tests.probes.fleets import fleet_of, world


def ask(sources):
    return observe(Params(service="chat"), sources)


def test_all_are_there():
    sources, _, _ = world()
    found = ask(sources)
    assert (found.desired, found.ready, found.updated, found.rolling_out) == (3, 3, 3, False)
    assert (found.not_ready, found.pending_for_gpus, found.free_gpus) == ("nobody", 0, 4)
    assert (found.autoscaler, found.autoscaled, found.managed_by) == ("none", False, "nobody that says so")


def test_what_keeps_a_replica_from_serving_is_in_the_schedulers_words():
    sources, cluster, ref = world()
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4, updated=4)
    pod = cluster.add_pod(ref, node=None, ready=False, unschedulable="0/1 nodes: 1 Insufficient nvidia.com/gpu")
    found = ask(sources)
    assert (found.ready, found.desired, found.pending_for_gpus) == (3, 4, 1)
    assert found.not_ready == f"{pod.name} is Pending: 0/1 nodes: 1 Insufficient nvidia.com/gpu"


def test_a_replica_that_loads_and_one_that_crashes_are_told_apart():
    sources, cluster, ref = world(replicas=1)
    loading = cluster.add_pod(ref, ready=False)
    crashed = container(ready=False, state=ContainerState("waiting", "CrashLoopBackOff"))
    crashing = cluster.add_pod(ref, ready=False, containers=[crashed])
    text = ask(sources).not_ready
    assert f"{loading.name} is Running, not ready" in text
    assert f"{crashing.name} is in CrashLoopBackOff" in text


def test_many_are_counted_not_listed():
    sources, cluster, ref = world(replicas=0)
    for _ in range(5):
        cluster.add_pod(ref, ready=False)
    assert ask(sources).not_ready.endswith("; and 2 more")


def test_room_is_counted_node_by_node():
    sources, cluster, ref = world()
    limits = {"limits": {"nvidia.com/gpu": 4}}
    cluster.workloads[ref].template["spec"]["containers"][0]["resources"] = limits
    cluster.add_node("gpu-02", gpus=6)
    cluster.add_node("gpu-03", gpus=8, schedulable=False)
    found = ask(sources)
    assert (found.gpus_per_replica, found.free_gpus, found.room_for_replicas) == (4, 10, 2)


def test_an_autoscaler_that_owns_the_replicas_is_named():
    sources, cluster, ref = world()
    cluster.autoscalers[ref] = Autoscaler("chat", 2, 3, 3, 3, keda=True)
    found = ask(sources)
    assert (found.autoscaler, found.autoscaler_at_maximum) == ("KEDA chat: 2 to 3, at 3", True)


def test_rights_that_lack_for_autoscalers_leave_the_rest_true():
    sources, cluster, _ = world()

    def denied(ref):
        raise SourceError("Kubernetes", "may not list horizontalpodautoscalers")

    cluster.autoscaler_of = denied
    found = ask(sources)
    assert found.ready == 3 and found.autoscaled is None and "may not list" in found.missing


def test_a_canary_is_counted_with_its_service():
    sources, cluster, ref = world()
    canary = cluster.add_workload(name="chat-canary", replicas=1)
    assert ask(replace(sources, fleet=fleet_of(ref, canary))).desired == 4


def test_a_workload_that_is_gone_is_not_zero_replicas():
    sources, cluster, _ = world()
    cluster.workloads.clear()
    found = ask(sources)
    assert found.desired is None and "does not exist" in found.missing


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)


def test_a_taint_of_the_resources_name_is_no_want_of_gpus():
    sources, cluster, ref = world()
    words = "0/4 nodes are available: 4 node(s) had untolerated taint {nvidia.com/gpu: present}."
    pod = cluster.add_pod(ref, node=None, ready=False, unschedulable=words)
    found = ask(sources)
    assert (found.pending_for_gpus, found.unscheduled) == (0, 1)
    assert found.unscheduled_why == f"{pod.name} is Pending: {words}"


NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


def exchanged(*, grace_ends_in_seconds=40.0, pending=1):
    """A rollout without a surge on a full cluster: an old replica is ending, a new one is to take its GPUs."""
    sources, cluster, ref = world()
    ends = NOW + timedelta(seconds=grace_ends_in_seconds)
    cluster.pods[0] = replace(cluster.pods[0], ready=False, deleted_at=ends)
    cluster.workloads[ref] = replace(cluster.workloads[ref], ready=2, updated=1)
    for _ in range(pending):
        cluster.add_pod(ref, node=None, ready=False, unschedulable=NO_GPU)
    return sources, cluster


def test_a_new_replica_that_waits_for_the_gpus_of_the_old_one_is_on_its_way():
    sources, cluster = exchanged()
    found = ask(sources)
    assert (found.pending_for_gpus, found.unscheduled, found.starting, found.lacking) == (0, 0, 1, 0)
    assert found.not_ready == f"{cluster.pods[-1].name} waits for the GPUs of {cluster.pods[0].name}, which is ending"


def test_the_gpus_of_one_old_replica_are_for_one_new_one():
    found = ask(exchanged(pending=2)[0])
    assert (found.pending_for_gpus, found.unscheduled, found.starting) == (1, 1, 1)


def test_an_old_replica_that_should_have_ended_long_ago_makes_no_room():
    found = ask(exchanged(grace_ends_in_seconds=-60)[0])
    assert (found.pending_for_gpus, found.unscheduled, found.lacking) == (1, 1, 1)


def test_one_that_has_only_just_begun_to_wait_is_not_said_to_wait_in_vain():
    sources, cluster, ref = world()
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4, updated=4)
    pod = cluster.add_pod(ref, node=None, ready=False, unschedulable=NO_GPU)
    cluster.pods[-1] = replace(pod, created_at=NOW - timedelta(seconds=20))
    found = ask(sources)
    assert (found.pending_for_gpus, found.unscheduled, found.lacking) == (None, None, 0)
    assert found.missing == f"{pod.name} has only just begun to wait for a node"
    cluster.pods[-1] = replace(pod, created_at=NOW - timedelta(seconds=sources.window_seconds))
    assert (ask(sources).pending_for_gpus, ask(sources).lacking) == (1, 1)


def test_where_gpus_are_free_by_now_it_is_not_known_that_one_waits_for_them():
    sources, cluster, ref = world()
    cluster.workloads[ref].template["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 4}}
    cluster.add_pod(ref, node=None, ready=False, unschedulable=NO_GPU)
    found = ask(sources)
    assert (found.room_for_replicas, found.pending_for_gpus, found.unscheduled) == (1, None, 1)


def test_a_young_replica_that_loads_is_on_its_way_and_an_old_one_is_lacking():
    sources, cluster, ref = world()
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4, updated=4)
    pod = cluster.add_pod(ref, ready=False)  # an hour old
    assert (ask(sources).starting, ask(sources).lacking) == (0, 1)
    cluster.pods[-1] = replace(pod, created_at=NOW - timedelta(minutes=2))
    assert (ask(sources).starting, ask(sources).lacking) == (1, 0)


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "ImagePullBackOff"])
def test_one_that_cannot_start_is_not_on_its_way_however_young(reason):
    sources, cluster, ref = world()
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4, updated=4)
    pod = cluster.add_pod(
        ref, ready=False, containers=[container(ready=False, state=ContainerState("waiting", reason))]
    )
    cluster.pods[-1] = replace(pod, created_at=NOW)
    assert (ask(sources).starting, ask(sources).lacking) == (0, 1)


def test_pods_that_the_api_server_refuses_are_told_by_the_workloads_own_word():
    sources, cluster, ref = world()
    said = {"ReplicaFailure": (True, 'pods "chat-x" is forbidden: exceeded quota: gpus')}
    cluster.workloads[ref] = replace(cluster.workloads[ref], conditions=said)
    assert ask(sources).creation_refused is False  # all are there: it is about the past
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4)
    found = ask(sources)
    assert found.creation_refused is True and "exceeded quota" in found.creation_refused_why


def test_a_stateful_set_does_not_say_whether_its_pods_are_refused():
    sources, cluster, ref = world(kind="StatefulSet")
    assert ask(sources).creation_refused is False
    cluster.workloads[ref] = replace(cluster.workloads[ref], desired=4)
    assert ask(sources).creation_refused is None
