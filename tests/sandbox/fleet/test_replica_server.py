import concurrent.futures
import json
import threading
import time

import pytest
import requests

from sandbox.fleet.contract import Effect, Match
from tests.fixtures_fleet import DEFAULT_ARGS, PlayedFleet, pod_json, until


@pytest.fixture
def url(played_fleet: PlayedFleet) -> str:
    return serve(played_fleet)


def serve(fleet: PlayedFleet, *more: str) -> str:
    ip = f"{fleet.prefix}.1"
    fleet.see(pod_json(ip=ip, args=(*DEFAULT_ARGS, *more)))
    until(lambda: fleet.listening("chat-0"))
    return f"http://{ip}:8000"


def complete(url: str, timeout: float = 20, **body) -> requests.Response:
    return requests.post(f"{url}/v1/completions", json={"prompt": "why is it slow", **body}, timeout=timeout)


def sample(url: str, name: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=5).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_the_pages_that_probes_ask_for(url: str):
    assert requests.get(f"{url}/health", timeout=5).content == b""
    assert requests.get(f"{url}/version", timeout=5).json() == {"version": "0.32.0"}
    (model,) = requests.get(f"{url}/v1/models", timeout=5).json()["data"]
    assert (model["id"], model["max_model_len"]) == ("chat-70b", 32_768)
    assert requests.get(f"{url}/metrics", timeout=5).headers["Content-Type"].startswith("text/plain; version=1.0.0")


def test_a_completion_goes_through_the_queue_and_is_counted(url: str):
    started = time.monotonic()
    answer = complete(url, max_tokens=30).json()
    assert time.monotonic() - started > 0.5, "30 tokens take 20 ms each"
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 30, "total_tokens": 34}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["system_fingerprint"] == "vllm-0.32.0-tp4"
    assert sample(url, "vllm:request_success_total") == 1
    assert sample(url, 'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}') == 1


def test_the_same_prompt_gets_the_same_words(url: str):
    first, second = (complete(url, max_tokens=5).json()["choices"][0]["text"] for _ in range(2))
    assert first == second


def test_a_stream_brings_one_token_at_a_time(url: str):
    asked = {"messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 10}
    with requests.post(f"{url}/v1/chat/completions", json=asked, stream=True, timeout=20) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"
    pieces = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    assert len(pieces) == 10
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None] * 9 + ["length"]


def test_wrong_requests_get_vllms_errors(url: str):
    unknown = complete(url, model="other")
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "The model `other` does not exist.")
    long = complete(url, prompt=[1] * 40_000)
    assert long.status_code == 400
    assert "maximum context length is 32768 tokens" in long.json()["error"]["message"]
    assert complete(url, max_tokens=0).status_code == 400
    assert requests.get(f"{url}/nope", timeout=5).status_code == 404
    assert sample(url, "http_requests_total") == 4


def test_probes_pages_are_not_counted(url: str):
    for path in ("/health", "/version", "/metrics"):
        requests.get(url + path, timeout=5)
    assert sample(url, "http_requests_total") == 0


def test_a_full_queue_answers_503(played_fleet: PlayedFleet):
    url = serve(played_fleet, "--max-num-seqs=1", "--max-num-queued-reqs=1")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        statuses = sorted(r.status_code for r in pool.map(lambda _: complete(url, max_tokens=40), range(6)))
    assert statuses == [200, 200, 503, 503, 503, 503]
    assert sample(url, "vllm:admission_rejections_total") == 4


def test_an_api_key_guards_v1_only(played_fleet: PlayedFleet):
    url = serve(played_fleet, "--api-key=sesame")
    assert complete(url).status_code == 401
    assert requests.get(f"{url}/v1/models", headers={"Authorization": "Bearer sesame"}, timeout=5).ok
    assert requests.get(f"{url}/metrics", timeout=5).ok


def test_a_client_that_leaves_frees_its_place(url: str, played_fleet: PlayedFleet):
    with pytest.raises(requests.Timeout):
        complete(url, timeout=0.3, max_tokens=10_000)
    until(lambda: played_fleet.control.state()["replicas"][0]["running"] == 0)
    assert sample(url, "vllm:request_success_total") == 0


def test_a_hung_engine_is_healthy_and_answers_no_completion(url: str, played_fleet: PlayedFleet):
    played_fleet.control.set_fault("hang", Match(), Effect(hung=True))
    assert requests.get(f"{url}/health", timeout=5).ok
    with pytest.raises(requests.Timeout):
        complete(url, timeout=0.5)
    played_fleet.control.clear_fault("hang")
    assert complete(url, max_tokens=2).ok


def test_a_deleted_pod_drops_requests_and_open_connections(url: str, played_fleet: PlayedFleet):
    kept = requests.Session()
    kept.get(f"{url}/health", timeout=5)
    failed: list[Exception] = []

    def ask() -> None:
        try:
            complete(url, max_tokens=10_000)
        except requests.RequestException as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: played_fleet.control.state()["replicas"][0]["running"] == 1)
    played_fleet.see()
    asking.join(5)
    assert failed
    with pytest.raises(requests.ConnectionError):
        kept.get(f"{url}/health", timeout=5)


def test_tokenize_counts(url: str):
    counted = requests.post(f"{url}/tokenize", json={"prompt": "why is it slow?"}, timeout=5).json()
    assert (counted["count"], counted["max_model_len"]) == (5, 32_768)


def test_detokenize_writes_the_numbers_of_tokens(url: str):
    assert requests.post(f"{url}/detokenize", json={"tokens": [7, 8]}, timeout=5).json() == {"prompt": "7 8"}
