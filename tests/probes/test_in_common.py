from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import ContainerState
from bot.probes.in_common import Troubled, newest_revisions, of_newest_revision, on_one_node
from bot.probes.pod_restarts import Params, observe
from bot.vllm.crashes import Crash, Ending
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world

ANSWERED = "max(sum_over_time("  # points, 30 s apart of an hour


def ending(*, lived, crash=Crash.FAILED):
    state = ContainerState("terminated", "Error", exit_code=1, at=NOW, started_at=NOW - timedelta(seconds=lived))
    return Ending(crash, state)


def rolled_out(*, minutes_ago=55.0, replicas=1):
    """A newest revision of which no replica is ready, and one older."""
    sources, cluster, ref = world(replicas=replicas)
    cluster.add_revision(ref)
    at = NOW - timedelta(minutes=minutes_ago)
    cluster.history[ref][0] = replace(cluster.history[ref][0], created_at=at)
    cluster.pods = [replace(pod, ready=False, ready_at=None, created_at=at) for pod in cluster.pods]
    return sources, cluster, ref


def judged(sources, cluster, *, lived=40.0, restarts=1, crash=Crash.FAILED, pod=None):
    troubled = []
    for one in cluster.pods:
        container = replace(one.containers[0], restart_count=restarts)
        troubled.append(Troubled(replace(one, **(pod or {})), container, ending(lived=lived, crash=crash)))
    service = sources.fleet.service("chat")
    return of_newest_revision(newest_revisions(sources, service), troubled, cluster.pods, service, sources)


def test_a_revision_whose_only_run_was_short_never_came_up():
    sources, cluster, _ = rolled_out()
    assert judged(sources, cluster) == (True, None)


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_ended_a_run_longer_than_a_start_takes_is_not_known_to_be_the_rollout(replicas):
    sources, cluster, _ = rolled_out(replicas=replicas)
    known, why = judged(sources, cluster, lived=49 * 60)
    assert known is None and why.startswith("the newest revision had served for longer than a start takes")


def test_a_start_that_its_probe_ended_was_none_however_long_it_took():
    sources, cluster, _ = rolled_out()
    assert judged(sources, cluster, lived=1800, crash=Crash.STARTUP_PROBE)[0] is True


def test_after_several_short_lives_prometheus_knows_of_the_long_one_before():
    sources, cluster, _ = rolled_out()
    assert judged(sources, cluster, restarts=4)[0] is None  # nothing tells
    sources.metrics.answers[ANSWERED] = 49 * 60 / 28  # points 28 s apart
    assert judged(sources, cluster, restarts=4)[0] is None
    sources.metrics.answers[ANSWERED] = 0.0
    assert judged(sources, cluster, restarts=4) == (True, None)
    sources.metrics.down = NOT_ANSWERING
    known, why = judged(sources, cluster, restarts=4)
    assert known is None and "is not known" in why


def test_a_revision_younger_than_a_start_takes_cannot_have_served_longer():
    sources, cluster, _ = rolled_out(minutes_ago=8)
    sources.metrics.down = NOT_ANSWERING
    assert judged(sources, cluster, restarts=6) == (True, None)


def test_a_pod_that_came_long_after_its_revision_may_have_taken_the_place_of_one_that_served():
    sources, cluster, _ = rolled_out()
    assert judged(sources, cluster, pod={"created_at": NOW - timedelta(minutes=5)})[0] is None


def test_a_replica_that_crashed_once_and_has_been_ready_for_long_since_is_of_a_revision_that_serves():
    sources, cluster, _ = rolled_out()
    since = {"ready": True, "ready_at": NOW - timedelta(minutes=30)}
    assert judged(sources, cluster, pod=since)[0] is None


def test_only_the_revisions_own_pods_are_asked_about():
    sources, cluster, ref = rolled_out()
    judged(sources, cluster)
    asked = next(query for query in sources.metrics.asked if ANSWERED in query)
    assert f"{cluster.history[ref][0].replica_set}-" in asked
    assert cluster.history[ref][-1].replica_set not in asked


# ---------------------------------------------------------------------------------------------- one node


def test_crashes_on_one_node_count_against_the_node_only_if_the_same_revision_is_well_elsewhere():
    _, cluster, ref = world(replicas=3)
    crashed = [replace(pod, ready=False) for pod in cluster.pods[:2]]
    other = replace(cluster.pods[2], node="gpu-02")
    assert on_one_node(crashed, [*crashed, other]) is True
    assert on_one_node(crashed, [*crashed, replace(other, ready=False)]) is None
    older = cluster.add_revision(ref).replica_set
    assert on_one_node(crashed, [*crashed, replace(other, owner=older)]) is None


def test_crashes_on_two_nodes_or_replicas_on_one_only_are_no_sign_of_a_node():
    _, cluster, _ = world(replicas=2)
    there = replace(cluster.pods[0], node="gpu-02")
    assert on_one_node(cluster.pods, cluster.pods) is False
    assert on_one_node([there, cluster.pods[1]], [there, cluster.pods[1]]) is False
    assert on_one_node([], cluster.pods) is None


def test_a_bad_flag_whose_pods_all_sit_where_gpus_were_free_is_no_bad_node():
    sources, cluster, ref = world(replicas=4)
    older = cluster.add_revision(ref).replica_set
    refused = ContainerState("terminated", "Error", exit_code=2, at=NOW, started_at=NOW - timedelta(seconds=8))
    for number, pod in enumerate(cluster.pods):
        if number < 2:
            container = replace(pod.containers[0], last_state=refused, restart_count=1)
            cluster.pods[number] = replace(pod, ready=False, containers=(container,))
        else:
            cluster.pods[number] = replace(pod, owner=older, node="gpu-02")
    found = observe(Params(service="chat"), sources)
    assert (found.crashes, found.one_node_only, found.newest_revision_only) == (2, None, True)
