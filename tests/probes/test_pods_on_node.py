from dataclasses import replace

import pytest

from bot.fleet import Service
from bot.ports import SourceError
from bot.probes.pods_on_node import Params, observe
from tests.fakes import NOT_ANSWERING
from tests.probes.fleets import fleet_of, world


def ask(sources, node="gpu-01"):
    return observe(Params(node=node), sources)


def spread():
    """Three replicas of `chat`, one of them on gpu-02; one of `code`, on gpu-02; and a stranger there."""
    sources, cluster, ref = world()
    cluster.add_node("gpu-02")
    cluster.pods[2] = replace(cluster.pods[2], node="gpu-02")
    code = cluster.add_workload(name="code", replicas=1, node="gpu-02", gpus=2)
    cluster.add_workload(name="stranger", replicas=1, node="gpu-02", gpus=1)
    fleet = fleet_of(ref)
    second = Service(name="code", workloads=(code,), channel="#code")
    fleet = fleet.model_copy(update={"services": (*fleet.services, second)})
    return replace(sources, fleet=fleet), cluster


def test_who_is_there_and_what_each_would_lose():
    found = ask(spread()[0], "gpu-02")
    assert (found.pods, found.gpus_held, found.services_hit) == (3, 7, 2)
    assert found.services == "chat: 1 of 3 ready replicas; code: 1 of 1 ready replicas"
    assert (found.worst_service, found.capacity_lost_ratio_max) == ("code", 1.0)
    assert (found.last_replica_of, found.below_minimum) == ("code", "code")
    assert found.others.startswith("llm/stranger-")


def test_a_replica_that_is_not_ready_is_no_loss():
    sources, cluster = spread()
    cluster.pods[2] = replace(cluster.pods[2], ready=False)
    assert "chat: 0 of 2 ready replicas" in ask(sources, "gpu-02").services


def test_the_only_pod_of_ours_may_be_named_to_an_action():
    sources, cluster = spread()
    assert ask(sources, "gpu-02").pod is None
    cluster.pods = [pod for pod in cluster.pods if not pod.name.startswith("code")]
    assert ask(sources, "gpu-02").pod == cluster.pods[2].name


def test_an_empty_node_costs_nothing():
    sources, cluster = spread()
    cluster.add_node("gpu-03")
    found = ask(sources, "gpu-03")
    assert (found.pods, found.services, found.capacity_lost_ratio_max) == (0, "none of ours", 0.0)


def test_a_node_that_does_not_exist_is_not_empty():
    found = ask(spread()[0], "gpu-99")
    assert (found.pods, found.missing) == (None, "there is no node gpu-99")


def test_the_api_server_down_is_raised():
    sources, cluster = spread()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)
