from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import ContainerState, SourceError
from bot.probes.recent_events import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world


def ask(sources, **params):
    return observe(Params(service="chat", **params), sources)


def happened(*events):
    """(kind, reason, message, more)."""
    sources, cluster, ref = world()
    names = {"Pod": cluster.pods[0].name, "Deployment": "chat", "ReplicaSet": cluster.history[ref][0].replica_set}
    for kind, reason, message, more in events:
        cluster.add_event("llm", kind, names[kind], reason, message, **more)
    return sources, cluster


def test_nothing_reported_is_nothing():
    found = ask(world()[0])
    assert (found.warnings, found.scheduling_failures, found.latest, found.log_excerpt) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("kind", "reason", "message", "field"),
    [
        ("Pod", "FailedScheduling", "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.", "scheduling_failures"),
        ("Pod", "Unhealthy", "Startup probe failed: connection refused", "probe_failures"),
        ("Pod", "Killing", "Container vllm failed liveness probe, will be restarted", "probe_kills"),
        ("Pod", "BackOff", "Back-off restarting failed container vllm in pod chat-1", "backoffs"),
        ("Pod", "Failed", 'Failed to pull image "x": manifest unknown', "image_pull_failures"),
        ("Pod", "BackOff", 'Back-off pulling image "x"', "image_pull_failures"),
        ("Pod", "FailedMount", 'MountVolume.SetUp failed for volume "models"', "mount_failures"),
        ("Pod", "Evicted", "The node was low on resource: ephemeral-storage.", "evictions"),
        ("ReplicaSet", "FailedCreate", 'pods "chat-1" is forbidden: exceeded quota', "quota_refusals"),
    ],
)
def test_each_kind_is_counted(kind, reason, message, field):
    found = ask(happened((kind, reason, message, {"count": 3}))[0])
    assert getattr(found, field) == 3
    assert message.split(":")[0][:20] in found.latest


def test_stopping_a_container_is_no_probes_kill():
    found = ask(happened(("Pod", "Killing", "Stopping container vllm", {"type": "Normal"}))[0])
    assert (found.probe_kills, found.warnings) == (0, 0)


def test_the_latest_warning_stands_last_in_the_excerpt():
    old = {"at": NOW - timedelta(minutes=9)}
    found = ask(happened(("Pod", "FailedMount", "first", old), ("Deployment", "BackOff", "second", {}))[0])
    assert found.latest.endswith("BackOff: second")
    assert [line.rpartition(": ")[2] for line in found.log_excerpt.splitlines()] == ["first", "second"]


def test_old_events_do_not_count():
    old = {"at": NOW - timedelta(minutes=40)}
    assert ask(happened(("Pod", "FailedMount", "x", old))[0], within_seconds=600).mount_failures == 0


def test_a_secret_in_a_message_does_not_pass():
    found = ask(happened(("Pod", "Failed", "401 for hf_abcdefghijklmnopqrst", {}))[0])
    assert "hf_" not in found.latest + found.log_excerpt


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)


def test_a_volume_that_is_waited_for_now_is_told_from_one_that_came():
    sources, cluster = happened(("Pod", "FailedMount", 'MountVolume.SetUp failed for volume "models"', {}))
    assert ask(sources).mounts_failing == 0  # it runs
    first = cluster.pods[0]
    waits = replace(first.containers[0], state=ContainerState("waiting", "ContainerCreating"))
    cluster.pods[0] = replace(first, phase="Pending", containers=(waits,))
    found = ask(sources)
    assert found.mounts_failing == 1 and 'volume "models"' in found.mounts_failing_why


def test_the_event_of_a_pod_that_was_evicted_is_found_though_the_pod_has_ended():
    sources, cluster = happened(("Pod", "Evicted", "The node was low on resource: ephemeral-storage.", {}))
    cluster.pods[0] = replace(cluster.pods[0], phase="Failed")
    found = ask(sources)
    assert found.evictions == 1 and "ephemeral-storage" in found.eviction_why


def test_an_eviction_that_was_called_off_is_none():
    event = ("Pod", "TaintManagerEviction", "Cancelling deletion of Pod llm/chat-1", {"type": "Normal"})
    assert ask(happened(event)[0]).evictions == 0


def test_a_readiness_probe_that_asks_the_wrong_page_is_told_from_one_of_a_start():
    wrong = ("Pod", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404", {"count": 30})
    found = ask(happened(wrong)[0])
    assert found.readiness_misdirected == 30 and "404" in found.readiness_misdirected_why
    for words in ("dial tcp 10.0.0.1:8000: connect: connection refused", "HTTP probe failed with statuscode: 503"):
        assert ask(happened(("Pod", "Unhealthy", f"Readiness probe failed: {words}", {}))[0]).readiness_misdirected == 0
