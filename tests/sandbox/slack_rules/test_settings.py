from sandbox.slack_rules.rules import Rule
from sandbox.slack_rules.settings import RulesSettings, settings_json
from sandbox.slack_workspace import demo_workspace


def test_settings_survive_the_way_to_the_process():
    settings = RulesSettings(demo_workspace(), "http://127.0.0.1:1", 2, 3, 4, "log.jsonl", off=(Rule.ACK,))
    assert settings_json.validate_json(settings_json.dump_json(settings)) == settings
