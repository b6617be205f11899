"""What a real vLLM exported, idle and under pressure, through a real Prometheus and our adapter of it: the verdicts."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.incidents.diagnose import diagnose
from bot.incidents.incident import Target
from bot.incidents.judge import Verdict
from bot.outbound.prometheus import Prometheus as PrometheusReader
from bot.runbook.checking import check, library
from bot.runbook.loading import our_folder
from sandbox.prometheus import Job, Prometheus
from sandbox.replay import Replay
from tests.fakes import FakeCluster, fake_sources
from tests.fixtures_metrics import IDLE, PRESSURE
from tests.probes.fleets import fleet_of

WINDOW_SECONDS = 12
CONFIRMED, RULED_OUT, INCONCLUSIVE = Verdict.CONFIRMED, Verdict.RULED_OUT, Verdict.INCONCLUSIVE


class Story:
    """One replica that shows a captured page; a canary beside it that must not be counted."""

    def __init__(self, folder):
        cluster = FakeCluster()
        cluster.add_node("gpu-01", gpus=8)
        self.ref = cluster.add_workload(name="chat", replicas=1, args=["org/model", "--max-num-seqs=256"])
        canary = cluster.add_workload(name="chat-canary", replicas=1)
        self.vllm, self.canary = Replay(IDLE), Replay(PRESSURE)
        pods = (cluster.pods_of(self.ref)[0], cluster.pods_of(canary)[0])
        jobs = [
            Job(pod.name, [server.target], {"namespace": pod.namespace, "pod": pod.name})
            for pod, server in zip(pods, (self.vllm, self.canary), strict=True)
        ]
        self.pod = pods[0].name
        self.prometheus = Prometheus(folder, jobs)
        self.cluster = cluster

    def __enter__(self):
        self.vllm.__enter__()
        self.canary.__enter__()
        self.prometheus.start()
        self.reader = PrometheusReader(self.prometheus.url, timeout_seconds=5)
        return self

    def __exit__(self, *error):
        self.prometheus.stop()
        self.vllm.__exit__(*error)
        self.canary.__exit__(*error)

    def wait_until(self, promql, holds):
        """`{}` in the query is the replica."""
        query = promql.replace("{}", f'{{pod="{self.pod}"}}')
        self.prometheus.wait_for(query, lambda found: any(holds(sample.value) for sample in found))

    def diagnose(self, **changed):
        now = datetime.now(UTC)
        metrics = self.reader
        fleet = fleet_of(self.ref)
        sources = fake_sources(
            cluster=self.cluster, metrics=metrics, fleet=fleet, now=now, window_seconds=WINDOW_SECONDS
        )
        runbook = library([our_folder()]).runbooks["high_latency"]
        with ThreadPoolExecutor(16) as pool:
            return diagnose(runbook, Target(service="chat"), now, replace(sources, **changed), pool)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    with Story(tmp_path_factory.mktemp("prometheus")) as story:
        story.wait_until("vllm:num_requests_running{}", lambda running: running == 0)
        yield story


def readings(found):
    return {observation.step: observation.reading for observation in found.observations}


def verdicts(found):
    return {finding.rule: finding.verdict for finding in found.findings}


def test_idle_then_pressure_then_silent(story):
    story.wait_until("count_over_time(vllm:num_requests_running{}[12s])", lambda points: points >= 5)
    idle = story.diagnose()
    assert not [o.error for o in idle.observations if o.error]
    assert readings(idle)["queue"]["waiting"] == 0, "the canary is under pressure, and is not counted"
    assert CONFIRMED not in verdicts(idle).values()
    assert verdicts(idle)["under_provisioned"] is RULED_OUT
    assert verdicts(idle)["memory_pressure"] is RULED_OUT

    story.vllm.show(PRESSURE)
    story.wait_until("vllm:num_requests_waiting{}", lambda waiting: waiting == 46)
    story.wait_until("rate(vllm:num_preemptions_total{}[12s])", lambda rate: rate > 0)
    pressure = story.diagnose()
    kv, queue, latency = (readings(pressure)[step] for step in ("kv", "queue", "latency"))
    assert kv["usage_ratio_max"] == pytest.approx(0.952, abs=0.001)
    assert kv["preemptions_per_minute"] > 20
    assert kv["capacity_tokens"] == 2048
    assert (queue["waiting"], queue["running"], queue["saturated_replicas"]) == (46, 6, 0)
    assert queue["growth_per_minute"] > 0
    assert latency["ttft_p99_low_seconds"] > 1
    assert verdicts(pressure)["memory_pressure"] is CONFIRMED
    assert verdicts(pressure)["under_provisioned"] is CONFIRMED, "the GPUs are not seen, but the cache is full"
    assert verdicts(pressure)["gpu_underutilized"] is RULED_OUT
    assert "not exported" in readings(pressure)["gpu"]["missing"]
    assert pressure.signal.low > pressure.signal.threshold and pressure.signal.error is None
    assert pressure.signal.traffic > 0

    story.vllm.show(None)
    story.wait_until("up{}", lambda up: up == 0)
    silent = story.diagnose()
    assert set(verdicts(silent).values()) <= {INCONCLUSIVE, RULED_OUT}
    for rule in ("memory_pressure", "under_provisioned", "gpu_underutilized", "long_prefill"):
        assert verdicts(silent)[rule] is INCONCLUSIVE, rule
    assert readings(silent)["queue"]["missing"] == "Prometheus cannot scrape its 1 pods (up is 0)"
    assert silent.signal.value is None and "up is 0" in silent.signal.error


def test_prometheus_accepts_every_query_of_our_runbooks(story):
    def refused(query):
        answer = story.prometheus.query
        try:
            answer(query)
        except Exception as error:
            return str(error)
        return None

    assert refused("sum(") is not None
    assert [str(mistake) for mistake in check([our_folder()], promql=refused)] == []
