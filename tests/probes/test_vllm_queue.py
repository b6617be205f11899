from dataclasses import replace

import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.vllm_queue import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import UP, by_pod, world

BUSY = {
    "deriv": 9.0,
    "rate(vllm:request_success": 9.5,
    "sum(max by (namespace, pod, engine) (vllm:num_requests_running": 768.0,
}


def ask(sources):
    return observe(Params(service="chat"), sources)


@pytest.fixture
def busy():
    sources, cluster, ref = world()
    sources.metrics.answers = {
        **BUSY,
        "by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting": by_pod(cluster, 41, 50, 47),
        "max_over_time": by_pod(cluster, 256, 256, 256, engine="0"),
        "avg_over_time": by_pod(cluster, 250, 240, 256, engine="0"),
        "max_over_time(sum(": 150.0,
    }
    return sources, cluster, ref


def test_the_queue_by_replica(busy):
    found = ask(busy[0])
    assert (found.waiting, found.running, found.replicas) == (138, 768, 3)
    assert (found.waiting_per_replica_max, found.waiting_per_replica_min) == (50, 41)
    assert (found.saturated_replicas, found.max_num_seqs) == (3, 256)
    assert (found.growth_per_minute, found.finished_per_second) == (9.0, 9.5)
    assert found.missing is None


def test_what_has_waited_of_late_is_known_though_nobody_waits_just_now(busy):
    sources, cluster, _ = busy
    sources.metrics.answers["by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting"] = by_pod(
        cluster, 0, 0, 0
    )
    found = ask(sources)
    assert (found.waiting, found.waiting_lately) == (0, 150)


def test_a_replica_below_its_cap_is_not_saturated(busy):
    sources, cluster, _ = busy
    sources.metrics.answers["max_over_time"] = by_pod(cluster, 256, 200, 256, engine="0")
    assert ask(sources).saturated_replicas == 2


def test_a_batch_of_which_some_have_just_ended_is_full_where_requests_wait(busy):
    sources, cluster, _ = busy
    sources.metrics.answers["max_over_time"] = by_pod(cluster, 256, 240, 256, engine="0")
    assert ask(sources).saturated_replicas == 3
    sources.metrics.answers["by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting"] = by_pod(
        cluster, 41, 0, 47
    )
    assert ask(sources).saturated_replicas == 2


def test_batches_that_are_full_only_of_late_say_nothing_about_the_gpus_yet(busy):
    sources, cluster, _ = busy
    assert ask(sources).full_throughout is True
    sources.metrics.answers["avg_over_time"] = by_pod(cluster, 250, 128, 256, engine="0")
    assert ask(sources).full_throughout is None
    sources.metrics.answers["avg_over_time"] = by_pod(cluster, 250, engine="0")
    assert ask(sources).full_throughout is None


def test_every_engine_of_a_data_parallel_replica_counts(busy):
    sources, cluster, _ = busy
    two = by_pod(cluster, 256, 256, 256, engine="0").samples + by_pod(cluster, 256, 3, 256, engine="1").samples
    sources.metrics.answers["max_over_time"] = Answer(two)
    assert ask(sources).saturated_replicas == 2


def test_no_series_is_not_an_empty_queue():
    sources, _, _ = world(answers={**BUSY, **UP})
    found = ask(sources)
    assert found.waiting is None and found.growth_per_minute is None
    assert "--disable-log-stats" in found.missing


def test_ready_replicas_that_export_nothing_are_counted(busy):
    sources, cluster, _ = busy
    sources.metrics.answers["by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting"] = by_pod(
        cluster, 41
    )
    found = ask(sources)
    assert (found.replicas, found.silent_replicas) == (1, 2)
    cluster.pods[1] = replace(cluster.pods[1], ready=False)
    cluster.pods[2] = replace(cluster.pods[2], ready_at=NOW)  # just now: not scraped yet
    assert ask(sources).silent_replicas == 0
    cluster.down = NOT_ANSWERING
    assert ask(sources).silent_replicas is None


def test_an_empty_queue_is_zero(busy):
    sources, cluster, _ = busy
    sources.metrics.answers["by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting"] = by_pod(
        cluster, 0, 0, 0
    )
    found = ask(sources)
    assert (found.waiting, found.replicas_short, found.replicas_to_add) == (0, 0, 0)


def test_without_the_api_server_the_queue_is_still_seen(busy):
    sources, cluster, _ = busy
    cluster.down = NOT_ANSWERING
    found = ask(sources)
    assert found.waiting == 138
    assert found.saturated_replicas is None and found.max_num_seqs is None
    assert "did not answer" in found.missing


def test_a_cap_that_cannot_be_seen_leaves_saturation_unknown(busy):
    sources, cluster, _ = busy
    hidden = replace(cluster.pods[0].containers[0], args=("m", "--config", "/etc/vllm.yaml"))
    cluster.pods[0] = replace(cluster.pods[0], containers=(hidden,))
    found = ask(sources)
    assert found.saturated_replicas is None and "some replicas" in found.missing


def test_prometheus_down_is_raised():
    sources, _, _ = world()
    sources.metrics.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)


@pytest.mark.parametrize(
    ("growth", "finished", "short"),
    [
        (0.0, 9.5, 1),  # a queue that stands is one replica short
        (-30.0, 9.5, 1),
        (190.0, 9.5, 1),  # a third more arrives than is served
        (570.0, 9.5, 3),  # twice as much
        (5700.0, 9.5, 3),  # never more than doubled at once
        (570.0, 0.0, None),  # nothing is served: more of the same would not help
        (570.0, None, None),
        (None, 9.5, 1),
    ],
)
def test_how_many_replicas_are_short(busy, growth, finished, short):
    sources, _, _ = busy
    for key, value in (("deriv", growth), ("rate(vllm:request_success", finished)):
        sources.metrics.answers[key] = Answer(()) if value is None else value
    assert ask(sources).replicas_short == short


def with_room(cluster, ref, *, free):
    limits = {"limits": {"nvidia.com/gpu": 4}}
    workload = cluster.workloads[ref]
    workload.template["spec"]["containers"][0]["resources"] = limits
    cluster.add_node("gpu-01", gpus=12 + free)


@pytest.mark.parametrize(("free", "add"), [(16, 3), (8, 2), (4, 1), (0, 1)])
def test_as_many_are_added_as_there_are_gpus_for_but_one_at_least(busy, free, add):
    sources, cluster, ref = busy
    with_room(cluster, ref, free=free)
    sources.metrics.answers["deriv"] = 570.0
    assert ask(sources).replicas_to_add == add


def test_not_more_than_the_fleet_allows(busy):
    sources, _, _ = busy
    sources.metrics.answers["deriv"] = 570.0
    service = sources.fleet.services[0].model_copy(update={"maximum_replicas": 5})
    found = ask(replace(sources, fleet=sources.fleet.model_copy(update={"services": (service,)})))
    assert (found.replicas_short, found.replicas_to_add) == (3, 2)


def test_a_canary_in_the_same_namespace_is_not_counted(busy):
    sources, _, _ = busy
    ask(sources)
    assert all("chat-canary" not in query and "chat-.*" not in query for query in sources.metrics.asked)


def test_nan_is_not_a_queue(busy):
    sources, cluster, _ = busy
    labels = {"namespace": "llm", "pod": cluster.pods[0].name}
    only_nan = Answer((Sample(labels, float("nan"), NOW),))
    sources.metrics.answers["by (namespace, pod) (max by (namespace, pod, engine) (vllm:num_requests_waiting"] = (
        only_nan
    )
    assert ask(sources).waiting is None
