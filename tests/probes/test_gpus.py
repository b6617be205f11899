from dataclasses import replace

import pytest
from pydantic import ValidationError

from bot.gpu_readings import Gpu
from bot.ports import SourceError
from bot.probes.gpus import Params, any_true, look, missing, total
from tests.fakes import NOT_ANSWERING
from tests.probes.fleets import world
from tests.probes.gpu_nodes import agent, agents, exported, gpu

READINGS = ("temperature.gpu_celsius", "rows.pending")
TEMPERATURES = exported(DCGM_FI_DEV_GPU_TEMP=[40, 50])


def ask(params, make_gpus=lambda cluster: None, *, change=None, **more):
    """What is told, and the sources. `make_gpus`: of the cluster -> what the agents say."""
    sources, cluster, _ = world(**more)
    if change is not None:
        change(cluster)
    sources = replace(sources, gpus=make_gpus(cluster))
    return look(Params(**params), sources, READINGS), sources


def labels(looked):
    return [one.gpu.uuid for one in looked.told]


def indices_of(cluster, number):
    """Four GPUs of each pod, in the pods' order."""
    return range(4 * number, 4 * number + 4)


def held(cluster, *, by="kubelet", leave_out=()):
    gpus = [
        gpu(index, held_by=pod, by=by)
        for number, pod in enumerate(cluster.pods)
        for index in indices_of(cluster, number)
        if index not in leave_out
    ]
    return agents(agent(*gpus, *(gpu(index) for index in leave_out), gpu(12)))


# ---------------------------------------------------------------------------------------------- whose


def test_of_a_node_all_gpus_are_meant():
    looked, sources = ask({"node": "gpu-01"}, lambda cluster: agents(agent()))
    assert labels(looked) == [f"GPU-{n}" for n in range(8)]
    assert (looked.matched_by, looked.source, looked.notes) == ("node", "agent", ())
    assert sources.metrics.asked == []


@pytest.mark.parametrize("by", ["kubelet", "process"])
def test_of_a_pod_its_gpus_are_meant_where_the_agent_knows_them(by):
    sources, cluster, _ = world()
    pod = cluster.pods[1]
    sources = replace(sources, gpus=held(cluster, by=by))
    looked = look(Params(namespace=pod.namespace, pod=pod.name), sources, READINGS)
    assert labels(looked) == ["GPU-4", "GPU-5", "GPU-6", "GPU-7"]
    assert (looked.matched_by, looked.source) == ("uuid", "agent")


def test_of_a_service_one_pod_or_all_are_meant():
    sources, cluster, _ = world()
    sources = replace(sources, gpus=held(cluster))
    assert len(look(Params(service="chat"), sources, READINGS).told) == 12
    one = look(Params(service="chat", pod=cluster.pods[0].name), sources, READINGS)
    assert labels(one) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]


def test_a_process_that_crashed_no_longer_shows_whose_its_gpu_is():
    sources, cluster, _ = world()
    pod = cluster.pods[0]
    sources = replace(sources, gpus=held(cluster, by="process", leave_out=(2,)))
    looked = look(Params(namespace=pod.namespace, pod=pod.name), sources, READINGS)
    assert (looked.matched_by, len(looked.told)) == ("node", 13), "the one that is missing may be the culprit"


def test_where_the_agent_cannot_tell_it_is_the_whole_node_and_says_so():
    sources, _, _ = world()
    sources = replace(sources, gpus=agents(agent()))
    looked = look(Params(service="chat"), sources, READINGS)
    assert (looked.matched_by, len(looked.told)) == ("node", 8)


# ---------------------------------------------------------------------------------------------- who tells


def test_without_an_agent_the_exporter_is_asked_by_its_pods_and_then_by_its_nodes():
    by_pod, sources = ask({"service": "chat"}, answers={'namespace="llm",pod=~"chat-': TEMPERATURES})
    assert (by_pod.matched_by, by_pod.source, len(by_pod.told)) == ("pod", "dcgm-exporter", 2)
    assert any('exported_namespace="llm",exported_pod=~' in query for query in sources.metrics.asked)
    by_node, _ = ask({"service": "chat"}, answers={'Hostname=~"gpu-01"': TEMPERATURES})
    assert (by_node.matched_by, by_node.told[0].node) == ("node", "gpu-01")
    assert by_node.gpus[0].missing == {"rows.pending": "DCGM_FI_DEV_ROW_REMAP_PENDING is not exported"}
    assert "GPU agent: is not configured" in " ".join(by_node.notes)


def test_nobody_who_tells_is_said():
    looked, _ = ask({"node": "gpu-01"}, lambda cluster: agents())
    assert (looked.told, looked.matched_by, looked.source) == ((), None, None)
    assert missing(looked, READINGS) == (
        "GPU agent: runs on no node gpu-01; dcgm-exporter tells nothing of gpu-01 in Prometheus"
    )


def test_two_nodes_one_with_an_agent():
    there = exported(node="gpu-02", DCGM_FI_DEV_GPU_TEMP=[40, 50])
    sources, cluster, _ = world(answers={'Hostname=~"gpu-02"': there})
    cluster.add_node("gpu-02")
    cluster.pods[2] = replace(cluster.pods[2], node="gpu-02")
    sources = replace(sources, gpus=held(cluster))
    looked = look(Params(service="chat"), sources, READINGS)
    assert looked.source == "agent and dcgm-exporter"
    assert (looked.without_agent, looked.matched_by) == (("gpu-02",), "node"), "the weaker of both"
    assert [one.node for one in looked.told] == ["gpu-01"] * 8 + ["gpu-02"] * 2
    assert missing(looked, READINGS) == (
        "GPU agent: runs on no node gpu-02; DCGM_FI_DEV_ROW_REMAP_PENDING is not exported"
    )


def test_an_agent_without_a_driver_has_told_that():
    looked, _ = ask(
        {"node": "gpu-01"},
        lambda cluster: agents(replace(agent(), gpus=(), problem="the NVIDIA driver is not loaded")),
        answers={"Hostname": TEMPERATURES},
    )
    assert looked.told == ()
    assert missing(looked, READINGS) == "gpu-01: the NVIDIA driver is not loaded"


def test_the_past_is_asked_of_prometheus_alone():
    looked, _ = ask({"node": "gpu-01"}, lambda cluster: agents(agent()), answers={"Hostname": TEMPERATURES}, live=False)
    assert looked.source == "dcgm-exporter"
    assert "can only answer for now" in looked.notes[0]


def test_without_the_api_server_the_exporters_labels_still_tell():
    looked, sources = ask(
        {"service": "chat"},
        lambda cluster: agents(agent()),
        change=lambda cluster: setattr(cluster, "down", NOT_ANSWERING),
        answers={"pod=~": TEMPERATURES},
    )
    assert (looked.matched_by, looked.source, len(looked.told)) == ("pod", "dcgm-exporter", 2)
    assert looked.notes[0].startswith("Fake: did not answer")
    assert any("exported_pod=~" in query for query in sources.metrics.asked)


def test_a_pod_that_is_gone_is_a_mistake_in_the_question():
    with pytest.raises(SourceError, match="there is no pod llm/none any more"):
        ask({"namespace": "llm", "pod": "none"})


def test_a_service_without_pods_on_gpus_has_no_gpus():
    looked, _ = ask({"service": "chat"}, lambda cluster: agents(agent()), change=lambda cluster: cluster.pods.clear())
    assert missing(looked, READINGS) == "none of its pods holds a GPU on a node"


@pytest.mark.parametrize("params", [{}, {"pod": "chat-0"}, {"namespace": "llm"}, {"node": "a", "gpu": 1}])
def test_a_question_about_nothing_is_refused(params):
    with pytest.raises(ValidationError):
        Params(**params)


# ---------------------------------------------------------------------------------------------- one word


def test_a_sum_is_zero_only_if_all_say_so():
    assert (total([0, 0]), total([0, None]), total([2, None]), total([]), total([None])) == (0, None, 2, None, None)


def test_false_is_only_what_all_say():
    assert any_true([False, True, None]) is True
    assert any_true([False, False]) is False
    assert any_true([False, None]) is None
    assert any_true([]) is None


def test_a_silent_gpu_is_named_with_its_reason_and_others_with_their_reading():
    silent = gpu(1, state="silent", problem="NVML did not answer for 2.0 s")
    blind = gpu(2, missing={"rows.pending": "no permission", "serial": "not asked here"})
    looked, _ = ask({"node": "gpu-01"}, lambda cluster: agents(agent(gpu(0), silent, blind)))
    assert missing(looked, READINGS) == (
        "GPU 1 (GPU-1, 01:00) on gpu-01: NVML did not answer for 2.0 s; "
        "rows.pending of GPU 2 (GPU-2, 02:00) on gpu-01: no permission"
    )


def test_nothing_lacks_where_all_is_told():
    looked, _ = ask({"node": "gpu-01"}, lambda cluster: agents(agent(Gpu(0), Gpu(1))))
    assert missing(looked, READINGS) is None
