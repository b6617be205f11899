from sandbox.fleet.pods import node_facts, pod_facts
from tests.fixtures_fleet import node_json, pod_json


def test_a_pod_is_read_as_the_api_server_writes_it():
    facts = pod_facts(pod_json("chat-1", env={"LOG": "1"}, restarts=2))
    assert facts is not None
    assert (facts.namespace, facts.name, facts.node, facts.ip) == ("llm", "chat-1", "gpu-01", "127.9.0.1")
    assert (facts.ready, facts.running, facts.terminating, facts.restarts) == (True, True, False, 2)
    assert (facts.gpus, facts.env, facts.container) == (4, {"LOG": "1"}, "vllm")


def test_a_pod_that_loads_runs_and_is_not_ready():
    facts = pod_facts(pod_json(ready=False))
    assert facts is not None
    assert (facts.ready, facts.running) == (False, True)


def test_a_pod_without_vllm_is_none_of_ours():
    other = pod_json(image="nginx:1.27")
    other["spec"]["containers"][0]["args"] = []
    assert pod_facts(other) is None


def test_a_pod_that_ended_for_good_is_none_of_ours():
    done = pod_json()
    done["status"]["phase"] = "Succeeded"
    assert pod_facts(done) is None


def test_beside_a_proxy_the_container_with_the_gpus_counts():
    pod = pod_json()
    pod["spec"]["containers"].insert(0, {"name": "routing-proxy", "image": "llm-d/vllm-routing-sidecar:1"})
    facts = pod_facts(pod)
    assert facts is not None
    assert facts.container == "vllm"


def test_a_pod_that_has_not_been_scheduled_yet_is_known():
    pod = pod_json()
    del pod["spec"]["nodeName"]
    pod["status"] = {"phase": "Pending"}
    facts = pod_facts(pod)
    assert facts is not None
    assert (facts.node, facts.ip, facts.running, facts.ready) == (None, None, False, False)


def test_a_node_says_what_gpus_it_has():
    facts = node_facts(node_json("gpu-07", gpus=8))
    assert facts is not None
    assert (facts.name, facts.gpus, facts.gpu.memory_mib) == ("gpu-07", 8, 81_559)


def test_a_node_without_gpus_is_none_of_ours():
    assert node_facts({"metadata": {"name": "cpu-1"}, "status": {"capacity": {"cpu": "4"}}}) is None
