from dataclasses import replace

import pytest

from bot.ports import ConfigMount
from bot.vllm.arguments import arguments_of
from bot.vllm.config_file import mounted_from, options_of
from tests.fakes import container

FILE = """
model: org/model
max-num-seqs: 64
enable_chunked_prefill: false
enforce-eager: true
served-model-name: [chat, chat-70b]
compilation-config: {mode: 3}
revision: null
"""
COMMAND = ("vllm", "serve", "--config", "/etc/vllm/serve.yaml")


def test_a_files_options_are_those_of_a_command_line():
    found = arguments_of(container(command=COMMAND), options_of(FILE))
    assert found.model == "org/model"
    assert found.number("max-num-seqs") == 64
    assert found.switch("enable-chunked-prefill") is False and found.switch("enforce-eager") is True
    assert found.given["served-model-name"] == "chat"
    assert found.given["compilation-config"] == '{"mode": 3}'
    assert "revision" not in found.given
    assert (found.hidden, found.config) == (None, None)


def test_the_command_line_goes_before_the_file():
    found = arguments_of(container(command=(*COMMAND, "--max-num-seqs=8"), args=("org/other",)), options_of(FILE))
    assert (found.number("max-num-seqs"), found.model) == (8, "org/other")
    first = arguments_of(container(command=("vllm", "serve", "--max-num-seqs=8", *COMMAND[2:])), options_of(FILE))
    assert first.number("max-num-seqs") == 8


def test_without_the_file_it_is_said_where_it_lies():
    found = arguments_of(container(command=COMMAND))
    assert (found.config, found.hidden) == ("/etc/vllm/serve.yaml", "a --config file holds more options")


def test_what_else_is_hidden_stays_so():
    script = "vllm serve --config /etc/vllm/serve.yaml $EXTRA"
    found = arguments_of(container(command=("sh", "-c"), args=(script,)), options_of(FILE))
    assert "EXTRA" in found.hidden


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "just words", ""])
def test_what_is_no_such_file_is_refused(text):
    with pytest.raises(ValueError):
        options_of(text)


@pytest.mark.parametrize(
    ("mount", "source"),
    [
        (ConfigMount("/etc/vllm", "options"), ("options", "serve.yaml")),
        (ConfigMount("/etc/vllm/", "options", {"serve.yaml": "a"}), ("options", "a")),
        (ConfigMount("/etc/vllm/serve.yaml", "options", {"": "a"}), ("options", "a")),
        (ConfigMount("/etc/vllm", "options", {"other.yaml": "a"}), None),
        (ConfigMount("/etc/vllm-of-others", "options"), None),
        (ConfigMount("/models", "options"), None),
    ],
)
def test_the_config_map_that_a_file_comes_from(mount, source):
    assert mounted_from(replace(container(), config_mounts=(mount,)), "/etc/vllm/serve.yaml") == source
