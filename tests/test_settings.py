import pytest
from pydantic import ValidationError

from bot.settings import AgentAccess, AgentSettings, Settings

LEAST = {"VLLM_ONCALL_SLACK__BOT_TOKEN": "xoxb-1", "VLLM_ONCALL_PROMETHEUS__URL": "http://127.0.0.1:9090"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)


def test_two_settings_are_enough():
    settings = Settings()
    assert settings.slack.bot_token.get_secret_value() == "xoxb-1"
    assert settings.intake.token is None


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "oncall.yaml"
    file.write_text("log_level: DEBUG\nprometheus: {url: http://file, window_seconds: 30}\n")
    monkeypatch.setenv("VLLM_ONCALL_CONFIG", str(file))
    settings = Settings()
    assert settings.prometheus.url == "http://127.0.0.1:9090"
    assert settings.prometheus.window_seconds == 30
    assert settings.log_level == "DEBUG"


def test_a_misspelt_key_in_the_file_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "oncall.yaml"
    file.write_text("prometheus: {url: http://file, windows: 30}\n")
    monkeypatch.setenv("VLLM_ONCALL_CONFIG", str(file))
    with pytest.raises(ValidationError, match="windows"):
        Settings()


def test_secrets_do_not_show_when_settings_are_printed():
    assert "xoxb-1" not in repr(Settings())


def test_a_nested_default_is_kept_when_a_neighbour_is_set(monkeypatch):
    monkeypatch.setenv("VLLM_ONCALL_TIMING__HOLD_DOWN_SECONDS", "5")
    timing = Settings().timing
    assert (timing.hold_down_seconds, timing.join_window_seconds) == (5, 900)


def test_the_bot_and_its_agents_share_the_name_of_their_token(monkeypatch):
    monkeypatch.setenv("VLLM_ONCALL_AGENT__TOKEN", "shared")
    monkeypatch.setenv("VLLM_ONCALL_AGENT__NODE", "gpu-01")
    agent = AgentSettings()
    assert agent.token is not None and agent.token.get_secret_value() == "shared"
    assert (agent.node, agent.port) == ("gpu-01", AgentAccess().port)


def test_agents_elsewhere_are_named_by_node(monkeypatch):
    monkeypatch.setenv("VLLM_ONCALL_AGENT__HOSTS", '{"gpu-01": "127.0.0.1:9000"}')
    assert Settings().agent.hosts == {"gpu-01": "127.0.0.1:9000"}
    assert Settings().agent.token is None
