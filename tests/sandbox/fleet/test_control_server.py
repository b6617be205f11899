import pytest
import requests

from sandbox.fleet.contract import GpuFault, GpuReadings, RequestKind
from tests.fixtures_fleet import PlayedFleet, node_json, pod_json, until

SELECTOR = {"app": "chat"}


@pytest.fixture
def fleet(played_fleet: PlayedFleet) -> PlayedFleet:
    """With one replica up."""
    played_fleet.see(pod_json(ip=f"{played_fleet.prefix}.1"))
    until(lambda: played_fleet.listening("chat-0"))
    return played_fleet


def test_a_load_is_offered_changed_and_taken_away(fleet: PlayedFleet):
    control = fleet.control
    control.set_load("chat", namespace="llm", selector=SELECTOR, requests_per_second=50)
    until(lambda: control.state()["loads"]["chat"]["tally"]["finished"] > 0)
    control.change_load("chat", requests_per_second=5)
    assert control.state()["loads"]["chat"]["requests_per_second"] == 5
    control.change_load("chat", mix=[RequestKind(prompt_tokens=9)])
    changed = control.state()["loads"]["chat"]
    assert (changed["requests_per_second"], changed["mix"][0]["prompt_tokens"]) == (5, 9)
    control.drop_load("chat")
    assert control.state()["loads"] == {}


def test_saturation_is_told(fleet: PlayedFleet):
    fleet.control.set_load("chat", namespace="llm", selector=SELECTOR, requests_per_second=0)
    assert fleet.control.saturation_rps("chat") == pytest.approx(26.7, rel=0.05)
    fleet.see()
    until(lambda: not fleet.control.state()["replicas"])
    assert fleet.control.saturation_rps("chat") is None


def test_an_unknown_load_is_an_error_that_names_the_known_ones(fleet: PlayedFleet):
    fleet.control.set_load("chat", namespace="llm", selector=SELECTOR, requests_per_second=0)
    with pytest.raises(requests.HTTPError, match="No load 'chta'; there are: chat"):
        fleet.control.change_load("chta", requests_per_second=5)


def test_a_misspelt_word_is_an_error_that_names_it(fleet: PlayedFleet):
    url = f"{fleet.control.url}/faults/x"
    answer = requests.put(url, json={"match": {}, "effect": {"slowdwon": 4}}, timeout=5)
    assert answer.status_code == 422
    assert "slowdwon" in answer.text


def test_targets_carry_the_labels_a_pod_monitor_gives(fleet: PlayedFleet):
    (group,) = requests.get(fleet.control.vllm_sd_url, timeout=5).json()
    assert group == {
        "targets": [f"{fleet.prefix}.1:8000"],
        "labels": {"namespace": "llm", "pod": "chat-0", "container": "vllm", "node": "gpu-01"},
    }


def test_loading_pods_are_targets_and_terminating_ones_are_not(fleet: PlayedFleet):
    fleet.see(
        pod_json("loading", ip=f"{fleet.prefix}.2", ready=False),
        pod_json("ending", ip=f"{fleet.prefix}.3", terminating=True),
        pod_json("pending", ip=None, ready=False, running=False),
    )
    until(lambda: len(fleet.control.state()["replicas"]) == 3)
    groups = requests.get(fleet.control.vllm_sd_url, timeout=5).json()
    assert [group["labels"]["pod"] for group in groups] == ["loading"]


def test_each_gpu_node_is_a_target_with_its_own_page(fleet: PlayedFleet):
    fleet.nodes.replace([node_json("gpu-01"), node_json("gpu-02")])
    until(lambda: len(requests.get(fleet.control.dcgm_sd_url, timeout=5).json()) == 2)
    for group in requests.get(fleet.control.dcgm_sd_url, timeout=5).json():
        node = group["labels"]["node"]
        page = requests.get(f"http://{group['targets'][0]}{group['labels']['__metrics_path__']}", timeout=5)
        assert page.text.count("DCGM_FI_DEV_GPU_UTIL{") == 8
        assert f'Hostname="{node}"' in page.text


def test_gpu_faults_come_and_go(fleet: PlayedFleet):
    page = f"{fleet.control.url}/dcgm/gpu-01/metrics"
    fleet.control.set_gpu_fault("hot", GpuFault(gpu=0, readings=GpuReadings(temperature_celsius=93)))
    assert " 93.000000" in requests.get(page, timeout=5).text
    fleet.control.clear_gpu_fault("hot")
    assert " 93.000000" not in requests.get(page, timeout=5).text
    fleet.control.set_gpu_fault("silent", GpuFault(exporter_down=True))
    assert requests.get(page, timeout=5).status_code == 503
