from random import Random

import pytest

from sandbox.fleet.arguments import arguments
from sandbox.fleet.capacity import CannotStart, Capacity, Gpu, capacity, draw, saturation_rps
from sandbox.fleet.contract import ModelProfile, RequestKind

H100 = Gpu("NVIDIA-H100-80GB-HBM3", 81_559)
L4 = Gpu("NVIDIA-L4", 23_034)
MODEL = ModelProfile()


def of(*args: str, gpu: Gpu = H100, model: ModelProfile = MODEL) -> Capacity:
    return capacity(arguments([], ["llama", *args], {}), gpu, model)


def test_70b_in_fp8_on_four_h100_has_about_seven_hundred_thousand_kv_tokens():
    assert of("-tp=4").limits.kv_tokens == pytest.approx(705_000, rel=0.01)


def test_more_memory_for_vllm_is_more_kv_cache_and_a_fp8_cache_is_twice_as_large():
    normal = of("-tp=4").limits.kv_tokens
    assert of("-tp=4", "--gpu-memory-utilization=0.8").limits.kv_tokens < normal
    assert of("-tp=4", "--kv-cache-dtype=fp8").limits.kv_tokens == pytest.approx(2 * normal, rel=0.001)


def test_memory_in_use_is_what_weights_and_cache_take():
    used = of("-tp=4", "--gpu-memory-utilization=0.9").gpu_memory_used_mib
    assert used == pytest.approx(81_559 * 0.9, rel=0.01)


def test_kv_memory_may_be_given_and_blocks_overridden():
    assert of("-tp=4", "--kv-cache-memory-bytes=2G", "--max-model-len=8192").limits.kv_tokens == 26_208
    assert of("-tp=4", "--num-gpu-blocks-override=1024", "--max-model-len=8192").limits.num_blocks == 1024


def test_defaults_depend_on_the_gpu():
    small = ModelProfile(weights_gib=8, kv_bytes_per_token=131_072, max_model_len=8192)
    assert (of("-tp=4").limits.max_num_seqs, of(gpu=L4, model=small).limits.max_num_seqs) == (1024, 256)
    assert of("-tp=4").limits.max_num_batched_tokens == 8192
    assert of(gpu=L4, model=small).limits.max_num_batched_tokens == 2048


def test_weights_that_do_not_fit_end_the_start_and_say_what_to_raise():
    with pytest.raises(CannotStart, match="No available memory for the cache blocks"):
        of("-tp=1", model=ModelProfile(weights_gib=131))


def test_a_context_that_does_not_fit_ends_the_start():
    with pytest.raises(CannotStart, match="max seq len"):
        of("-tp=4", "--kv-cache-memory-bytes=1G")


def test_auto_takes_the_longest_context_that_fits():
    assert of("-tp=4", "--kv-cache-memory-bytes=1G", "--max-model-len=auto").limits.max_model_len == 13_088


@pytest.mark.parametrize("word", ["--max-num-seqs=many", "--max-num-seqs=0", "--gpu-memory-utilization=90"])
def test_values_that_vllm_refuses_end_the_start(word: str):
    with pytest.raises(CannotStart, match=word.split("=")[0]):
        of("-tp=4", word)


def test_twice_the_gpus_are_faster_but_not_twice_as_fast():
    four, eight = of("-tp=4").cost, of("-tp=8").cost
    assert 1.4 < four.sequence_seconds / eight.sequence_seconds < 2
    assert four.host_seconds == eight.host_seconds


def test_fewer_sequences_mean_fewer_requests_per_second():
    kinds = (RequestKind(),)

    def rate(*args: str) -> float:
        found = of("-tp=4", *args)
        return saturation_rps(found.limits, found.cost, kinds)

    assert rate("--max-num-seqs=32") == pytest.approx(26.7, rel=0.05)
    assert rate("--max-num-seqs=4") < 6
    found = of("-tp=4", "--max-num-seqs=32")
    assert saturation_rps(found.limits, found.cost, kinds, slowdown=4) < 8


def test_a_mix_is_drawn_by_weight_and_within_its_spread():
    kinds = (RequestKind(weight=9, prompt_tokens=100), RequestKind(weight=1, prompt_tokens=10_000, cached_ratio=0.5))
    random = Random(7)
    drawn = [draw(kinds, random, 0.0) for _ in range(1000)]
    long = [request for request in drawn if request.prompt_tokens > 1000]
    assert 70 < len(long) < 130
    assert all(5_000 <= request.prompt_tokens <= 15_000 for request in long)
    assert all(request.cached_tokens == request.prompt_tokens // 2 for request in long)
