from dataclasses import replace

import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.gpu_utilization import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world


def gpus(*ratios):
    return Answer(tuple(Sample({"gpu": str(n)}, ratio, NOW) for n, ratio in enumerate(ratios)))


def ask(answers, change=None):
    sources, cluster, _ = world()
    sources.metrics.answers = answers
    if change is not None:
        change(cluster)
    return observe(Params(service="chat"), sources), sources.metrics.asked


def test_gpus_are_matched_by_the_pods_that_hold_them():
    found, asked = ask({'UTIL{namespace="llm",pod=~"chat-': gpus(*[0.97] * 6, *[0.91] * 6)})
    assert (found.gpus, found.gpus_held, found.matched_by, found.measured) == (12, 12, "pod", True)
    assert found.busy_ratio_mean == pytest.approx(0.94)
    assert (found.busy_ratio_min, found.busy_ratio_max) == (0.91, 0.97)
    assert found.missing is None
    by_pod = next(query for query in asked if "pod=~" in query)
    assert 'exported_namespace="llm",exported_pod=~' in by_pod
    assert "DCGM_FI_PROF_GR_ENGINE_ACTIVE" in by_pod  # MIG slices have no utilisation


def test_without_pod_labels_the_nodes_gpus_are_taken_and_it_says_so():
    found, asked = ask({'Hostname=~"gpu-01"': gpus(0.5, 0.7)})
    assert (found.matched_by, found.gpus) == ("node", 2)
    assert found.missing == "only 2 of 12 GPUs are exported"
    assert any('hostname=~"gpu-01"' in query for query in asked)


def test_not_exported_is_unknown_never_zero():
    found, _ = ask({})
    assert found.busy_ratio_mean is None and found.gpus is None
    assert found.measured is False
    assert found.missing == "DCGM_FI_DEV_GPU_UTIL is not exported (no dcgm-exporter in Prometheus)"


def test_an_exporter_that_tells_of_others_only_is_told_apart():
    found, _ = ask({"count(": 8.0})
    assert found.busy_ratio_mean is None and "for 8 GPUs, but for none of these" in found.missing


def test_an_exporter_that_died_is_not_read_from_its_past():
    _, asked = ask({})
    assert all(" and DCGM_FI" in query for query in asked if "avg_over_time" in query)


def test_without_the_api_server_the_labels_still_tell():
    found, _ = ask({"pod=~": gpus(0.9)}, change=lambda cluster: setattr(cluster, "down", NOT_ANSWERING))
    assert (found.busy_ratio_mean, found.gpus_held, found.matched_by) == (0.9, None, "pod")


def test_pods_without_gpus_lead_to_no_node():
    def none(cluster):
        cluster.pods = [
            replace(pod, containers=tuple(replace(c, gpus=0) for c in pod.containers)) for pod in cluster.pods
        ]

    _, asked = ask({}, change=none)
    assert not any("Hostname" in query for query in asked)


def test_prometheus_down_is_raised():
    with pytest.raises(SourceError):
        ask({"DCGM": NOT_ANSWERING})


def test_where_others_gpus_may_be_the_idle_ones_no_mean_is_told():
    found, _ = ask({'Hostname=~"gpu-01"': gpus(*[0.98] * 12, *[0.02] * 4)})  # 12 are held
    assert (found.matched_by, found.gpus, found.gpus_held) == ("node", 16, 12)
    assert found.busy_ratio_mean is None and "which pod holds which GPU" in found.missing
    found, _ = ask({'Hostname=~"gpu-01"': gpus(*[0.98] * 12, *[0.95] * 4)})
    assert found.busy_ratio_mean == pytest.approx(0.9725)  # whichever they are


def test_idle_gpus_of_a_replica_that_loads_do_not_count():
    sources, cluster, _ = world()
    busy = Answer(
        tuple(
            Sample({"gpu": str(n), "namespace": "llm", "pod": pod.name}, 0.0 if pod is cluster.pods[0] else 0.9, NOW)
            for pod in cluster.pods
            for n in range(4)
        )
    )
    sources.metrics.answers = {'UTIL{namespace="llm",pod=~"chat-': busy}
    cluster.pods[0] = replace(cluster.pods[0], ready=False)
    found = observe(Params(service="chat"), sources)
    assert (found.gpus, found.gpus_held) == (8, 8)
    assert found.busy_ratio_mean == pytest.approx(0.9) and found.missing is None
