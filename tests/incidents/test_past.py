from datetime import timedelta

import pytest

from bot.fleet import WorkloadRef
from bot.incidents.past import as_of
from bot.ports import SourceError
from tests.fakes import NOW, FakeCluster, FakeMetrics, fake_sources

THEN = NOW - timedelta(hours=3)
REF = WorkloadRef(namespace="llm", name="chat")


def test_prometheus_answers_as_of_then():
    sources = as_of(THEN, fake_sources(metrics=FakeMetrics({"x": 1.0})))
    assert sources.metrics.instant("x").samples[0].at == THEN
    assert sources.now == THEN and not sources.live


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.cluster.pod("llm", "chat-0"),
        lambda s: s.cluster.pods_of(REF),
        lambda s: s.cluster.pods_on_node("gpu-01"),
        lambda s: s.cluster.workload(REF),
        lambda s: s.cluster.workload_of(FakeCluster().add_pod),
        lambda s: s.cluster.revisions(REF),
        lambda s: s.cluster.node("gpu-01"),
        lambda s: s.cluster.nodes(),
        lambda s: s.cluster.free_gpus(),
        lambda s: s.cluster.events("llm", "Pod", "chat-0"),
        lambda s: s.cluster.autoscaler_of(REF),
        lambda s: s.cluster.budgets("llm"),
        lambda s: s.cluster.pod_logs("llm", "chat-0", "vllm", tail=5),
        lambda s: s.alerts.active(),
        lambda s: s.alerts.silence({}, until=NOW, by="x", comment="y"),
        lambda s: s.engines.health("127.0.0.1:8000"),
        lambda s: s.engines.version("127.0.0.1:8000"),
        lambda s: s.engines.models("127.0.0.1:8000"),
        lambda s: s.engines.complete("127.0.0.1:8000", "chat", timeout_seconds=1),
    ],
)
def test_the_others_say_that_they_do_not_know_the_past(ask):
    with pytest.raises(SourceError, match="can only answer for now, not for 2026-11-23 23:13 UTC"):
        ask(as_of(THEN, fake_sources()))
