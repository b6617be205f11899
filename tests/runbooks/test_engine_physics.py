"""Hung, asleep, dead, saturated, idle and loading replicas told apart: simulated vLLM on real addresses, a real
Prometheus, our own HTTP. Only Kubernetes is a fake here, since nothing is changed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.fleet import Service, Slo
from bot.incidents.diagnose import diagnose
from bot.incidents.incident import Target
from bot.incidents.judge import Verdict
from bot.outbound.prometheus import Prometheus as PrometheusReader
from bot.outbound.vllm_http import VllmHttp
from bot.ports import ContainerState
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from sandbox.fleet.contract import Effect, Match
from sandbox.prometheus import Job, Prometheus
from tests.fakes import FakeCluster, fake_sources
from tests.fixtures_fleet import node_json, pod_json, until
from tests.probes.fleets import fleet_of

WINDOW_SECONDS = 12
MODEL = "meta-llama/Llama-3.3-70B-Instruct"  # as the fleet's pods have it
ARGS = ("-tp4", "--max-model-len=16384", "--max-num-seqs=32")

# service: share of what its two replicas can do, what is wrong with the first of them, the verdict
TOWNS = {
    "calm": (0.0, None, None),
    "steady": (0.5, None, None),
    "crowded": (1.5, None, None),
    "wedged": (0.5, Effect(hung=True), "hung"),
    "quietly-wedged": (0.2, Effect(hung=True), "hung_idle"),  # its load ends before it hangs
    "sleeping": (0.0, Effect(asleep=1), "asleep"),
    "needed": (0.5, Effect(asleep=1), "asleep_while_needed"),
    "gone": (0.2, Effect(dead=True), "dead"),
    "starting": (0.0, None, None),  # its first replica still loads
    "unseen": (0.2, Effect(hidden_metrics=("vllm:*",)), None),
}


class Country:
    def __init__(self, fleet, folder):
        self.fleet = fleet
        self.cluster = FakeCluster()
        self.refs = {}
        fleet.nodes.replace([node_json(f"gpu-{n}") for n in range(len(TOWNS))])
        for number, name in enumerate(TOWNS):
            self.cluster.add_node(f"gpu-{number}", gpus=8)
            self.refs[name] = self.cluster.add_workload(
                name=name, replicas=2, args=[MODEL, *ARGS], gpus=4, node=f"gpu-{number}"
            )
        self._give_addresses()
        self.prometheus = Prometheus(folder, [Job("vllm", http_sd_url=fleet.control.vllm_sd_url)])

    def _give_addresses(self):
        running = ContainerState("running", at=datetime.now(UTC) - timedelta(seconds=2))
        pods = []
        for number, pod in enumerate(self.cluster.pods, start=1):
            loads = pod is self.cluster.pods_of(self.refs["starting"])[0]
            first = replace(pod.containers[0], state=running, ready=not loads)
            pods.append(replace(pod, ip=f"{self.fleet.prefix}.{number}", ready=not loads, containers=(first,)))
        self.cluster.pods = pods
        self.fleet.see(
            *(
                pod_json(p.name, ip=p.ip, node=p.node, labels=dict(p.labels), args=ARGS, gpus=4, ready=p.ready)
                for p in pods
            )
        )

    def start(self):
        for name, (ratio, _, _) in TOWNS.items():
            self._load(name, 0)
            until(lambda name=name: self.fleet.control.saturation_rps(name) is not None)
            self._load(name, self.fleet.control.saturation_rps(name) * 2 * ratio)
        self.prometheus.start()
        listening = len(self.cluster.pods) - 1
        self.prometheus.wait_for(
            "count(count_over_time(vllm:num_requests_running[60s]) >= 6)",
            lambda found: bool(found) and found[0].value >= listening,
            seconds=40,
        )
        self._load("quietly-wedged", 0)
        self.prometheus.wait_for(
            'sum(vllm:num_requests_running{pod=~"quietly-wedged.*"})', lambda found: found[0].value == 0, seconds=40
        )
        for name, (_, effect, _) in TOWNS.items():
            if effect is not None:
                first = self.cluster.pods_of(self.refs[name])[0]
                self.fleet.control.set_fault(name, Match(pod=first.name), effect)
        began = datetime.now(UTC)
        # Longer than a hang takes to be one, and than the looks back that see the time before.
        until(lambda: datetime.now(UTC) - began > timedelta(seconds=WINDOW_SECONDS + 5), seconds=40)

    def _load(self, name, rps):
        self.fleet.control.set_load(name, namespace="llm", selector={"app": name}, requests_per_second=rps)

    def diagnose(self, name, runbook="engine_down"):
        now = datetime.now(UTC)
        service = Service(name=name, workloads=(self.refs[name],), slo=Slo(), channel="#x")
        fleet = fleet_of(self.refs[name]).model_copy(update={"services": (service,)})
        sources = fake_sources(
            cluster=self.cluster,
            metrics=PrometheusReader(self.prometheus.url, timeout_seconds=5),
            engines=VllmHttp(timeout_seconds=3),
            fleet=fleet,
            now=now,
            window_seconds=WINDOW_SECONDS,
        )
        with ThreadPoolExecutor(16) as pool:
            return diagnose(
                library([our_folder()]).runbooks[runbook],
                Target(service=name),
                now - timedelta(seconds=5),
                sources,
                pool,
            )


@pytest.mark.timeout(300)
def test_each_state_is_told_from_the_others(played_fleet, tmp_path):
    country = Country(played_fleet, tmp_path)
    try:
        country.start()
        rounds = {name: country.diagnose(name) for name in TOWNS}
        others = [country.diagnose("steady", runbook) for runbook in ("oom_crashes", "model_quality_regression")]
    finally:
        country.prometheus.stop()
    wrong = [f"{n}: {top(rounds[n])}\n{told(rounds[n])}" for n, (_, _, is_) in TOWNS.items() if top(rounds[n]) != is_]
    assert not wrong, "\n\n".join(wrong)
    engines = {name: reading(rounds[name], "engine") for name in TOWNS}
    assert engines["calm"]["idle"] == 2
    assert engines["crowded"]["saturated"] == 2
    assert (engines["starting"]["loading"], engines["starting"]["dead"]) == (1, 0)
    assert (engines["unseen"]["unclear"], engines["unseen"]["hung"]) == (1, None)
    assert engines["wedged"]["hung_pod"] == country.cluster.pods_of(country.refs["wedged"])[0].name
    # A hang, a sleep or a death is no lack of capacity, and Prometheus' silence is no health.
    for name in ("wedged", "needed", "gone"):
        bad = rounds[name].signal
        assert (bad.error, bad.value) == (None, 1.0), f"{name}: {bad}"
    assert rounds["calm"].signal.value == 0.0
    for found in (rounds["calm"], rounds["steady"], *others):
        assert [o.error for o in found.observations if o.error] == []
        assert top(found) is None, told(found)
    quality = {finding.rule: finding.verdict for finding in others[1].findings}
    for rule in ("nan_on_one", "garbage", "template_varies", "mixed_replicas"):
        assert quality[rule] is Verdict.RULED_OUT, rule


def reading(found, step):
    return next(o.reading for o in found.observations if o.step == step)


def top(found):
    first = found.findings[0]
    return first.rule if first.verdict is Verdict.CONFIRMED else None


def told(found):
    parts = [f"{f.rule} {f.verdict.value} {f.unknown}" for f in found.findings if f.verdict is not Verdict.RULED_OUT]
    return "\n".join(
        [*parts, *(f"{o.step}: {o.reading}" for o in found.observations if o.step in ("engine", "canary"))]
    )
