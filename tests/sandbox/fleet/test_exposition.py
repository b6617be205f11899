"""The page against what a real vLLM 0.32 said: the same names, types, labels, label values and buckets."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox.fleet.capacity import Gpu
from sandbox.fleet.contract import Effect, ModelProfile
from sandbox.fleet.engine import Request
from sandbox.fleet.exposition import page
from sandbox.fleet.replica import Replica
from tests.fixtures_fleet import pod

PAYLOADS = Path(__file__).parents[2] / "payloads"
# The captured server ran a tiny model with these.
ARGS = (
    "--served-model-name=tiny-llama",
    "--max-model-len=1024",
    "--block-size=32",
    "--num-gpu-blocks-override=64",
    "--max-num-seqs=8",
    "-tp=4",
)
# No interpreter of its own runs behind a simulated replica, so nothing is collected.
LEFT_OUT = {"python_gc_objects_collected", "python_gc_objects_uncollectable", "python_gc_collections"}
# Values that tell of the machine and the configuration, not of the format.
OF_THE_MACHINE = {"version", "patchlevel", "minor"}


def replica() -> Replica:
    return Replica(pod(args=ARGS), Gpu("NVIDIA-H100-80GB-HBM3", 81_559), lambda model: ModelProfile(), 0.0)


def shown(server: Replica) -> str:
    assert server.process is not None and server.capacity is not None
    return page(server, server.process, server.capacity, lambda seconds: 1.7e9 + seconds)


def under_pressure() -> Replica:
    server = replica()
    for _ in range(60):
        server.submit(Request(200, 700, 0.0, max_tokens=700), 0.0)
    server.advance(60.0)
    return server


def types(text: str) -> dict[str, str]:
    return {family.name: family.type for family in text_string_to_metric_families(text)}


def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name and labels of every sample; of the configuration's labels only the names."""
    found = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            configuration = sample.name == "vllm:cache_config_info"
            labels = {k: "…" if configuration or k in OF_THE_MACHINE else v for k, v in sample.labels.items()}
            found.add((sample.name, tuple(sorted(labels.items()))))
    return found


@pytest.mark.parametrize(
    ("capture", "simulated"),
    [("vllm-metrics-idle.txt", replica), ("vllm-metrics-pressure.txt", under_pressure)],
)
def test_names_types_labels_and_buckets_are_those_of_the_real_server(capture: str, simulated):
    real, ours = (PAYLOADS / capture).read_text(), shown(simulated())
    real_types = {name: kind for name, kind in types(real).items() if name not in LEFT_OUT}
    assert types(ours) == real_types
    left_out = tuple(f"{name}_total" for name in LEFT_OUT)
    assert series(ours) == {(name, labels) for name, labels in series(real) if name not in left_out}


def test_what_is_left_out_is_really_in_the_capture():
    assert set(types((PAYLOADS / "vllm-metrics-idle.txt").read_text())) >= LEFT_OUT


def values(server: Replica) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(shown(server))
        for sample in family.samples
        if not set(sample.labels) - {"engine", "model_name"}
    }


def test_the_values_are_the_engines():
    server = under_pressure()
    found = values(server)
    measured = server.process.measured
    assert found["vllm:num_requests_waiting"] == measured.waiting > 0
    assert found["vllm:num_requests_running"] == measured.running > 0
    assert found["vllm:num_preemptions_total"] == measured.preemptions > 0
    assert found["vllm:time_to_first_token_seconds_count"] == measured.ttft.count > 0
    assert found["vllm:kv_cache_usage_perc"] == measured.kv_cache_usage > 0.5
    assert found["vllm:generation_tokens_total"] == measured.generation_tokens
    assert found["vllm:prompt_tokens_created"] == 1.7e9


def test_the_cache_configuration_tells_of_the_arguments():
    (line,) = [line for line in shown(replica()).splitlines() if line.startswith("vllm:cache_config_info{")]
    for pair in ('block_size="32"', 'num_gpu_blocks="64"', 'kv_cache_size_tokens="2048"', 'engine="0"'):
        assert pair in line
    assert 'kv_cache_max_concurrency="2.0"' in line
    assert "model_name" not in line


def test_a_sleeping_engine_says_so():
    server = replica()
    server.apply([Effect(asleep=1)], 0.0)
    assert 'sleep_state="awake"} 0.0' in shown(server)
    assert 'sleep_state="weights_offloaded"} 1.0' in shown(server)


def test_metrics_may_be_hidden_or_renamed_by_a_fault():
    server = replica()
    effect = Effect(
        hidden_metrics=("vllm:num_requests_waiting*",),
        renamed_metrics={"vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc"},
    )
    server.apply([effect], 0.0)
    names = types(shown(server))
    assert "vllm:num_requests_waiting" not in names
    assert "vllm:kv_cache_usage_perc" not in names
    assert names["vllm:gpu_cache_usage_perc"] == "gauge"
