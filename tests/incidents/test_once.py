import threading

import pytest

from bot.incidents.once import Once, asked_once
from bot.ports import SourceError
from tests.fakes import NOT_ANSWERING, NOW, FakeCluster, FakeEngine, FakeEngines, FakeMetrics, fake_sources


class SlowMetrics(FakeMetrics):
    def __init__(self, answers):
        super().__init__(answers)
        self.open = threading.Event()

    def instant(self, query):
        answer = super().instant(query)
        assert self.open.wait(10)
        return answer


def test_the_same_question_at_the_same_time_is_asked_once():
    metrics = SlowMetrics({"x": 3.0})
    sources = asked_once(fake_sources(metrics=metrics))
    found = []
    threads = [threading.Thread(target=lambda: found.append(sources.metrics.instant("x").number)) for _ in range(8)]
    for thread in threads:
        thread.start()
    metrics.open.set()
    for thread in threads:
        thread.join(10)
    assert found == [3.0] * 8
    assert metrics.asked == ["x"]


def test_other_questions_do_not_wait_for_a_slow_one():
    metrics = SlowMetrics({"x": 3.0})
    sources = asked_once(fake_sources(metrics=metrics, cluster=FakeCluster()))
    slow = threading.Thread(target=lambda: sources.metrics.instant("x"))
    slow.start()
    assert sources.cluster.nodes() == ()
    metrics.open.set()
    slow.join(10)


def test_an_error_is_an_answer_too():
    metrics = FakeMetrics(down=NOT_ANSWERING)
    sources = asked_once(fake_sources(metrics=metrics))
    for _ in range(3):
        with pytest.raises(SourceError, match="did not answer"):
            sources.metrics.instant("x")
    assert metrics.asked == ["x"]


def test_another_time_is_another_question():
    metrics = FakeMetrics({"x": 3.0})
    sources = asked_once(fake_sources(metrics=metrics))
    sources.metrics.instant("x")
    sources.metrics.at(NOW).instant("x")
    sources.metrics.at(NOW).instant("x")
    assert metrics.asked == ["x", "x"]


def test_the_next_round_asks_again():
    metrics = FakeMetrics({"x": 3.0})
    for _ in range(2):
        asked_once(fake_sources(metrics=metrics)).metrics.instant("x")
    assert metrics.asked == ["x", "x"]


def test_everything_else_passes_through():
    cluster = FakeCluster()
    ref = cluster.add_workload(name="chat", node="gpu-01")
    cluster.add_node("gpu-01", gpus=16)
    engines = FakeEngines({"127.9.0.1:8000": FakeEngine()})
    sources = asked_once(fake_sources(cluster=cluster, engines=engines))
    pod = cluster.pods[0]
    assert sources.cluster.workload(ref).desired == 3
    assert len(sources.cluster.pods_of(ref)) == len(sources.cluster.pods_on_node("gpu-01")) == 3
    assert sources.cluster.pod(pod.namespace, pod.name) == pod
    assert sources.cluster.workload_of(pod) == ref
    assert sources.cluster.revisions(ref)[0].number == 1
    assert sources.cluster.node("gpu-01").gpus == 16
    assert sources.cluster.free_gpus() == {"gpu-01": 4}
    assert sources.cluster.autoscaler_of(ref) is None
    assert sources.cluster.budgets("llm") == ()
    assert sources.cluster.events("llm", "Pod", pod.name) == ()
    assert sources.cluster.pod_logs("llm", pod.name, "vllm", tail=5) == ""
    assert sources.engines.version("127.9.0.1:8000") == "0.32.0"
    assert sources.engines.health("127.9.0.1:8000") == 200
    assert sources.engines.models("127.9.0.1:8000")[0]["id"] == "chat"
    assert sources.engines.complete("127.9.0.1:8000", "chat", timeout_seconds=1).ok
    assert sources.alerts.active() == () and sources.metrics.alerts() == ()
    assert "graph" in sources.metrics.link("x")
    assert sources.metrics.range("x", NOW, NOW, 1) == ()


def test_a_probe_cannot_silence():
    with pytest.raises(AssertionError):
        asked_once(fake_sources()).alerts.silence({}, until=NOW, by="x", comment="y")


def test_keys_tell_questions_apart():
    once = Once()
    assert [once.ask(lambda: 1, "a", 1), once.ask(lambda: 2, "a", 2), once.ask(lambda: 3, "a", 1)] == [1, 2, 1]
