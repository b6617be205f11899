import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.cli import cli
from bot.commands import dispatch
from bot.outbound.store import SqlStore
from sandbox.prometheus import Prometheus

CASES = Path(__file__).parent / "runbooks"

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


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    with Prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


BAD_QUERY = """
title: t
owner: o
symptoms: s
match: [{alertname: A}]
signal: {name: n, query: "sum(rate(x{$selector}[5m])", unit: count, threshold: 1}
steps: [{id: queue, probe: vllm_queue, with: {service: $service}}]
rules: [{id: full, when: [queue.waiting > 50], severity: warning, title: t, finding: f}]
"""


def test_every_query_of_ours_is_accepted_by_a_real_prometheus_and_every_case_comes_out(prometheus):
    done = typed("check", "--prometheus", prometheus.url, "--cases", str(CASES))
    assert done.exit_code == 0, done.stdout
    assert "no mistakes" in done.stdout
    assert re.search(r"[1-9][0-9]* queries shown to Prometheus.*[1-9][0-9]+ cases run", done.stdout, re.DOTALL)


def test_a_query_that_prometheus_refuses_is_told_in_its_words(prometheus, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(BAD_QUERY)
    assert typed("check", str(tmp_path)).exit_code == 0, "nobody was asked"
    monkeypatch.setenv("VLLM_ONCALL_PROMETHEUS__URL", prometheus.url)
    done = typed("check", str(tmp_path))
    assert done.exit_code == 1
    assert "mine.yaml:6" in done.stdout and "unclosed left parenthesis" in done.stdout


def test_without_a_prometheus_nothing_is_called_proven(tmp_path, monkeypatch):
    monkeypatch.delenv("VLLM_ONCALL_PROMETHEUS__URL", raising=False)
    assert "PromQL was not proven" in typed("check").stdout
    done = typed("check", "--prometheus", "http://127.0.0.1:9")
    assert done.exit_code == 2
    assert "not proven after 0 queries" in done.stdout and "cannot be reached" in done.stdout


def test_a_case_that_comes_out_otherwise_is_told_with_its_line(tmp_path):
    (tmp_path / "mine.yaml").write_text(BAD_QUERY)
    cases = tmp_path / "cases"
    cases.mkdir()
    case = "- name: long queue\n  readings: {queue: {waiting: 138}}\n  expect:\n    full: ruled out\n"
    (cases / "mine.yaml").write_text(case)
    done = typed("check", str(tmp_path), "--cases", str(cases))
    assert done.exit_code == 1
    assert "mine.yaml:4" in done.stdout and "full is confirmed, not ruled out" in done.stdout


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


def test_the_agent_is_the_same_program_and_says_what_it_lacks():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_ONCALL_")}
    argv = [sys.executable, "-m", "bot", "agent"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode != 0 and "node" in (done.stderr + done.stdout).lower()


def test_it_is_a_module_and_says_so_at_once():
    done = subprocess.run([sys.executable, "-m", "bot", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "vllm-oncall" in done.stdout
