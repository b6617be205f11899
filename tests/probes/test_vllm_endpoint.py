from dataclasses import replace

from bot.ports import ContainerState, Sample, SourceError
from bot.probes.vllm_endpoint import Params, observe
from tests.fakes import NOW, FakeEngine, FakeEngines
from tests.probes.fleets import world
from tests.probes.test_canaries import page

GOOD = FakeEngine(pages=[page()])


def ask(*engines, ready=True, **params):
    sources, cluster, _ = world(replicas=len(engines))
    cluster.pods = [replace(pod, ready=ready) for pod in cluster.pods]
    at = {f"{pod.ip}:8000": engine for pod, engine in zip(cluster.pods, engines, strict=True)}
    return observe(Params(service="chat", **params), replace(sources, engines=FakeEngines(at))), cluster


def test_replicas_that_answer_everything():
    found, _ = ask(GOOD, GOOD)
    assert (found.asked, found.healthy, found.unhealthy, found.unreachable) == (2, 2, 0, 0)
    assert (found.versions, found.models, found.max_model_len) == ("0.32.0", "chat", 16384)
    assert (found.without_metrics, found.without_model, found.missing) == (0, 0, None)


def test_a_dead_engine_behind_a_living_server_is_unhealthy():
    found, cluster = ask(GOOD, replace(GOOD, health=503))
    assert (found.healthy, found.unhealthy, found.unhealthy_pod) == (1, 1, cluster.pods[1].name)


def test_nobody_there_is_told_apart_from_not_ready_yet():
    found, _ = ask(GOOD, FakeEngine(health=None))
    assert (found.unreachable, found.ready_unreachable) == (1, 1)
    found, _ = ask(FakeEngine(health=None), ready=False)
    assert (found.unreachable, found.ready_unreachable) == (1, 0)


def test_one_that_serves_and_is_called_not_ready_is_told():
    assert ask(GOOD)[0].healthy_unready == 0
    found, cluster = ask(GOOD, ready=False)
    assert (found.healthy_unready, found.healthy_unready_pods) == (1, cluster.pods[0].name)


def test_a_page_without_an_engines_series_is_told():
    other = (Sample({"__name__": "process_open_fds"}, 9.0, NOW),)
    found, cluster = ask(GOOD, replace(GOOD, pages=[other]))
    assert (found.without_metrics, found.without_metrics_pods) == (1, cluster.pods[1].name)


def test_replicas_of_different_versions_are_told():
    assert ask(GOOD, replace(GOOD, version="0.31.0"))[0].versions == "0.31.0, 0.32.0"


def test_a_server_that_does_not_speak_as_vllm_is_a_reason():
    found, _ = ask(replace(GOOD, pages=[SourceError("vLLM", "is that vLLM's port?")]))
    assert found.without_metrics is None
    assert "is that vLLM's port?" in found.missing


def test_containers_that_do_not_run_are_not_asked():
    sources, cluster, _ = world(replicas=1)
    waits = replace(cluster.pods[0].containers[0], state=ContainerState("waiting", "ImagePullBackOff"))
    cluster.pods[0] = replace(cluster.pods[0], containers=(waits,))
    found = observe(Params(service="chat"), sources)
    assert (found.asked, found.healthy) == (0, None)


def test_only_so_many_are_asked():
    assert "1 more" in ask(GOOD, GOOD, max_replicas=1)[0].missing
