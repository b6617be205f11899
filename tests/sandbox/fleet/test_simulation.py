"""The physics as a whole: what load, replicas, arguments and faults do to latency, queues and GPUs."""

from collections.abc import Iterable

import pytest

from sandbox.fleet.contract import Config, Effect, Fault, Load, Match, RequestKind
from sandbox.fleet.control import LONG_CONTEXTS, LONG_PROMPTS
from sandbox.fleet.measurements import Histogram
from sandbox.fleet.pods import PodFacts
from sandbox.fleet.simulation import Simulation
from tests.fixtures_fleet import DEFAULT_ARGS, node, pod

NODES = [node("gpu-01"), node("gpu-02"), node("gpu-03")]
NOMINAL_RPS = 45.0  # some 56 % of what three replicas with 32 sequences can do


def pods(count: int, **more) -> list[PodFacts]:
    return [pod(f"chat-{i}", node=f"gpu-0{1 + i // 2}", ip=f"127.9.0.{i + 1}", **more) for i in range(count)]


def seqs(number: int) -> tuple[str, ...]:
    return (*DEFAULT_ARGS, f"--max-num-seqs={number}")


class Story:
    """A simulation, and what happened in the stretch that was played last."""

    def __init__(
        self, first_pods: list[PodFacts], rps: float = NOMINAL_RPS, config: Config | None = None, **load
    ) -> None:
        self.simulation = Simulation(config or Config())
        self.now = 0.0
        self.see(first_pods)
        self.load(rps, **load)
        self._before: dict[object, dict[str, list[int]]] = {}
        self._preempted = 0

    def see(self, now_there: list[PodFacts]) -> None:
        self.simulation.see(now_there, NODES, self.now)

    def load(self, rps: float, **more) -> None:
        wanted = Load(namespace="llm", selector={"app": "chat"}, requests_per_second=rps, **more)
        self.simulation.set_load("chat", wanted, self.now)

    def play(self, seconds: float) -> "Story":
        self._before = {key: _counts(r.process.measured) for key, r in self.simulation.replicas.items() if r.process}
        self._preempted = sum(measured.preemptions for measured in self._measured())
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.05)
            self.simulation.advance(self.now)
        return self

    def _measured(self):
        return [r.process.measured for r in self.simulation.replicas.values() if r.process]

    @property
    def waiting(self) -> int:
        return sum(measured.waiting for measured in self._measured())

    @property
    def kv_cache_usage(self) -> float:
        return max(measured.kv_cache_usage for measured in self._measured())

    @property
    def preemptions(self) -> int:
        return sum(measured.preemptions for measured in self._measured()) - self._preempted

    @property
    def gpu_percent(self) -> float:
        used = [g for states in self.simulation.gpus.nodes.values() for g in states if g.owner]
        return 100 * sum(g.busy_ratio for g in used) / len(used)

    def p99(self, name: str) -> float:
        """The upper bound of the bucket that holds the 99th percentile of the last stretch."""
        histograms = []
        for key, replica in self.simulation.replicas.items():
            if replica.process:
                histogram: Histogram = getattr(replica.process.measured, name)
                before = self._before.get(key, {}).get(name, [0] * len(histogram.counts))
                histograms.append([a - b for a, b in zip(histogram.counts, before, strict=True)])
                bounds = (*histogram.bounds, float("inf"))
        return _quantile(bounds, [sum(column) for column in zip(*histograms, strict=True)])


def _counts(measured) -> dict[str, list[int]]:
    return {name: list(value.counts) for name, value in vars(measured).items() if isinstance(value, Histogram)}


def _quantile(bounds: Iterable[float], counts: list[int]) -> float:
    total, below = sum(counts), 0
    for bound, count in zip(bounds, counts, strict=True):
        below += count
        if below >= 0.99 * total:
            return bound
    raise AssertionError("nothing was observed")


def test_three_replicas_carry_the_nominal_load_without_a_queue():
    story = Story(pods(3)).play(30)
    assert story.waiting < 6
    assert story.p99("ttft") <= 0.25
    assert 50 < story.gpu_percent < 90


def test_doubled_load_makes_queue_and_ttft_grow_and_one_more_replica_brings_them_back():
    story = Story(pods(3)).play(20)
    story.load(2 * NOMINAL_RPS)
    story.play(5)
    early = story.waiting
    assert early > 20
    story.play(10)
    assert story.waiting > 2 * early
    assert story.p99("ttft") >= 1.0
    assert story.gpu_percent > 95
    assert story.p99("prefill") <= 0.3, "the prompts are as short as before"
    story.see(pods(4))
    story.play(10)
    assert story.waiting < 50
    story.play(5)
    assert story.p99("ttft") <= 0.5
    assert story.waiting < 20


def test_halving_max_num_seqs_makes_the_queue_grow_though_the_gpu_is_less_busy():
    full, halved = Story(pods(3, args=seqs(32)), 75).play(30), Story(pods(3, args=seqs(16)), 75).play(30)
    assert full.waiting < 60
    assert halved.waiting > 300
    assert halved.gpu_percent < full.gpu_percent - 10
    assert halved.p99("ttft") >= 2.5


def test_a_far_too_small_max_num_seqs_leaves_the_gpu_mostly_idle_under_a_long_queue():
    story = Story(pods(3, args=seqs(4)), 30).play(20)
    assert story.waiting > 200
    assert story.gpu_percent < 45


def test_a_bad_revision_is_slower_and_the_old_one_is_fast_again():
    slow = Fault(match=Match(image="*:v0.33.0"), effect=Effect(slowdown=4))
    story = Story(pods(3), config=Config(faults={"slow-release": slow})).play(10)
    assert story.p99("ttft") <= 0.25
    new = [pod(f"new-{i}", node=f"gpu-0{1 + i // 2}", image="vllm/vllm-openai:v0.33.0") for i in range(3)]
    story.see(new)
    story.play(10)
    assert story.p99("ttft") >= 2.5
    assert story.p99("inter_token") >= 0.1
    story.see(pods(3))
    story.play(2)
    story.play(5)
    assert story.p99("ttft") <= 0.25


def test_a_few_long_prompts_delay_everybodys_first_token():
    story = Story(pods(3), 24).play(20)
    assert (story.p99("ttft"), story.p99("prefill")) <= (0.25, 0.3)
    story.load(24, mix=LONG_PROMPTS)
    story.play(20)
    assert story.p99("ttft") >= 1.0
    assert story.p99("prefill") >= 0.8
    assert story.p99("request_prompt_tokens") > 20_000
    assert story.p99("inter_token") >= 0.2


def test_long_contexts_fill_the_kv_cache_and_preempt():
    story = Story(pods(1, args=(*DEFAULT_ARGS, "--kv-cache-memory-bytes=8G", "--max-model-len=16384")), 1.0).play(10)
    assert story.preemptions == 0
    story.load(4.0, mix=LONG_CONTEXTS)
    story.play(30)
    assert story.kv_cache_usage > 0.9
    assert story.preemptions > 5
    assert story.waiting > 20


def test_a_hung_engine_gets_no_further_while_the_others_serve():
    story = Story(pods(3)).play(5)
    story.simulation.set_fault("hang", Fault(match=Match(pod="chat-1"), effect=Effect(hung=True)), story.now)
    hung = next(r for r in story.simulation.replicas.values() if r.facts.name == "chat-1")
    steps = hung.process.measured.step_tokens.count
    story.play(20)
    assert hung.process.measured.step_tokens.count == steps
    assert hung.process.measured.running > 0
    story.simulation.set_fault("hang", None, story.now)
    story.play(5)
    assert hung.process.measured.step_tokens.count > steps


def test_a_deleted_pod_is_gone_with_its_gpus_and_its_requests():
    story = Story(pods(3)).play(5)
    story.see(pods(2))
    story.play(1)
    assert len(story.simulation.replicas) == 2
    assert sum(g.owner is not None for states in story.simulation.gpus.nodes.values() for g in states) == 8
    assert story.simulation.traffic.streams["chat"].tally.lost > 0


def test_a_restarted_container_counts_from_zero():
    story = Story(pods(1), 10).play(10)
    story.see(pods(1, restarts=1))
    (replica,) = story.simulation.replicas.values()
    assert replica.process.measured.finished_total == 0


def test_a_pod_outside_the_selector_gets_nothing():
    other = pod("other", labels={"app": "other"}, node="gpu-03")
    story = Story([*pods(1), other], 10).play(10)
    idle = next(r for r in story.simulation.replicas.values() if r.facts.name == "other")
    assert idle.process.measured.submitted == 0


def test_memory_shows_only_on_gpus_with_a_loaded_replica():
    story = Story(pods(1)).play(3)
    first, last = story.simulation.gpus.nodes["gpu-01"][0], story.simulation.gpus.nodes["gpu-01"][7]
    assert first.used_mib > 70_000
    assert last.used_mib < 100


def test_saturation_is_measured_for_the_arguments_and_the_mix_of_now():
    story = Story(pods(3))
    assert story.simulation.saturation_rps("chat") == pytest.approx(26.7, rel=0.05)
    story.load(1, mix=(RequestKind(output_tokens=80),))
    assert story.simulation.saturation_rps("chat") < 18
    story.see([])
    assert story.simulation.saturation_rps("chat") is None


def test_a_fault_matches_by_every_thing_that_is_given():
    first = pod("a", env={"FLAG": "on"})
    second = pod("b", env={"FLAG": "off"}, args=seqs(8))
    simulation = Simulation(Config())
    simulation.see([first, second], NODES, 0.0)
    slow = Effect(slowdown=2)

    def hit(**match) -> set[str]:
        simulation.set_fault("f", Fault(match=Match(**match), effect=slow), 0.0)
        return {r.facts.name for r in simulation.replicas.values() if r.effect == slow}

    assert hit() == {"a", "b"}
    assert hit(env={"FLAG": "on"}) == {"a"}
    assert hit(arguments={"max-num-seqs": "8"}) == {"b"}
    assert hit(pod="a", arguments={"max-num-seqs": "8"}) == set()
    assert hit(labels={"app": "ch*"}, namespace="llm", node="gpu-*") == {"a", "b"}
    assert hit(env={"OTHER": "*"}) == set()
