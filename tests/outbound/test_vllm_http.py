import json
import time
from pathlib import Path

import pytest

from bot.outbound.vllm_http import VllmHttp
from bot.ports import Completion, Engines, Sample, SourceError
from sandbox.addresses import free_port
from tests.fakes import NOW, FakeEngine, FakeEngines
from tests.outbound.servers import Answering, Asked, Says, Silence, Trickle, server

ENDPOINTS = json.loads((Path(__file__).parent.parent / "payloads" / "vllm-endpoints.json").read_text())
MODELS = [{"id": "chat", "max_model_len": 16384}]
PAGE = 'vllm:num_requests_running{engine="0",model_name="chat"} 7.0\n'
HELLO = [{"role": "user", "content": "hello"}]


def address(url: str) -> str:
    return url.removeprefix("http://")


def vllm(asked: Asked) -> Says:
    """As vLLM answers."""
    if asked.path == "/health":
        return Says(b"")
    if asked.path == "/version":
        return Says({"version": "0.32.0"})
    if asked.path == "/v1/models":
        return Says({"object": "list", "data": MODELS})
    if asked.path == "/v1/completions":
        return Says({"choices": [{"text": "1", "finish_reason": "length"}]})
    if asked.path == "/metrics":
        return Says(PAGE)
    if asked.path == "/tokenize":
        return Says({"count": 3, "max_model_len": 16384, "tokens": [1, 2, 3], "token_strs": None})
    if asked.path == "/detokenize":
        return Says({"prompt": "<1><2>"})
    return Says({"detail": "Not Found"}, 404)


# ---------------------------------------------------------------------------------------------- the contract


@pytest.fixture(params=["fake", "real"])
def engines_and_address(request) -> "tuple[Engines, str]":
    if request.param == "fake":
        labels = {"__name__": "vllm:num_requests_running", "engine": "0", "model_name": "chat"}
        engine = FakeEngine(
            models=tuple(MODELS),
            completion=Completion(ok=True, status=200, seconds=0.01, text="1"),
            pages=[(Sample(labels, 7.0, NOW),)],
        )
        yield FakeEngines({"127.9.0.1:8000": engine}), "127.9.0.1:8000"
        return
    with server(vllm) as pod:
        yield VllmHttp(timeout_seconds=5), address(pod.url)


def test_an_engine_that_serves_says_so(engines_and_address):
    engines, there = engines_and_address
    assert engines.health(there) == 200
    assert engines.version(there) == "0.32.0"
    assert engines.models(there) == tuple(MODELS)
    completion = engines.complete(there, "chat", timeout_seconds=5)
    assert (completion.ok, completion.status, completion.text) == (True, 200, "1")
    assert [(s.labels, s.value) for s in engines.metrics(there)] == [
        ({"__name__": "vllm:num_requests_running", "engine": "0", "model_name": "chat"}, 7.0)
    ]
    assert engines.tokenize(there, "chat", HELLO) == (1, 2, 3)
    assert engines.detokenize(there, "chat", (1, 2)) == "<1><2>"
    assert engines.paused(there) is False  # not in development mode: it knows no such page


def test_where_nobody_listens_nothing_is_known(engines_and_address):
    engines, _ = engines_and_address
    nobody = f"127.0.0.1:{free_port()}"
    assert engines.health(nobody) is None
    assert engines.version(nobody) is None
    assert engines.models(nobody) is None
    assert engines.metrics(nobody) is None
    assert engines.tokenize(nobody, "chat", HELLO) is None
    assert engines.detokenize(nobody, "chat", (1, 2)) is None
    assert engines.paused(nobody) is None
    completion = engines.complete(nobody, "chat", timeout_seconds=1)
    assert (completion.ok, completion.status) == (False, None)


# ---------------------------------------------------------------------------------------------- the real one alone


def ask(answer: Answering, question):
    with server(answer) as pod:
        return question(VllmHttp(timeout_seconds=0.5), address(pod.url)), pod.asked


def test_an_engine_that_refuses_its_health_tells_the_status():
    assert ask(lambda _: Says("dead", 503), lambda vllm, at: vllm.health(at))[0] == 503


def test_what_real_vllm_answered_is_understood():
    def replay(asked: Asked) -> Says:
        return Says(ENDPOINTS[asked.path]["body"])

    models, _ = ask(replay, lambda vllm, at: vllm.models(at))
    assert models[0]["id"] == "tiny-llama"
    assert ask(replay, lambda vllm, at: vllm.version(at))[0] == "0.32.0"


def test_one_token_of_the_model_is_asked_for():
    _, asked = ask(vllm, lambda vllm, at: vllm.complete(at, "chat", timeout_seconds=1))
    assert asked[0].path == "/v1/completions"
    question = json.loads(asked[0].body)
    assert (question["model"], question["max_tokens"], question["temperature"]) == ("chat", 1, 0)
    assert "logprobs" not in question


def test_a_longer_answer_with_its_probabilities_may_be_asked_for():
    told = {"choices": [{"text": " a b", "logprobs": {"token_logprobs": [-0.5, None]}}]}

    def question(vllm: VllmHttp, at: str):
        return vllm.complete(at, "chat", timeout_seconds=1, prompt="Count", max_tokens=2, logprobs=True)

    completion, asked = ask(lambda _: Says(told), question)
    sent = json.loads(asked[0].body)
    assert (sent["prompt"], sent["max_tokens"], sent["logprobs"]) == ("Count", 2, 1)
    assert completion.logprobs == (-0.5, None)


def test_a_page_of_metrics_as_real_vllm_serves_it_is_read_whole():
    page = (Path(__file__).parent.parent / "payloads" / "vllm-metrics-pressure.txt").read_text()
    samples, _ = ask(lambda _: Says(page), lambda vllm, at: vllm.metrics(at))
    found = {s.labels["__name__"]: s.value for s in samples if s.labels.get("engine") == "0"}
    assert found["vllm:num_requests_waiting"] == 46
    assert found["vllm:num_preemptions_total"] == 21
    assert len(samples) == sum(1 for line in page.splitlines() if line and not line.startswith("#"))


def test_what_is_no_page_of_metrics_is_said_to_be_none():
    with pytest.raises(SourceError, match="/metrics answered 404"):
        ask(lambda _: Says({"detail": "Not Found"}, 404), lambda vllm, at: vllm.metrics(at))


def test_a_server_without_a_chat_template_says_so():
    refusal = {"error": {"message": "default chat template is no longer allowed", "code": 400}}
    with pytest.raises(SourceError, match="default chat template"):
        ask(lambda _: Says(refusal, 400), lambda vllm, at: vllm.tokenize(at, "chat", HELLO))


def test_a_paused_server_says_so():
    assert ask(lambda _: Says({"is_paused": True}), lambda vllm, at: vllm.paused(at))[0] is True


def test_a_chat_is_tokenized_as_the_server_would_for_an_answer():
    _, asked = ask(vllm, lambda vllm, at: vllm.tokenize(at, "chat", HELLO))
    sent = json.loads(asked[0].body)
    assert (sent["messages"], sent["add_generation_prompt"]) == (HELLO, True)


@pytest.mark.parametrize("answer", [Silence(), Trickle()])
def test_a_hung_engine_is_a_completion_without_a_status_in_the_time_allowed(answer):
    start = time.monotonic()
    completion, _ = ask(lambda _: answer, lambda vllm, at: vllm.complete(at, "chat", timeout_seconds=0.3))
    assert (completion.ok, completion.status) == (False, None)
    assert 0.3 <= completion.seconds < 2
    assert time.monotonic() - start < 3


def test_an_engine_error_is_shown_with_its_words():
    error = {"error": {"message": "EngineCore encountered an issue."}}
    completion, _ = ask(lambda _: Says(error, 500), lambda vllm, at: vllm.complete(at, "chat", timeout_seconds=1))
    assert (completion.ok, completion.status) == (False, 500)
    assert "EngineCore encountered an issue" in completion.text


def test_a_200_that_completes_nothing_is_no_completion():
    completion, _ = ask(lambda _: Says({"hello": 1}), lambda vllm, at: vllm.complete(at, "chat", timeout_seconds=1))
    assert (completion.ok, completion.status) == (False, 200)


def test_a_redirect_is_not_followed():
    status, asked = ask(lambda _: Says(b"", 302, {"Location": "/v1/models"}), lambda vllm, at: vllm.health(at))
    assert status == 302
    assert len(asked) == 1


def test_an_answer_that_never_ends_in_size_is_cut_off():
    with pytest.raises(SourceError, match="more than"):
        ask(lambda _: Says(b"x" * 2_000_000), lambda vllm, at: vllm.models(at))


def test_a_key_that_is_asked_for_is_named():
    with pytest.raises(SourceError, match="wants an API key"):
        ask(lambda _: Says({"error": "Unauthorized"}, 401), lambda vllm, at: vllm.models(at))


def test_a_key_that_is_set_is_sent():
    with server(vllm) as pod:
        VllmHttp(timeout_seconds=1, api_key="sesame").models(address(pod.url))
    assert pod.asked[0].headers["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    "bad", ["evil.example:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1/x:80", ""]
)
def test_only_the_address_of_a_pod_is_asked(bad: str):
    with pytest.raises(SourceError, match="not the address of a pod"):
        VllmHttp().health(bad)
