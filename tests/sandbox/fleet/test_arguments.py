import pytest

from sandbox.fleet.arguments import arguments, number

SHAPES = {
    "entry point of the image": ([], ["llama", "--max-num-seqs=64", "--gpu_memory_utilization", "0.9"]),
    "whole command": (["vllm", "serve", "llama"], ["--max_num_seqs", "64", "--gpu-memory-utilization=0.9"]),
    "python module": (
        ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        ["--model=llama", "--max-num-seqs=64", "--gpu-mem", "0.9"],
    ),
    "shell": (["/bin/sh", "-c"], ["vllm serve llama \\\n  --max-num-seqs 64 --gpu-memory-utilization=0.9"]),
    "shell with more before it": (
        [
            "bash",
            "-c",
            "export X=1 && cd / ; exec vllm serve $MODEL --max-num-seqs ${SEQS} --gpu-memory-utilization 0.9",
        ],
        [],
    ),
    "shell with arguments passed on": (
        ["/bin/bash", "-c", 'eval "exec vllm serve llama ${MORE} $@"', "--", "--max-num-seqs=64"],
        [],
    ),
    "expanded by the kubelet": (
        ["vllm", "serve", "$(MODEL)", "--max-num-seqs=$(SEQS)"],
        ["--gpu-memory-utilization=0.9"],
    ),
}
ENV = {"MODEL": "llama", "SEQS": "64", "MORE": "--gpu-memory-utilization 0.9"}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_which_people_write_them_is_read(shape: str):
    command, args = SHAPES[shape]
    read = arguments(command, args, ENV)
    assert read.model == "llama"
    assert read.get("max-num-seqs") == "64"
    assert read.get("gpu-memory-utilization") == "0.9"


def test_the_last_of_a_repeated_option_wins():
    read = arguments([], ["llama", "--max-num-seqs=64", "--max_num_seqs", "32"], {})
    assert read.get("max-num-seqs") == "32"


def test_switches_take_no_value():
    read = arguments([], ["--enable-prefix-caching", "llama", "--no-enable-chunked-prefill"], {})
    assert read.model == "llama"
    assert read.get("enable-prefix-caching") == "true"
    assert read.get("enable-chunked-prefill") == "false"


@pytest.mark.parametrize("words", [["-tp", "8"], ["-tp=8"], ["-tp8"], ["--tensor-parallel-size", "8"]])
def test_short_options_are_read(words: list[str]):
    assert arguments([], ["llama", *words], {}).get("tensor-parallel-size") == "8"


def test_the_first_of_several_served_names_is_the_one_of_the_metrics():
    read = arguments([], ["--served-model-name", "chat", "chat-large", "--port", "8200", "llama"], {})
    assert (read.get("served-model-name"), read.get("port"), read.model) == ("chat", "8200", "llama")


def test_an_unknown_kubelet_variable_stays_as_it_is():
    assert arguments([], ["llama", "--max-num-seqs=$(NOPE)"], {}).get("max-num-seqs") == "$(NOPE)"


def test_counts_may_have_units():
    assert [number(text) for text in ("4096", "4k", "4K", "2M")] == [4096, 4000, 4096, 2_097_152]
    with pytest.raises(ValueError):
        number("many")
