from dataclasses import replace

import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.engine_args import Params, observe
from tests.fakes import NOT_ANSWERING, NOW, FakeEngine, FakeEngines
from tests.probes.fleets import world


def ask(args=("org/model", "--max-num-seqs=256"), engine=None, change=None, said=None):
    """said: the labels of each pod's cache_config_info."""
    sources, cluster, _ = world(args=args)
    if said is not None:
        own = [{"namespace": p.namespace, "pod": p.name, "engine": "0", **said} for p in cluster.pods]
        sources.metrics.answers["vllm:cache_config_info"] = Answer(tuple(Sample(labels, 1, NOW) for labels in own))
    if change is not None:
        change(cluster)
    engines = FakeEngines({f"{pod.ip}:8000": engine or FakeEngine() for pod in cluster.pods})
    return observe(Params(service="chat"), replace(sources, engines=engines))


def image(name):
    def change(cluster):
        cluster.pods = [
            replace(pod, containers=tuple(replace(c, image=name) for c in pod.containers)) for pod in cluster.pods
        ]

    return change


def test_what_is_given_and_what_is_defaulted():
    found = ask()
    assert (found.max_num_seqs, found.max_num_seqs_explicit) == (256, True)
    assert (found.gpu_memory_utilization_ratio, found.gpu_memory_utilization_explicit) == (0.92, False)
    assert (found.chunked_prefill, found.prefix_caching, found.tensor_parallel_size) == (True, True, 1)
    assert (found.max_num_batched_tokens, found.version, found.model) == (8192, "0.32.0", "chat")
    assert found.missing is None


def test_the_models_own_length_is_what_the_server_says():
    found = ask()
    assert (found.max_model_len, found.max_model_len_explicit) == (16384, False)
    assert ask(args=("m", "--max-model-len=4K")).max_model_len == 4096


def test_a_tag_that_tells_no_version_is_asked_of_the_server():
    found = ask(engine=FakeEngine(version="0.19.1"), change=image("vllm/vllm-openai:latest"))
    assert (found.version, found.gpu_memory_utilization_ratio) == ("0.19.1", 0.9)


def test_the_version_that_the_server_says_goes_before_the_tags():
    found = ask(engine=FakeEngine(version="0.19.1"), change=image("vllm/vllm-openai:v0.32.0"))
    assert (found.version, found.gpu_memory_utilization_ratio) == ("0.19.1", 0.9)


def test_the_tag_of_somebody_elses_image_is_no_version_of_vllm():
    other = image("nvcr.io/nvidia/vllm:25.09-py3")
    found = ask(engine=FakeEngine(version="0.10.1.1+381074ae.nv25.09"), change=other)
    assert (found.gpu_memory_utilization_ratio, found.chunked_prefill) == (0.9, True)
    silent = ask(engine=FakeEngine(health=None), change=other)
    assert (silent.version, silent.gpu_memory_utilization_ratio, silent.chunked_prefill) == (None, None, None)


def test_what_the_engine_says_of_its_cache_goes_before_what_is_given_and_what_is_defaulted():
    said = {"gpu_memory_utilization": "0.85", "enable_prefix_caching": "False", "block_size": "16"}
    found = ask(args=("org/model", "--gpu-memory-utilization=0.5"), said=said)
    assert (found.gpu_memory_utilization_ratio, found.prefix_caching) == (0.85, False)
    hidden = ask(args=("m", "--config", "/etc/vllm.yaml"), said=said)
    assert (hidden.gpu_memory_utilization_ratio, hidden.prefix_caching, hidden.chunked_prefill) == (0.85, False, None)


def test_what_the_engine_does_not_say_is_taken_from_its_arguments():
    found = ask(said={"gpu_memory_utilization": "None"})
    assert (found.gpu_memory_utilization_ratio, found.prefix_caching) == (0.92, True)


def test_without_prometheus_the_pod_tells():
    sources, _, _ = world()
    sources.metrics.down = NOT_ANSWERING
    found = observe(Params(service="chat"), sources)
    assert found.max_num_seqs == 256 and "what engines say of their cache is not known" in found.missing


def test_a_server_that_does_not_answer_leaves_what_the_pod_tells():
    found = ask(engine=FakeEngine(health=None))
    assert (found.max_num_seqs, found.max_model_len, found.version, found.model) == (256, None, "0.32", "org/model")


def test_a_server_that_wants_a_key_is_said():
    sources, _, _ = world()
    down = FakeEngines(down=SourceError("vLLM", "10.0.0.1:8000/v1/models wants an API key"))
    found = observe(Params(service="chat"), replace(sources, engines=down))
    assert found.max_num_seqs == 256 and "wants an API key" in found.missing


def test_replicas_that_differ_are_told():
    def differ(cluster):
        other = replace(cluster.pods[0].containers[0], args=("org/model", "--max-num-seqs=64"))
        cluster.pods[0] = replace(cluster.pods[0], containers=(other,))

    found = ask(change=differ)
    assert found.max_num_seqs is None
    assert found.missing == "replicas differ in max_num_seqs: 64 or 256"


def test_a_config_file_hides_what_is_not_given():
    found = ask(args=("m", "--config", "/etc/vllm.yaml", "--max-num-seqs=64"))
    assert (found.max_num_seqs, found.chunked_prefill, found.max_model_len_explicit) == (64, None, None)
    assert "--config file" in found.missing


def test_no_pods_is_said():
    sources, _, _ = world(replicas=0)
    assert "no pods that run vLLM" in observe(Params(service="chat"), sources).missing


def test_the_api_server_down_is_raised():
    with pytest.raises(SourceError):
        ask(change=lambda cluster: setattr(cluster, "down", NOT_ANSWERING))
