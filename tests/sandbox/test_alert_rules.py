import json
import subprocess
from pathlib import Path

from bot.incidents.placing import runbook_for
from bot.runbook.loading import load, our_folder
from sandbox.alert_rules import rules


def test_promtool_accepts_them(tmp_path: Path):
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules("llm", 1.0)))
    told = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "3 rules found" in told.stdout


def test_the_slo_is_the_threshold_and_the_namespace_is_not_another_ones():
    (group,) = rules("team-a", 2.5)["groups"]
    ttft = next(rule for rule in group["rules"] if rule["alert"] == "VllmHighTTFT")
    assert ttft["expr"].endswith("> 2.5") and ttft["labels"] == {"severity": "critical"}
    assert all('{namespace="team-a"}' in rule["expr"] for rule in group["rules"])


def test_each_of_them_has_a_runbook_of_ours():
    runbooks = {file.runbook.name: file.runbook for file in load([our_folder()]).files}
    for rule in rules("llm", 1.0)["groups"][0]["rules"]:
        assert runbook_for({"alertname": rule["alert"], **rule["labels"]}, runbooks) == "high_latency", rule["alert"]
