"""The verdicts follow from how replicas behave: simulated vLLM under load, a real Prometheus, no threshold shared.

Eight services side by side, each with its own trouble. Only Kubernetes is a fake here, since nothing is changed.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.fleet import Service, Slo, WorkloadRef
from bot.incidents.diagnose import diagnose
from bot.incidents.incident import Target
from bot.incidents.judge import Verdict
from bot.outbound.prometheus import Prometheus as PrometheusReader
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from sandbox.fleet.contract import Effect, GpuFault, Match, RequestKind
from sandbox.fleet.control import LONG_CONTEXTS, LONG_PROMPTS, SHORT_PROMPTS
from sandbox.prometheus import Job, Prometheus
from tests.fakes import FakeCluster, fake_sources
from tests.fixtures_fleet import node_json, pod_json, until
from tests.probes.fleets import fleet_of

WINDOW_SECONDS = 12
REPLICAS = 2
GPUS = 4
ARGS = ("-tp4", "--max-model-len=16384", "--max-num-seqs=32")
CAPPED = ("-tp4", "--max-model-len=16384", "--max-num-seqs=3")
UNCHUNKED = ("-tp4", "--max-model-len=30720", "--max-num-batched-tokens=32768", "--no-enable-chunked-prefill")
SLOW_IMAGE = "vllm/vllm-openai:v0.33.0"
WHOLE_DOCUMENTS = (RequestKind(weight=9), RequestKind(weight=1, prompt_tokens=14_000, spread=0.1))


@dataclass
class Town:
    name: str
    ratio: float  # of what its replicas can do
    args: tuple[str, ...] = ARGS
    mix: tuple[RequestKind, ...] = SHORT_PROMPTS
    pods: list[dict] = field(default_factory=list)
    ref: WorkloadRef | None = None


TOWNS = {
    town.name: town
    for town in (
        Town("calm", 0.1),
        Town("steady", 0.6),
        Town("overloaded", 1.3),
        Town("capped", 1.5, CAPPED),
        Town("squeezed", 1.5, (*ARGS, "--num-gpu-blocks-override=1600"), LONG_CONTEXTS),
        Town("documents", 0.7, (*ARGS, "--max-num-batched-tokens=2048"), WHOLE_DOCUMENTS),
        Town("unchunked", 0.7, UNCHUNKED, LONG_PROMPTS),
        Town("rolled", 0.6),
    )
}  # fmt: skip


class Country:
    def __init__(self, fleet, folder):
        self.fleet = fleet
        self.cluster = FakeCluster()
        self.network = 0
        for number in range(len(TOWNS)):
            self.cluster.add_node(f"gpu-{number}", gpus=GPUS * REPLICAS)
        fleet.nodes.replace([node_json(name, gpus=GPUS * REPLICAS) for name in self.cluster.machines])
        for number, town in enumerate(TOWNS.values()):
            town.ref = self.cluster.add_workload(
                name=town.name, replicas=REPLICAS, args=["org/model", *town.args], gpus=GPUS, node=f"gpu-{number}"
            )
        self.prometheus = Prometheus(
            folder,
            [
                Job("vllm", http_sd_url=fleet.control.vllm_sd_url),
                Job("dcgm", http_sd_url=fleet.control.dcgm_sd_url, more={"honor_labels": True}),
            ],
        )

    def start(self):
        self._see()
        for town in TOWNS.values():
            load = {"namespace": "llm", "selector": {"app": town.name}, "mix": town.mix}
            self.fleet.control.set_load(town.name, requests_per_second=0, **load)
            until(lambda town=town: self.fleet.control.saturation_rps(town.name) is not None)
            one = self.fleet.control.saturation_rps(town.name)
            self.fleet.control.set_load(town.name, requests_per_second=one * REPLICAS * town.ratio, **load)
        self.prometheus.start()
        self._wait_for_points()
        # The window before the rollout must not reach back to where the load began.
        self.prometheus.wait_for("max(count_over_time(up[60s]))", lambda found: found[0].value >= WINDOW_SECONDS + 8)
        self._roll("rolled")
        self._wait_for_points()
        self.prometheus.wait_for(
            'max(count_over_time(vllm:num_requests_running{pod=~"rolled.*"}[60s]))', lambda found: found[0].value >= 12
        )

    def _wait_for_points(self):
        """Until each of the replicas there are has been scraped for most of a window."""
        names = {pod.name for pod in self.cluster.pods}
        query = f"count_over_time(vllm:num_requests_running[{WINDOW_SECONDS}s]) >= {WINDOW_SECONDS - 2}"
        self.prometheus.wait_for(query, lambda found: names <= {s.labels["pod"] for s in found}, seconds=40)

    def _see(self):
        """Tell the fleet of the cluster's pods, each on an address of its own."""
        for pod in self.cluster.pods:
            if not (pod.ip or "").startswith(self.fleet.prefix):
                self.network += 1
                self._put(replace(pod, ip=f"{self.fleet.prefix}.{self.network}"))
        self.fleet.see(
            *(
                pod_json(
                    pod.name,
                    ip=pod.ip,
                    node=pod.node,
                    namespace="llm",
                    labels=dict(pod.labels),
                    image=pod.containers[0].image,
                    args=pod.containers[0].args[1:],
                    gpus=GPUS,
                )
                for pod in self.cluster.pods
            )
        )

    def _put(self, changed):
        self.cluster.pods = [changed if pod.name == changed.name else pod for pod in self.cluster.pods]

    def _roll(self, name):
        """A new revision whose image is slow."""
        self.fleet.control.set_fault("slow", Match(image=f"*:{SLOW_IMAGE.rpartition(':')[2]}"), Effect(slowdown=3))
        ref, now = TOWNS[name].ref, datetime.now(UTC)
        old = self.cluster.workload(ref).template
        new = {**old, "spec": {"containers": [{**old["spec"]["containers"][0], "image": SLOW_IMAGE}]}}
        self.cluster.set_template(ref, before=old, after=new, cause="Update vLLM to v0.33.0")
        self.cluster.settle(ref)
        first, *rest = self.cluster.history[ref]
        self.cluster.history[ref] = [replace(first, created_at=now), *rest]
        self._see()

    def diagnose(self, name):
        now = datetime.now(UTC)
        town = TOWNS[name]
        service = Service(name=name, workloads=(town.ref,), slo=Slo(ttft_p99_seconds=1.0), channel="#x")
        fleet = fleet_of(town.ref).model_copy(update={"services": (service,)})
        reader = PrometheusReader(self.prometheus.url, timeout_seconds=5)
        sources = fake_sources(
            cluster=self.cluster, metrics=reader, fleet=fleet, now=now, window_seconds=WINDOW_SECONDS
        )
        began = now - timedelta(seconds=5)
        runbook = library([our_folder()]).runbooks["high_latency"]
        with ThreadPoolExecutor(16) as pool:
            return diagnose(runbook, Target(service=name), began, sources, pool)


EXPECTED = {
    "calm": None,
    "steady": None,
    "overloaded": "under_provisioned",
    "capped": "gpu_underutilized",
    "squeezed": "memory_pressure",
    "documents": "long_prefill",
    "unchunked": "chunked_prefill_off",
    "rolled": "bad_rollout",
}


@pytest.mark.timeout(180)
def test_each_trouble_is_told_from_the_others(played_fleet, tmp_path):
    country = Country(played_fleet, tmp_path)
    try:
        country.start()
        rounds = {name: country.diagnose(name) for name in TOWNS}
        blind = blinded(country)
    finally:
        country.prometheus.stop()
    wrong = [
        f"{name}: {top(rounds[name])}, {told(rounds[name])}" for name in TOWNS if top(rounds[name]) != EXPECTED[name]
    ]
    assert not wrong, "\n".join(wrong)
    for name in ("calm", "steady"):
        assert not [o.error for o in rounds[name].observations if o.error]
        assert verdicts(rounds[name])["under_provisioned"] is Verdict.RULED_OUT, told(rounds[name])
    for name in set(TOWNS) - {"squeezed"}:
        assert verdicts(rounds[name])["memory_pressure"] is Verdict.RULED_OUT, told(rounds[name])
    # Without the exporter an overloaded engine cannot be told from one whose max_num_seqs is too low.
    assert verdicts(blind)["under_provisioned"] is Verdict.INCONCLUSIVE, told(blind)
    assert any("not exported" in why for finding in blind.findings for why in finding.unknown)


def blinded(country):
    country.fleet.control.set_gpu_fault("blind", GpuFault(exporter_down=True))
    query = "count(DCGM_FI_DEV_GPU_UTIL) or vector(0)"
    country.prometheus.wait_for(query, lambda found: found[0].value == 0)
    return country.diagnose("overloaded")


def verdicts(found):
    return {finding.rule: finding.verdict for finding in found.findings}


def top(found):
    """The confirmed finding that explains itself, if there is one."""
    for finding in found.findings:
        if finding.verdict is Verdict.CONFIRMED and finding.suppressed_by is None:
            return finding.rule
    return None


def told(found):
    """For a failed assertion: what was seen."""
    return {
        o.step: {k: v for k, v in (o.reading or {"error": o.error}).items() if v is not None}
        for o in found.observations
    }
