import dataclasses
import inspect

import pydantic
import pytest

from bot.probes.finder import fields_of, probe, probe_names


def test_the_word_is_the_file():
    assert {"promql", "vllm_queue", "gpu_utilization", "recent_changes"} <= set(probe_names())
    assert probe("promql").__name__ == "bot.probes.promql"


def test_what_probes_share_is_no_probe():
    assert not {"asking", "served", "rollouts", "finder"} & set(probe_names())


def test_a_word_without_a_file_is_refused():
    with pytest.raises(LookupError):
        probe("nothing")


@pytest.mark.parametrize("name", probe_names())
def test_every_probe_keeps_the_contract(name):
    module = probe(name)
    assert issubclass(module.Params, pydantic.BaseModel)
    assert module.Params.model_config.get("extra") == "forbid"
    assert dataclasses.is_dataclass(module.Reading) and module.Reading.__dataclass_params__.frozen
    assert list(inspect.signature(module.observe).parameters) == ["params", "sources"]
    assert module.__doc__.partition("\n")[0].endswith("?"), "a probe's docstring opens with its question"


def test_a_readings_fields_are_known_by_name():
    assert fields_of("vllm_queue")["waiting"] == int | None
