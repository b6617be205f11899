from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from bot.ports import ContainerState, SourceError
from bot.probes.node_conditions import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world


def ask(sources, **params):
    return observe(Params(**(params or {"service": "chat"})), sources)


def test_nodes_of_a_service_that_are_well():
    found = ask(world()[0])
    assert (found.nodes, found.ready, found.not_ready, found.schedulable, found.gpus) == (1, True, 0, True, 16)
    assert (found.pressure, found.under_pressure, found.held_by, found.missing) == ("none", 0, None, None)


def test_one_node_may_be_asked_about():
    sources, cluster, _ = world()
    cluster.add_node("gpu-02", ready=False, schedulable=False, conditions={"DiskPressure": True})
    found = ask(sources, node="gpu-02")
    assert (found.ready, found.not_ready_node, found.schedulable) == (False, "gpu-02", False)
    assert (found.pressure, found.under_pressure, found.cordoned_nodes) == ("gpu-02: DiskPressure", 1, "gpu-02")


def test_a_node_that_the_controller_lost_is_not_ready_and_its_readiness_not_known():
    sources, cluster, _ = world()
    cluster.add_node("gpu-01", ready=None)
    found = ask(sources)
    assert (found.ready, found.not_ready) == (None, 1)


def test_a_lost_node_whose_pods_are_being_deleted_is_still_one_of_theirs():
    sources, cluster, ref = world(replicas=1)
    cluster.add_node("gpu-02", ready=None)
    gone = cluster.add_pod(ref, node="gpu-02", ready=False)
    cluster.pods[-1] = replace(gone, deleted_at=NOW)
    assert (ask(sources).not_ready, ask(sources).not_ready_node) == (1, "gpu-02")


def test_the_node_from_which_a_replica_was_evicted_is_one_of_theirs_for_an_hour():
    sources, cluster, ref = world(replicas=1)
    cluster.add_node("gpu-02", conditions={"DiskPressure": True})
    gone = replace(cluster.add_pod(ref, node="gpu-02", ready=False), phase="Failed")
    ended = ContainerState("terminated", "Error", exit_code=137, at=NOW - timedelta(minutes=50))
    for state, seen in ((ended, 1), (replace(ended, at=NOW - timedelta(days=9)), 0)):
        cluster.pods[-1] = replace(gone, containers=(replace(gone.containers[0], state=state),))
        assert ask(sources).under_pressure == seen


def test_conditions_of_other_tools_are_told_as_they_are():
    sources, cluster, _ = world()
    cluster.add_node("gpu-01", conditions={"GpuUnhealthy": True, "KernelDeadlock": False})
    assert ask(sources).other_conditions == "GpuUnhealthy on gpu-01"


def test_a_node_that_another_tool_holds_is_told():
    sources, cluster, _ = world()
    cluster.add_node("gpu-01", schedulable=False, labels={"nvsentinel.dgxc.nvidia.com/state": "quarantined"})
    assert ask(sources).held_by == "NVSentinel"


def test_the_cordons_own_taint_is_no_news():
    sources, cluster, _ = world()
    cordon = "node.kubernetes.io/unschedulable:NoSchedule"
    cluster.add_node("gpu-01", schedulable=False, taints=(cordon, "gpu=bad:NoExecute"))
    assert ask(sources).taints == "gpu=bad:NoExecute"


def test_a_node_that_does_not_exist_is_not_well():
    found = ask(world()[0], node="gpu-99")
    assert (found.ready, found.missing) == (None, "there is no node gpu-99")


def test_a_node_that_is_gone_while_pods_name_it_is_told():
    sources, cluster, _ = world()
    cluster.pods[0] = replace(cluster.pods[0], node="gpu-07")
    assert "gpu-07" in ask(sources).missing
    cluster.machines.clear()
    with pytest.raises(SourceError, match="are gone"):
        ask(sources)


def test_either_a_node_or_a_service():
    for params in ({}, {"node": "a", "service": "b"}):
        with pytest.raises(ValidationError, match="either node or service"):
            Params(**params)


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)
