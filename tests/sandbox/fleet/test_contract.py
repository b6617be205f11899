import pytest
from pydantic import ValidationError

from sandbox.fleet.contract import Config, Load


def test_a_misspelt_word_is_refused_and_not_ignored():
    with pytest.raises(ValidationError, match="slowdwon"):
        Config.model_validate({"faults": {"x": {"match": {}, "effect": {"slowdwon": 4}}}})


def test_a_load_must_say_for_which_pods_it_is():
    with pytest.raises(ValidationError, match="selector"):
        Load.model_validate({"namespace": "llm", "selector": {}, "requests_per_second": 1})


def test_a_configuration_survives_being_written_and_read():
    config = Config.model_validate(
        {
            "models": {"chat-8b": {"weights_gib": 8}},
            "loads": {"chat": {"namespace": "llm", "selector": {"app": "chat"}, "requests_per_second": 3}},
            "faults": {"slow": {"match": {"image": "*:v0.33.0"}, "effect": {"slowdown": 4}}},
        }
    )
    assert Config.model_validate_json(config.model_dump_json()) == config
