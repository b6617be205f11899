from dataclasses import replace

from bot.probes.gpu_recovery_action import Params, observe
from tests.fakes import NOT_ANSWERING
from tests.probes.fleets import world
from tests.probes.gpu_nodes import agent, agents, exported, gpu

NODE = {"node": "gpu-01"}


def ask(*gpus, answers=None, change=None, **more):
    sources, cluster, _ = world(answers=answers, **more)
    if change is not None:
        change(cluster)
    told = agents(agent(*gpus)) if gpus else None
    return observe(Params(**NODE), replace(sources, gpus=told))


def lost(index):
    return gpu(index, state="lost", problem="has fallen off the bus (NVML: GPU is lost)", recovery_action=None)


def test_healthy_gpus_ask_for_nothing():
    found = ask(gpu(0), gpu(1))
    assert (found.action, found.action_class, found.where) == ("none", "watch", ())
    assert (found.gpus, found.gpus_lost, found.gpus_silent, found.gpus_in_need) == (2, 0, 0, 0)
    assert (found.gpus_allocatable, found.matched_by, found.missing) == (16, "node", None)


def test_the_gravest_of_all_is_told():
    found = ask(gpu(0), gpu(1, recovery_action="gpu_reset"), gpu(2, recovery_action="node_reboot"))
    assert (found.action, found.action_class, found.gpus_in_need) == ("node_reboot", "reboot", 2)
    assert found.do
    assert found.where == ("GPU 1 (GPU-1, 01:00) on gpu-01", "GPU 2 (GPU-2, 02:00) on gpu-01")


def test_a_lost_gpu_is_counted_and_what_it_would_ask_for_is_not_known():
    found = ask(gpu(0), lost(1))
    assert (found.gpus_lost, found.gpus_in_need, found.action) == (1, 1, None)
    assert found.where == ("GPU 1 (GPU-1, 01:00) on gpu-01",)
    assert "fallen off the bus" in found.missing


def test_a_silent_gpu_may_be_the_one_in_need():
    found = ask(gpu(0), gpu(1, state="silent", problem="NVML did not answer for 9.0 s", recovery_action=None))
    assert (found.gpus_silent, found.gpus_in_need, found.action) == (1, None, None)


def test_what_is_known_to_be_grave_stands_beside_a_silent_one():
    silent = gpu(1, state="silent", problem="NVML did not answer", recovery_action=None)
    assert ask(gpu(0, recovery_action="drain_and_reset"), silent).action == "drain_and_reset"


def test_a_gpu_that_nvml_wants_reset_asks_for_that_even_if_the_driver_is_too_old_to_say():
    found = ask(gpu(0, state="reset_required", problem="must be reset", recovery_action=None))
    assert (found.action, found.action_class) == ("gpu_reset", "reset")


def test_an_action_that_only_a_newer_driver_knows_is_more_than_nothing():
    found = ask(gpu(0), gpu(1, recovery_action="unknown_9"))
    assert (found.action, found.action_class, found.gpus_in_need) == ("unknown_9", "reset", 1)


def test_an_exporter_cannot_tell_of_a_lost_gpu():
    found = ask(answers={'Hostname=~"gpu-01"': exported(DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION=[0, 1])})
    assert (found.action, found.gpus_lost, found.gpus_silent) == ("gpu_reset", None, None)
    assert (found.source, found.gpus_in_need) == ("dcgm-exporter", 1)


def test_not_exported_is_unknown_and_the_nodes_own_count_is_told():
    found = ask()
    assert (found.action, found.gpus, found.gpus_allocatable) == (None, None, 16)
    assert "dcgm-exporter tells nothing of gpu-01" in found.missing


def test_what_kubernetes_counts_is_only_for_now_and_may_be_unknown():
    assert ask(gpu(0), live=False).gpus_allocatable is None
    assert ask(gpu(0), change=lambda cluster: setattr(cluster, "down", NOT_ANSWERING)).gpus_allocatable is None
    assert ask(gpu(0), change=lambda cluster: cluster.machines.clear()).gpus_allocatable is None


def test_how_many_the_device_plugin_announces_is_told_beside_those_that_it_offers():
    def sick(cluster):
        cluster.machines["gpu-01"] = replace(cluster.machines["gpu-01"], gpus=7, gpu_capacity=8)

    found = ask(gpu(0), change=sick)
    assert (found.gpus_allocatable, found.gpus_announced) == (7, 8)


def test_of_a_replica_the_nodes_count_says_nothing():
    sources, cluster, _ = world()
    pod = cluster.pods[0]
    mine = [gpu(n, held_by=pod) for n in range(4)]
    sources = replace(sources, gpus=agents(agent(*mine, lost(9))))
    found = observe(Params(namespace=pod.namespace, pod=pod.name), sources)
    assert (found.matched_by, found.gpus, found.gpus_lost, found.gpus_allocatable) == ("uuid", 4, 0, None)
