import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bot.__main__ import cli
from bot.commands import dispatch
from bot.outbound.store import SqlStore

FLEET = """
default_channel: "#oncall"
roles: {operator: {users: [U1]}}
approvals: {low: operator, medium: operator, high: operator}
services:
  - {name: chat-70b, channel: "#inc", workloads: [{namespace: llm, name: chat-70b}]}
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    (tmp_path / "fleet.yaml").write_text(FLEET)
    given = {
        "FLEET": str(tmp_path / "fleet.yaml"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/oncall.sqlite",
        "SLACK__BOT_TOKEN": "xoxb-1",
        "SLACK__APP_TOKEN": "xapp-1",
        "PROMETHEUS__URL": "http://127.0.0.1:9",
        "KUBERNETES__URL": "http://127.0.0.1:9",
        "KUBERNETES__TIMEOUT_SECONDS": "1",
    }
    for name in [n for n in os.environ if n.startswith("VLLM_ONCALL_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(f"VLLM_ONCALL_{name}", value)
    return tmp_path


def typed(*words):
    return CliRunner().invoke(cli, list(words))


def test_every_command_that_only_reads_is_there():
    listed = typed("--help").stdout
    for name in dispatch.names():
        if name != "help":
            assert (f" {name} " in listed) is dispatch.find(name).READS_ONLY, name


def test_our_runbooks_have_no_mistake():
    done = typed("check")
    assert (done.exit_code, "no mistakes" in done.stdout) == (0, True)


def test_a_mistake_is_told_with_its_line_and_the_nearest_word(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: t\nowner: o\nsymptoms: s\nmatchh: []\n")
    done = typed("check", str(tmp_path))
    assert done.exit_code == 1
    assert "mine.yaml:4" in done.stdout


def test_a_folder_that_is_not_there_is_an_error_rather_than_no_mistake(tmp_path):
    assert typed("check", str(tmp_path / "nowhere")).exit_code == 2


def test_missing_settings_are_named(monkeypatch):
    for name in [n for n in os.environ if n.startswith("VLLM_ONCALL_")]:
        monkeypatch.delenv(name)
    done = typed("status")
    assert done.exit_code == 2
    assert "VLLM_ONCALL_SLACK" in done.stderr and "VLLM_ONCALL_PROMETHEUS" in done.stderr


def test_a_mistake_in_the_fleet_file_is_told_with_its_line(environment):
    (environment / "fleet.yaml").write_text(FLEET.replace("channel:", "chanel:"))
    done = typed("incidents")
    assert done.exit_code == 2
    assert "fleet.yaml:6" in done.stderr and "chanel" in done.stderr


def test_incidents_are_read_in_a_terminal(environment):
    assert "open" in typed("incidents").stdout


def test_a_service_whose_cluster_does_not_answer_is_not_called_fine(environment):
    assert "cannot be reached" in typed("status").stdout


def test_what_changes_something_is_not_done_in_a_terminal(environment):
    assert typed("ack", "inc-1").exit_code == 2


def test_wrong_words_get_the_usage_and_the_nearest_match(environment):
    done = typed("diagnose", "high_latncy")
    assert done.exit_code == 2
    assert "high_latency" in done.stderr and "Usage: vllm-oncall diagnose" in done.stderr


def test_the_audit_chain_is_verified(environment):
    SqlStore.open(f"sqlite:///{environment}/oncall.sqlite").close()
    assert "no audit entries" in typed("audit").stdout


def test_it_is_a_module_and_says_so_at_once():
    done = subprocess.run([sys.executable, "-m", "bot", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "vllm-oncall" in done.stdout
