import pytest

from bot.vllm.arguments import arguments_of, count, serving_container
from tests.fakes import container


def read(*args, command=(), env=None):
    return arguments_of(container(command=command, args=args, env=env))


# --- B.1: the rules


@pytest.mark.parametrize(
    "words",
    [
        ("--gpu-memory-utilization", "0.9"),
        ("--gpu-memory-utilization=0.9",),
        ("--gpu_memory_utilization", "0.9"),
        ("--gpu_memory_utilization=0.9",),
        ("--gpu-mem", "0.9"),
        ("--device-memory-utilization", "0.9"),
        ("--gpu-memory-utilization=0.5", "--gpu_memory_utilization", "0.9"),
    ],
)
def test_one_option_however_it_is_written(words):
    assert read("model", *words).ratio("gpu-memory-utilization") == 0.9


def test_the_last_one_wins():
    assert read("m", "--max-num-seqs=256", "--max_num_seqs", "64").number("max-num-seqs") == 64


def test_an_abbreviation_that_fits_several_names_is_left_alone():
    assert "max-num-seqs" not in read("m", "--max-num", "5").given


@pytest.mark.parametrize("words", [("-tp8",), ("-tp", "8"), ("-tp=8",), ("--tensor-parallel-size", "8")])
def test_short_forms(words):
    assert read("m", *words).number("tensor-parallel-size") == 8


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (("-dpl", "4"), "data-parallel-size-local", "4"),
        (("-dpl4",), "data-parallel-size-local", "4"),
        (("-dp", "4"), "data-parallel-size", "4"),
        (("-dpn=1",), "data-parallel-rank", "1"),
        (("-dpr", "2"), "data-parallel-start-rank", "2"),
        (("-dpa", "10.0.0.1"), "data-parallel-address", "10.0.0.1"),
        (("-pcp", "2"), "prefill-context-parallel-size", "2"),
        (("-dcp=2",), "decode-context-parallel-size", "2"),
        (("-ep", "-dp", "4"), "enable-expert-parallel", "true"),
        (("-dph", "-dp", "4"), "data-parallel-hybrid-lb", "true"),
        (("-O3",), "optimization-level", "3"),
        (("-q", "fp8"), "quantization", "fp8"),
    ],
)
def test_short_forms_of_several_letters(words, option, value):
    assert read("m", *words).given[option] == value


def test_switches_on_off_and_inverted():
    assert read("m", "--enable-prefix-caching").switch("enable-prefix-caching") is True
    assert read("m", "--no-enable-prefix-caching").switch("enable-prefix-caching") is False
    assert read("m", "--no_enable_chunked_prefill").switch("enable-chunked-prefill") is False
    assert read("m", "--disable-prefix-caching").switch("enable-prefix-caching") is False
    assert read("m", "--enable-chunked-prefill=False").switch("enable-chunked-prefill") is False
    assert read("m").switch("enable-prefix-caching") is None


def test_a_switch_does_not_swallow_the_model():
    assert read("--enable-prefix-caching", "org/model", "--max-num-seqs", "4").model == "org/model"


def test_the_model_may_be_an_option():
    assert read("--model", "org/model").model == "org/model"


@pytest.mark.parametrize(
    ("text", "value"), [("4096", 4096), ("4k", 4000), ("4K", 4096), ("1.5k", 1500), ("auto", None), ("-1", None)]
)
def test_counts_with_suffixes(text, value):
    assert count(text) == value


def test_auto_is_given_but_is_no_number():
    arguments = read("m", "--max-model-len", "-1")
    assert "max-model-len" in arguments.given and arguments.number("max-model-len") is None


def test_json_and_dotted_values_are_values():
    arguments = read("m", "--compilation-config", '{"mode": 3}', "--compilation_config.level=1", "--max-num-seqs=8")
    assert arguments.given["compilation-config"] == '{"mode": 3}'
    assert arguments.given["compilation-config.level"] == "1"
    assert arguments.number("max-num-seqs") == 8


def test_a_config_file_hides_options_in_the_form_that_vllm_loads():
    assert "--config" in read("m", "--config", "/etc/vllm.yaml").hidden
    assert read("m", "--config=/etc/vllm.yaml").hidden is None  # passes silently unloaded


def test_several_served_names_are_one_option():
    arguments = read("--served-model-name", "a", "b", "--max-num-seqs", "4")
    assert arguments.model is None and arguments.number("max-num-seqs") == 4


# --- B.4: the shapes


def test_shape_1_the_images_entry_point():
    assert read("org/model", "--max-num-seqs=256").given == {"max-num-seqs": "256"}


def test_shape_2_everything_in_command():
    command = ("vllm", "serve", "org/model", "--gpu_memory_utilization", "0.9", "--no-enable-prefix-caching")
    arguments = read(command=command)
    assert arguments.model == "org/model"
    assert arguments.given == {"gpu-memory-utilization": "0.9", "enable-prefix-caching": "false"}


def test_shape_2_split_between_command_and_args():
    arguments = read("serve", "org/model", "--max-num-seqs=8", command=("/usr/local/bin/vllm",))
    assert arguments.model == "org/model" and arguments.number("max-num-seqs") == 8


def test_the_server_module():
    command = ("python3", "-m", "vllm.entrypoints.openai.api_server")
    assert read("--model=org/model", "-tp", "4", command=command).given["tensor-parallel-size"] == "4"


def test_shape_3_a_shell_script():
    script = "cd /vllm && export A=1\nexec vllm serve org/model \\\n  --max_num_batched_tokens 1024 | tee /log"
    arguments = read(script, command=("/bin/sh", "-c"))
    assert arguments.model == "org/model"
    assert arguments.given == {"max-num-batched-tokens": "1024"}
    assert arguments.hidden is None


def test_shape_4_kserve_evaluates_a_script():
    script = 'eval "exec vllm serve /mnt/models --port 8000 ${VLLM_ADDITIONAL_ARGS} $@"'
    env = {"VLLM_ADDITIONAL_ARGS": "--max-num-seqs 32 --enable-chunked-prefill"}
    arguments = read(script, "--", "--max-model-len=4K", command=("/bin/bash", "-c"), env=env)
    assert arguments.model == "/mnt/models"
    assert arguments.number("max-num-seqs") == 32
    assert arguments.number("max-model-len") == 4096
    assert arguments.switch("enable-chunked-prefill") is True


def test_shape_5_the_kubelet_puts_variables_in():
    assert read("m", "--max-num-seqs=$(SEQS)", env={"SEQS": "12"}).number("max-num-seqs") == 12
    assert read("m", "--max-num-seqs=$(SEQS)").given["max-num-seqs"] == "$(SEQS)"  # it leaves what it does not know


def test_a_value_from_a_secret_is_hidden_not_empty():
    assert "SEQS" in read("m", "--max-num-seqs=$(SEQS)", env={"SEQS": None}).hidden


def test_a_shell_variable_that_the_pod_does_not_set_may_come_from_the_image():
    assert "EXTRA" in read("vllm serve m $EXTRA", command=("sh", "-c")).hidden


@pytest.mark.parametrize(
    ("env", "seqs", "hides"),
    [({"SEQS": "7"}, 7, False), ({"SEQS": ""}, 64, False), ({}, 64, True), ({"SEQS": None}, None, True)],
)
def test_a_shell_variable_with_a_default_that_the_image_may_set(env, seqs, hides):
    arguments = read('exec vllm serve m "--max-num-seqs=${SEQS:-64}"', command=("sh", "-c"), env=env)
    assert (arguments.number("max-num-seqs"), arguments.hidden is not None) == (seqs, hides)


@pytest.mark.parametrize("value", ["$(nproc)", "`nproc`", "${SEQS%0}", "$?"])
def test_what_only_a_shell_could_compute_is_hidden(value):
    assert "computes" in read(f"vllm serve m --max-num-seqs={value}", command=("sh", "-c"), env={"SEQS": "640"}).hidden


def test_a_start_script_of_its_own_may_add_options():
    arguments = read("org/model", "--max-num-seqs", "16", command=("/start.sh",))
    assert "/start.sh" in arguments.hidden and arguments.number("max-num-seqs") == 16


def test_a_sidecar_is_not_the_engine():
    proxy = container("routing-proxy", image="llm-d/routing-proxy:v1", args=("--port=8000", "--vllm-port=8200"), gpus=0)
    engine = container("vllm", args=("m", "--port=8200"))
    assert serving_container((proxy, engine)) is engine
    assert serving_container((container("web", image="nginx:1", gpus=0),)) is None
