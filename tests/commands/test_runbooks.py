from pathlib import Path

import pytest

from bot.commands import runbooks
from bot.commands.words import UsageError
from bot.runbook.loading import Mistake
from tests.stories import said


def test_all_runbooks_with_owner_and_alerts(bench):
    shown = said(runbooks.run([], bench.context()))
    assert "1 runbook" in shown and "high_latency High latency (ml-platform)" in shown
    assert "Alerts: VLLMHighTTFT, VLLMQueueLong" in shown


def test_one_runbook_with_its_questions_and_conclusions(bench):
    shown = said(runbooks.run(["high_latency"], bench.context()))
    assert "How many requests wait? (vllm_queue)" in shown
    assert "Under-provisioned (critical)" in shown and "queue.waiting > 50" in shown
    assert "Suggests scale_workload" in shown


def test_a_wrong_name_gets_the_nearest(bench):
    with pytest.raises(UsageError, match="did you mean high_latency"):
        runbooks.run(["latency"], bench.context())


def test_a_broken_file_is_named_with_its_mistakes_beside_those_in_use(bench):
    broken = (Mistake(Path("/etc/runbooks/mine.yaml"), 4, 1, "matchh: is not a key that is known here"),)
    shown = said(runbooks.run([], bench.context(broken=broken)))
    assert "1 runbook; 1 not used" in shown and "high_latency High latency" in shown
    assert "/etc/runbooks/mine.yaml:4:1: matchh" in shown
