"""A backtest over what a real Prometheus kept: a vLLM that was idle, then under pressure, then silent."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from bot.commands import backtest
from bot.commands.context import Context
from bot.fleet import WorkloadRef
from bot.incidents.diagnose import Diagnoser
from bot.outbound.prometheus import Prometheus as PrometheusReader
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from sandbox.prometheus import Job, Prometheus
from sandbox.replay import Replay
from tests.fakes import fake_sources
from tests.fixtures_metrics import IDLE, PRESSURE
from tests.probes.fleets import fleet_of
from tests.stories import said

WINDOW_SECONDS = 12
# Of the form that a Deployment's pods have: of the past nobody can tell more.
POD = "chat-7d9f8c6b5d-x2k4p"
RUNBOOKS = library([our_folder()]).runbooks


def replayed(url: str, start: datetime, end: datetime) -> str:
    fleet = fleet_of(WorkloadRef(namespace="llm", name="chat"))
    reader = PrometheusReader(url, timeout_seconds=5, threads=64)

    def sources(now):
        return fake_sources(metrics=reader, fleet=fleet, now=now, window_seconds=WINDOW_SECONDS)

    with ThreadPoolExecutor(24) as pool:
        context = Context(
            store=None,  # nothing is kept
            sources=sources,
            fleet=fleet,
            runbooks=RUNBOOKS,
            diagnose=Diagnoser(RUNBOOKS, sources, pool, clock=lambda: datetime.now(UTC)),
            propose=None,
            later=lambda note, work: work(),
            user="terminal:ann",
            channel="",
            now=datetime.now(UTC),
        )
        words = ["high_latency", "chat", f"from={start.isoformat()}", f"to={end.isoformat()}", "every=2s"]
        return said(backtest.run(words, context))


def seconds_of(verdict: str, shown: str, rule: str) -> list[str]:
    """The stretches of a rule's verdict."""
    of_rule = shown.split(f"({rule})\n")[1].split("\n\n")[0]
    return re.findall(rf"^{verdict}: (.*)$", of_rule, re.MULTILINE)


@pytest.mark.timeout(150)
def test_the_history_is_told_as_it_was(tmp_path):
    with Replay(IDLE) as vllm:
        job = Job("vllm", [vllm.target], {"namespace": "llm", "pod": POD})
        with Prometheus(tmp_path, [job]) as prometheus:
            prometheus.wait_for("count_over_time(vllm:num_requests_running[12s])", lambda s: s and s[0].value >= 10)
            idle = datetime.now(UTC)
            vllm.show(PRESSURE)
            pressed = "count_over_time((vllm:num_requests_waiting == 46)[12s:1s])"
            prometheus.wait_for(pressed, lambda s: bool(s) and s[0].value >= 10)
            vllm.show(None)
            prometheus.wait_for("sum_over_time(up[6s]) == 0", bool)
            shown = replayed(prometheus.url, idle, datetime.now(UTC))
    assert seconds_of("confirmed", shown, "memory_pressure"), shown
    assert seconds_of("ruled out", shown, "memory_pressure"), "it began idle\n" + shown
    assert seconds_of("inconclusive", shown, "memory_pressure"), "it ended silent\n" + shown
    assert re.search(r"TTFT P99 above 1 s: .*–", shown), shown
    assert "up is 0" in shown
    assert "Could not be answered for the past" in shown and "Kubernetes" in shown
