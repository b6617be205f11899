from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import SourceError
from bot.probes.rollouts import last_rollout
from bot.probes.served import service_of
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import fleet_of, world


def ago(**time):
    return NOW - timedelta(**time)


def last(sources):
    return last_rollout(sources, service_of(sources, "chat"))


def times(cluster, ref, *created):
    """Creation times of the ReplicaSets, newest revision first."""
    cluster.history[ref] = [replace(r, created_at=at) for r, at in zip(cluster.history[ref], created, strict=True)]


def test_the_newest_revision_and_the_one_before():
    sources, cluster, ref = world()
    cluster.add_revision(ref)
    times(cluster, ref, ago(minutes=12), ago(days=3))
    found = last(sources)
    assert (found.began_at, found.to.number, found.previous.number, found.back) == (ago(minutes=12), 2, 1, False)


def test_a_rollback_is_as_old_as_its_oldest_pod_not_as_its_replica_set():
    sources, cluster, ref = world()
    cluster.add_revision(ref)
    times(cluster, ref, ago(days=9), ago(minutes=20))  # revision 2 is the template of long ago
    cluster.pods = [replace(pod, created_at=ago(minutes=n)) for n, pod in enumerate(cluster.pods, start=3)]
    found = last(sources)
    assert found.back and found.began_at == ago(minutes=5)


def test_the_latest_of_several_workloads():
    sources, cluster, ref = world()
    canary = cluster.add_workload(name="chat-canary", replicas=1)
    times(cluster, ref, ago(days=3))
    times(cluster, canary, ago(minutes=4))
    assert last(replace(sources, fleet=fleet_of(ref, canary))).workload == canary


def test_a_stateful_set_is_told_by_its_pods_hashes():
    sources, cluster, _ = world(kind="StatefulSet")
    hashes = ("new", "new", "old")
    minutes = (4, 2, 900)
    cluster.pods = [
        replace(pod, created_at=ago(minutes=m), labels={"controller-revision-hash": h})
        for pod, m, h in zip(cluster.pods, minutes, hashes, strict=True)
    ]
    found = last(sources)
    assert found.began_at == ago(minutes=4) and found.to is None


def test_nothing_to_tell_by():
    sources, cluster, _ = world(kind="StatefulSet", replicas=0)
    assert last(sources) is None
    sources, cluster, ref = world()
    cluster.history[ref] = []
    assert last(sources) is None


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        last(sources)
