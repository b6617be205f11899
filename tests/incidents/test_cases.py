import textwrap

import pytest

from bot.incidents.cases import run
from bot.runbook.schema import Runbook

RUNBOOK = Runbook.model_validate(
    {
        "title": "t",
        "owner": "o",
        "symptoms": "s",
        "match": [{"alertname": "A"}],
        "steps": [{"id": "queue", "probe": "vllm_queue"}],
        "rules": [
            {"id": "full", "when": ["queue.waiting > 50"], "severity": "warning", "title": "t", "finding": "f"},
        ],
    }
)
GOOD = """
    - name: full
      readings: {queue: {waiting: 138}}
      expect: {full: confirmed}
      first: full
    - name: empty
      readings: {queue: {waiting: 0}}
      expect: {full: ruled out}
    - name: silent
      readings: {}
      expect: {full: inconclusive}
"""


@pytest.fixture
def run_text(tmp_path):
    def ran(text):
        path = tmp_path / "cases.yaml"
        path.write_text(textwrap.dedent(text).lstrip())
        return [str(mistake).removeprefix(str(path)) for mistake in run(RUNBOOK, path)]

    return ran


def test_what_comes_out_as_expected_is_no_mistake(run_text):
    assert run_text(GOOD) == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("waiting: 138", "waiting: 3", ":3:12: full: full is ruled out, not confirmed"),
        ("waiting: 138", "waitin: 138", "no reading 'queue.waitin'; did you mean 'waiting'?"),
        ("{queue: {waiting: 138}}", "{queu: {}}", "no step 'queu'"),
        ("expect: {full: confirmed}", "expect: {ful: confirmed}", "no rule 'ful'; did you mean 'full'?"),
        ("expect: {full: confirmed}", "expect: {full: certain}", "expect.full"),
        ("expect: {full: inconclusive}", "expect: {}", "no case in which full is inconclusive"),
        ("first: full", "suppressed: [full]", "full is not suppressed"),
        ("- name: full", "- nam: full", "nam"),
        ("- name: full", "- name: [", ""),
    ],
)
def test_what_does_not_is_told_with_its_place(run_text, right, wrong, told):
    assert right in GOOD
    found = run_text(GOOD.replace(right, wrong, 1))
    assert found and any(told in line for line in found), found
