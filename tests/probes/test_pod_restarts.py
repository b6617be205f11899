from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import ContainerState
from bot.probes.pod_restarts import Params, observe
from tests.fakes import NOT_ANSWERING, NOW, container
from tests.probes.fleets import by_pod, world


def ended(code, reason="Error", *, minutes_ago=4.0, lived=600.0):
    at = NOW - timedelta(minutes=minutes_ago)
    return ContainerState("terminated", reason, exit_code=code, at=at, started_at=at - timedelta(seconds=lived))


def change(cluster, number, *, pod=None, **more):
    first = cluster.pods[number]
    one = replace(first.containers[0], **more) if more else first.containers[0]
    cluster.pods[number] = replace(first, containers=(one,), **(pod or {}))


def crashed(*states, replicas=3):
    sources, cluster, ref = world(replicas=replicas)
    for number, state in enumerate(states):
        if state is not None:
            change(cluster, number, last_state=state, restart_count=1)
    return sources, cluster, ref


def ask(sources, **params):
    return observe(Params(service="chat", **params), sources)


def test_a_quiet_service_has_no_crash():
    found = ask(world()[0])
    assert (found.crashes, found.crashing_now, found.restarts, found.oom_killed, found.engine_died) == (0, 0, 0, 0, 0)
    assert (found.pod, found.waiting, found.missing) == (None, None, None)


@pytest.mark.parametrize(
    ("code", "reason", "field"),
    [
        (0, "Completed", "engine_died"),
        (137, "OOMKilled", "oom_killed"),
        (137, "Error", "killed"),
        (2, "Error", "bad_arguments"),
        (1, "Error", "failed"),
        (134, "Error", "aborted"),
        (139, "Error", "segmentation_faults"),
    ],
)
def test_each_way_to_end_is_counted_as_a_crash_and_named(code, reason, field):
    sources, cluster, _ = crashed(ended(code, reason))
    found = ask(sources)
    assert (found.crashes, getattr(found, field)) == (1, 1)
    assert (found.pod, found.exit_code, found.minutes_ago, found.lived_seconds) == (cluster.pods[0].name, code, 4, 600)


def test_who_ran_out_of_memory_is_told_though_another_crashed_after_it():
    sources, cluster, _ = crashed(ended(137, "OOMKilled", minutes_ago=9), ended(1, minutes_ago=2), ended(0))
    first, second, third = (pod.name for pod in cluster.pods)
    found = ask(sources)
    assert (found.pod, found.minutes_ago) == (second, 2)
    assert (found.oom_killed_pods, found.oom_killed_minutes_ago) == (first, 9)
    assert (found.engine_died_pods, found.engine_died_minutes_ago, found.probe_killed_pods) == (third, 4, None)


def test_what_the_kernel_killed_counts_in_vllms_own_container_of_pods_that_crashed():
    sources, cluster, _ = crashed(ended(0), ended(137, "OOMKilled"))
    first, second, third = (pod.name for pod in cluster.pods)
    assert (ask(sources).kernel_kills, ask(sources).host_memory_pods) == (None, second)  # not exported
    sources.metrics.answers["container_oom_events_total"] = by_pod(cluster, 1.02)
    found = ask(sources)
    assert found.kernel_kills == 1
    assert sorted(found.host_memory_pods.split(", ")) == sorted([first, second])
    asked = next(query for query in sources.metrics.asked if "container_oom_events_total" in query)
    assert 'container=~"vllm"' in asked and third not in asked
    sources.metrics.answers["container_oom_events_total"] = by_pod(cluster, 0)
    assert (ask(sources).kernel_kills, ask(sources).host_memory_pods) == (0, second)


def test_an_old_crash_is_no_crash_of_now():
    found = ask(crashed(ended(0, minutes_ago=90))[0])
    assert (found.crashes, found.engine_died, found.pod) == (0, 0, None)
    assert ask(crashed(ended(0, minutes_ago=90))[0], within_seconds=7200).crashes == 1


def test_a_pod_that_is_being_deleted_ends_with_zero_and_is_no_crash():
    sources, cluster, _ = crashed(ended(0, "Completed"))
    cluster.pods[0] = replace(cluster.pods[0], deleted_at=NOW)
    assert ask(sources).crashes == 0


def test_a_probe_that_killed_it_is_told_from_a_death_of_its_own():
    sources, cluster, _ = crashed(ended(137), ended(0))
    for number, probe in enumerate(("startup", "liveness")):
        words = f"Container vllm failed {probe} probe, will be restarted"
        cluster.add_event("llm", "Pod", cluster.pods[number].name, "Killing", words, at=NOW - timedelta(minutes=4.2))
    found = ask(sources)
    assert (found.startup_probe_kills, found.liveness_probe_kills, found.killed, found.engine_died) == (1, 1, 0, 0)
    assert found.probe_killed_pods == f"{cluster.pods[0].name}, {cluster.pods[1].name}"
    assert (found.probe_killed_minutes_ago, found.probe_killed_lived_seconds) == (4, 600)


def test_a_container_that_kubernetes_was_asked_to_end_has_not_crashed():
    sources, cluster, _ = crashed(ended(0, "Completed"))
    words = "Container vllm definition changed, will be restarted"
    cluster.add_event("llm", "Pod", cluster.pods[0].name, "Killing", words, at=NOW - timedelta(minutes=4.2))
    found = ask(sources)
    assert (found.crashes, found.engine_died, found.crashing_now, found.pod) == (0, 0, 0, None)
    change(cluster, 0, state=ended(0, "Completed"), last_state=None)  # and has not begun anew yet
    assert (ask(sources).crashes, ask(sources).crashing_now) == (0, 0)


def test_without_events_it_is_not_known_who_killed_them():
    sources, cluster, _ = crashed(ended(137), ended(137, "OOMKilled"))
    cluster.events = lambda *_: (_ for _ in ()).throw(NOT_ANSWERING)
    found = ask(sources)
    assert (found.crashes, found.oom_killed, found.killed, found.engine_died) == (2, 1, None, None)
    assert "whether probes killed them is not known" in found.missing


def test_a_crash_loop_is_counted_while_it_waits():
    sources, cluster, _ = crashed(ended(2))
    change(cluster, 0, state=ContainerState("waiting", "CrashLoopBackOff"))
    assert ask(sources).crashing_now == 1


def test_what_keeps_a_pod_from_starting_is_told_with_the_kubelets_words():
    sources, cluster, _ = world()
    change(cluster, 0, state=ContainerState("waiting", "ImagePullBackOff", "manifest unknown"))
    change(cluster, 1, state=ContainerState("waiting", "CreateContainerConfigError", 'secret "hf" not found'))
    found = ask(sources)
    assert (found.image_pulls_failing, found.cannot_start, found.crashes) == (1, 1, 0)
    assert "manifest unknown (and 1 more)" in found.waiting


def test_an_init_container_that_fails_is_told_and_one_that_is_done_is_not():
    sources, cluster, _ = world()
    fails = container("fetch", state=ContainerState("waiting", "CrashLoopBackOff"), last_state=ended(1))
    done = container("fetch", state=ended(0, "Completed"))
    cluster.pods[0] = replace(cluster.pods[0], init_containers=(fails,))
    cluster.pods[1] = replace(cluster.pods[1], init_containers=(done,))
    found = ask(sources)
    assert found.init_failing == 1
    assert "init container fetch fails (Error, exit code 1)" in found.waiting


def test_a_container_beside_vllms_that_crashes_is_told_apart():
    sources, cluster, _ = world()
    waits = ContainerState("waiting", "CrashLoopBackOff")
    shipper = container("log-shipper", image="fluent-bit:3", state=waits, last_state=ended(137, "OOMKilled"), gpus=0)
    cluster.pods[0] = replace(cluster.pods[0], containers=(shipper, *cluster.pods[0].containers))
    found = ask(sources)
    assert (found.crashes, found.crashing_now, found.oom_killed) == (0, 0, 0)
    assert (found.helpers_crashing, found.helper_oom_killed) == (1, 1)
    assert found.helper == f"log-shipper of {cluster.pods[0].name}: OOMKilled, exit code 137"


def test_an_init_container_that_ran_out_of_memory_and_then_did_its_work_is_told_and_crashes_no_more():
    sources, cluster, _ = world()
    fetch = container("fetch", state=ended(0, "Completed"), last_state=ended(137, "OOMKilled"), gpus=0)
    cluster.pods[0] = replace(cluster.pods[0], init_containers=(fetch,))
    found = ask(sources)
    assert (found.helpers_crashing, found.helper_oom_killed, found.init_failing) == (0, 1, 0)


def test_one_that_ended_again_and_again_and_runs_just_now_is_in_a_loop():
    sources, cluster, _ = crashed(ended(1, lived=20))
    assert ask(sources).crashing_now == 0  # once is no loop
    change(cluster, 0, restart_count=4)
    assert ask(sources).crashing_now == 1
    change(cluster, 0, last_state=ended(1, lived=5 * 86400))
    assert ask(sources).crashing_now == 0  # the last life was days


def test_what_ended_with_its_machine_is_no_crash():
    assert ask(crashed(ended(255, "Unknown"), ended(255, "Unknown"))[0]).crashes == 0
    assert ask(crashed(ended(255, "Error"))[0]).crashes == 1  # sys.exit(-1)


def test_restarts_are_those_that_kube_state_metrics_counts_or_at_least_those_that_are_seen():
    sources, _, _ = crashed(ended(0), ended(0))
    assert ask(sources).restarts == 2
    sources.metrics.answers["kube_pod_container_status_restarts_total"] = 7.2
    assert ask(sources).restarts == 7
    sources.metrics.down = NOT_ANSWERING
    assert ask(sources).restarts == 2


def test_whether_only_the_newest_revision_crashes():
    sources, cluster, ref = crashed(ended(1))
    assert ask(sources).newest_revision_only is None  # there is no other
    cluster.add_revision(ref)
    found = ask(sources)  # the others of it are ready
    assert found.newest_revision_only is None and "so that it may be something else" in found.missing
    cluster.pods = [replace(pod, ready=False) for pod in cluster.pods]
    assert ask(sources).newest_revision_only is True
    older = cluster.history[ref][-1].replica_set
    cluster.pods[0] = replace(cluster.pods[0], owner=older)
    assert ask(sources).newest_revision_only is False


def test_a_pod_of_the_newest_revision_that_cannot_start_counts_as_well():
    sources, cluster, ref = world(replicas=1)
    cluster.add_revision(ref)
    change(cluster, 0, state=ContainerState("waiting", "ImagePullBackOff", "manifest unknown"), pod={"ready": False})
    assert ask(sources).newest_revision_only is True
    cluster.pods[0] = replace(cluster.pods[0], owner=cluster.history[ref][-1].replica_set)
    assert ask(sources).newest_revision_only is False


def test_whether_only_one_node_has_the_crashes():
    sources, cluster, _ = crashed(ended(1))
    assert ask(sources).one_node_only is False  # all replicas are there
    cluster.pods[1] = replace(cluster.pods[1], node="gpu-02")
    assert ask(sources).one_node_only is True


def test_how_long_the_probes_let_a_start_take():
    sources, cluster, ref = world()
    spec = cluster.workloads[ref].template["spec"]["containers"][0]
    assert (ask(sources).startup_budget_seconds, ask(sources).startup_probe) == (None, False)
    spec["livenessProbe"] = {"initialDelaySeconds": 120, "periodSeconds": 10, "failureThreshold": 3}
    assert ask(sources).startup_budget_seconds == 150
    spec["startupProbe"] = {"initialDelaySeconds": 30, "periodSeconds": 10, "failureThreshold": 30}
    assert (ask(sources).startup_budget_seconds, ask(sources).startup_probe) == (330, True)


def test_a_service_without_pods_says_so():
    sources, cluster, _ = world()
    cluster.pods.clear()
    found = ask(sources)
    assert (found.crashes, found.missing) == (None, "it has no pods")
