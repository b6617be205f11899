import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.vllm_kv_cache import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import UP, by_pod, world


def config(**labels):
    return Answer((Sample({"engine": "0", **labels}, 1, NOW),))


def ask(answers, usage=(0.91, 0.5, 0.6)):
    sources, cluster, _ = world()
    sources.metrics.answers = {**answers, **({"kv_cache_usage": by_pod(cluster, *usage)} if usage else {})}
    return observe(Params(service="chat"), sources)


def test_the_fullest_replica_and_all_of_them():
    found = ask({"preemptions": 24.0, "cache_config": config(kv_cache_size_tokens="705000")})
    assert found.usage_ratio_max == 0.91
    assert found.usage_ratio_mean == pytest.approx(0.67)
    assert found.preemptions_per_minute == 24.0
    assert found.capacity_tokens == 705000


def test_a_cache_that_was_full_a_moment_ago_is_full():
    found = ask({"max_over_time(vllm:kv_cache_usage": 0.98}, usage=(0.79, 0.5, 0.6))
    assert found.usage_ratio_max == 0.98
    assert found.usage_ratio_mean == pytest.approx(0.63)


def test_before_0_24_the_capacity_is_blocks_times_their_size():
    assert ask({"cache_config": config(num_gpu_blocks="64", block_size="32")}).capacity_tokens == 2048


def test_a_capacity_that_one_replica_does_not_tell_is_unknown():
    both = Answer((Sample({"kv_cache_size_tokens": "10"}, 1, NOW), Sample({"kv_cache_size_tokens": "None"}, 1, NOW)))
    assert ask({"cache_config": both}).capacity_tokens is None


def test_a_counter_that_is_not_there_is_not_zero():
    assert ask({}).preemptions_per_minute is None


def test_no_series_is_not_an_empty_cache():
    found = ask({**UP, "preemptions": 3.0}, usage=())
    assert found.usage_ratio_max is None and found.preemptions_per_minute is None and found.missing


def test_prometheus_down_is_raised():
    with pytest.raises(SourceError):
        ask({"kv_cache_usage": NOT_ANSWERING}, usage=())


def test_how_many_are_thrown_out_for_each_that_finishes():
    assert ask({"preemptions": 3.0, "/ sum(max by": 0.75}).preemptions_per_request == 0.75
    assert ask({"preemptions": 3.0, "/ sum(max by": float("inf")}).preemptions_per_request is None
