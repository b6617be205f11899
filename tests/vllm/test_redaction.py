from pathlib import Path

import pytest

from bot.vllm.redaction import GONE, redact

LOG = (Path(__file__).parent.parent / "payloads" / "vllm-worker-killed.log").read_text()


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("OSError: 401 for hf_aBcDeFgHiJkLmNoPqRsTuV", "hf_aBcDeFgHiJkLmNoPqRsTuV"),
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def-ghi_jkl"),
        ("headers={'Authorization': 'Bearer s3cr3t-s3cr3t'}", "s3cr3t-s3cr3t"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("non-default args: {'host': '::', 'api_key': ['first-key', 'second-key'], 'port': 8000}", "second-key"),
        ("HF_TOKEN=abcdefg", "abcdefg"),
        ('"hf_token": "abcdefg"', "abcdefg"),
        ("vllm serve m --api-key topsecret --port 1", "topsecret"),
        ("--api-key=topsecret", "topsecret"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("AKIAIOSFODNN7EXAMPLE is not allowed", "AKIAIOSFODNN7EXAMPLE"),
        ("password: hunter22", "hunter22"),
        ("GET https://user:pa55@hub.example/models", "pa55"),
        ("https://s3.example/w?X-Amz-Signature=deadbeef&X-Amz-Date=1", "deadbeef"),
        ("token eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "SflKxwRJSMeKKF2QT4"),
        ("xoxb-1234567890-abcdef", "xoxb-1234567890-abcdef"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("Received request cmpl-1: prompt: 'my name is Ada', params: x", "Ada"),
        ("NewRequestData(req_id=1,prompt_token_ids=[1, 2, 99],mm=None)", "99"),
        ("body {'messages': [{'role': 'user', 'content': 'I am ill'}]}", "I am ill"),
        ("body {'messages': [{'content': [{'text': 'x'}]}, {'role': 'user', 'content': 'I am ill'}]}", "I am ill"),
        ('"messages": [\n  {"role": "user",\n   "content": "I am ill"}\n]', "I am ill"),
        ("{'prompt': 'my name is Ada', 'n': 1}", "Ada"),
        ('{"prompt": "my name is \\"Ada\\"", "n": 1}', "Ada"),
        ('"{\\"prompt\\": \\"my name is \\\\\\"Countess\\\\\\" Ada\\", \\"n\\": 1}"', "Ada"),
        ("prompt=['my [first] name', 'is Ada']", "Ada"),
        ("{'type': 'text', 'text': 'I am ill'}", "I am ill"),
        ("Generated response cmpl-1: output: 'you are ill', output_token_ids: [1, 99]", "ill"),
        ("Generated response cmpl-1: output: 'you are well', output_token_ids: [1, 99]", "99"),
        ("Received request cmpl-1: prompt: 'my name is Ada (the line was cut he", "Ada"),
        ("{'api_key': ['first]key', 'second-key'], 'port': 8000}", "second-key"),
        ("['--api-key', 'topsecret', '--port', '1']", "topsecret"),
        ("--api-key first-key second-key --port 1", "second-key"),
        ("--api-key 'top secret', and cut", "secret'"),
        ('{"name": "HF_TOKEN", "value": "abcdefg"}', "abcdefg"),
        ("redis://user:pa55@cache:6379/0", "pa55"),
        ("redis://:pa55@w0rd@cache:6379/0", "w0rd"),
        ("s3://ACCESSKEY:SECRETKEY@bucket/model", "ACCESSKEY"),
        ("postgresql://u:pa55@db/store", "pa55"),
        ("git+https://glptoken@hub.example/models", "glptoken"),
    ],
)
def test_a_secret_does_not_pass(line, secret):
    told = redact(line)
    assert secret not in told
    assert GONE in told


@pytest.mark.parametrize(
    "line",
    [
        "max_tokens=1024, prompt_tokens: 12",
        "Maximum concurrency for 1,024 tokens per request: 2.00x",
        "tokenizer='tiny-llama', tokenizer_mode=auto",
        "--max-num-batched-tokens 8192 --max-model-len 4096",
        "Avg prompt throughput: 122.8 tokens/s, Avg generation throughput: 751.7 tokens/s, Running: 1 reqs",
        "vllm serve: error: unrecognized arguments: --disable-log-requests",
        "Try increasing `gpu_memory_utilization` when initializing the engine",
        "secret chat-keys not found",
        "docker-pullable://vllm/vllm-openai@sha256:4e2f1c",
        "limit_mm_per_prompt={'image': 2}",
        "  Value error, Sleep mode is not supported. [type=value_error, input_value=ArgsKwargs((), {",
        "GET http://10.0.0.1:8000/health: connection refused",
    ],
)
def test_what_is_no_secret_stays(line):
    assert redact(line) == line


def test_what_was_cut_within_a_quote_goes_to_the_end_of_its_line_and_no_further():
    told = redact("prompt: 'my name is Ada\nCUDA error: an illegal memory access\nit can't be")
    assert told == "prompt: [redacted]\nCUDA error: an illegal memory access\nit can't be"


def test_a_bracket_that_never_closes_costs_its_line_and_not_the_whole_text():
    line = "prompt: ['a', and so on"
    told = redact("\n".join([line] * 4000))
    assert told == "\n".join(["prompt: [redacted]"] * 4000)


def test_what_stands_beside_a_secret_stays():
    assert redact("{'api_key': ['a', 'b'], 'port': 8000}") == "{'api_key': [redacted], 'port': 8000}"
    assert redact("redis://user:pa55@cache:6379/0 refused") == "redis://[redacted]@cache:6379/0 refused"
    assert redact("--api-key a b --port 1") == "--api-key [redacted] --port 1"


def test_the_log_of_a_real_crash_stays_readable():
    told = redact(LOG)
    assert "Worker proc VllmWorker-0 died unexpectedly (exit code: -9)" in told
    assert told.count("\n") == LOG.count("\n")
    assert redact(told) == told
