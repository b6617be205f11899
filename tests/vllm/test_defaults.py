import pytest

from bot.vllm.arguments import arguments_of
from bot.vllm.defaults import Gpu, effective, gpu_of, version_in, version_of
from tests.fakes import container

H100 = Gpu("NVIDIA-H100-80GB-HBM3", 79.6)
A100 = Gpu("NVIDIA-A100-SXM4-80GB", 80.0)
L40S = Gpu("NVIDIA-L40S", 44.7)
B200 = Gpu("NVIDIA-B200", 178.0)


def run(*args, version=(0, 32), gpu=H100, command=()):
    return effective(arguments_of(container(command=command, args=args)), version, gpu)


def test_the_defaults_depend_on_the_gpu():
    assert run(gpu=H100).max_num_seqs == 1024
    assert run(gpu=A100).max_num_seqs == 256  # however large
    assert run(gpu=L40S).max_num_seqs == 256
    assert run(gpu=None).max_num_seqs is None
    assert [run(gpu=gpu).max_num_batched_tokens for gpu in (B200, H100, L40S)] == [16384, 8192, 2048]


def test_the_defaults_depend_on_the_version():
    assert run(version=(0, 19)).gpu_memory_utilization == 0.9
    assert run(version=(0, 20)).gpu_memory_utilization == 0.92
    assert run(version=None).gpu_memory_utilization is None
    assert run(version=(0, 32)).chunked_prefill is True
    assert run(version=(0, 8)).prefix_caching is None  # V0 or V1: not known


def test_what_is_given_wins():
    found = run("m", "--max-num-seqs=64", "--no-enable-chunked-prefill", "--gpu-memory-utilization=0.8", "-tp4")
    assert found.max_num_seqs == 64
    assert found.chunked_prefill is False
    assert found.gpu_memory_utilization == 0.8
    assert found.tensor_parallel_size == 4


def test_what_may_be_hidden_has_no_default():
    found = run("m", "--config", "/x.yaml", "--max-num-seqs=64")
    assert found.max_num_seqs == 64
    assert found.gpu_memory_utilization is None and found.chunked_prefill is None and found.tensor_parallel_size is None


def test_a_given_word_is_not_replaced_by_the_default():
    assert run("m", "--max-num-seqs=many").max_num_seqs is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("vllm/vllm-openai:v0.32.0", (0, 32)),
        ("registry:5000/hub/vllm/vllm-openai:v0.9.2-cu128", (0, 9)),
        ("registry:5000/team/vllm:0.9.2-cu128", None),  # of its own numbers
        ("nvcr.io/nvidia/vllm:25.09-py3", None),
        ("ghcr.io/llm-d/llm-d-cuda:v0.6.0", None),
        ("lmcache/vllm-openai:v0.3.9", None),
        ("not-vllm/vllm-openai:v0.3.9", None),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai@sha256:0123", None),
        ("vllm/vllm-openai:v0.31.1@sha256:0123", (0, 31)),
    ],
)
def test_versions_by_tag(text, version):
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.32.0", (0, 32)), ("0.10.1.1+381074ae.nv25.09", (0, 10)), ("0.1.dev1+g1a2b3c4", None), ("main", None)],
)
def test_versions_as_servers_say_them(text, version):
    assert version_in(text) == version


def test_gb10_counts_as_small_since_0_33():
    gb10 = Gpu("NVIDIA-GB10", 119.0)
    assert [run(gpu=gb10, version=v).max_num_seqs for v in ((0, 32), (0, 33), None)] == [1024, 256, None]
    assert run(gpu=Gpu("NVIDIA-GB10", None), version=(0, 33)).max_num_batched_tokens == 2048
    assert run(gpu=H100, version=(0, 33)).max_num_seqs == 1024


def test_gpu_memory_comes_from_the_label_before_the_products_name():
    assert gpu_of({"nvidia.com/gpu.memory": "81559"}, "NVIDIA-H100-80GB-HBM3").memory_gib == pytest.approx(
        79.6, abs=0.1
    )
    assert gpu_of({}, "NVIDIA-H200").large is True
    assert gpu_of({}, "NVIDIA-L4").large is False
    assert gpu_of({}, "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb").large is False
    assert gpu_of({}, None).large is None
    assert gpu_of({}, "NVIDIA-NEXT").large is None
