import pytest

from sandbox.fleet.capacity import Gpu
from sandbox.fleet.contract import Effect, Load, ModelProfile, RequestKind
from sandbox.fleet.replica import Replica
from sandbox.fleet.traffic import Tally, Traffic
from tests.fixtures_fleet import DEFAULT_ARGS, pod


def replica(name: str, args: tuple[str, ...] = DEFAULT_ARGS) -> Replica:
    return Replica(pod(name, args=args), Gpu("NVIDIA-H100-80GB-HBM3", 81_559), lambda model: ModelProfile(), 0.0)


def load(rps: float = 20, **more) -> Load:
    return Load(namespace="llm", selector={"app": "chat"}, requests_per_second=rps, **more)


def play(traffic: Traffic, replicas: list[Replica], until: float, since: float = 0.0, tick: float = 0.05) -> Tally:
    now = since
    while now < until:
        now = min(until, now + tick)
        traffic.advance(now, {"chat": replicas})
        for each in replicas:
            traffic.ended(each.advance(now))
    return traffic.streams["chat"].tally


def started(rps: float = 20, seed: int = 1, **more) -> Traffic:
    traffic = Traffic(seed)
    traffic.set_load("chat", load(rps, **more), 0.0)
    return traffic


def test_as_many_arrive_as_are_offered():
    assert play(started(20), [replica("a"), replica("b")], 100).offered == pytest.approx(2000, rel=0.05)


def test_every_request_comes_to_one_end():
    replicas = [replica("a", args=(*DEFAULT_ARGS, "--max-num-seqs=2"))]
    tally = play(started(20, timeout_seconds=3), replicas, 60)
    ended = tally.finished + tally.timed_out + tally.unavailable + tally.rejected + tally.invalid + tally.lost
    assert tally.offered == ended + replicas[0].outstanding
    assert tally.timed_out > 100


def test_the_same_seed_gives_the_same_story_whatever_the_tick():
    def story(seed: int, tick: float) -> tuple[Tally, float]:
        replicas = [replica("a"), replica("b")]
        tally = play(started(50, seed), replicas, 20, tick=tick)
        return tally, replicas[0].process.measured.ttft.sum

    assert story(1, 0.05) == story(1, 0.37)
    assert story(1, 0.05) != story(2, 0.05)


def test_a_new_replica_gets_the_new_requests_until_it_has_as_many_as_the_others():
    traffic, old, new = started(60), replica("a"), replica("b")
    play(traffic, [old], 5)
    assert old.outstanding > 100
    before = old.process.measured.submitted
    play(traffic, [old, new], 6, since=5.0)
    assert old.process.measured.submitted == before
    assert new.process.measured.submitted > 40


def test_a_slow_replica_gets_fewer_requests_than_a_fast_one():
    traffic, fast, slow = started(25), replica("a"), replica("b")
    slow.apply([Effect(slowdown=4)], 0.0)
    play(traffic, [fast, slow], 30)
    assert slow.process.measured.submitted < 0.6 * fast.process.measured.submitted


def test_without_a_ready_replica_requests_fail():
    assert play(started(20), [], 10).unavailable == pytest.approx(200, rel=0.2)


def test_ready_but_dead_replicas_are_passed_over_and_if_all_are_dead_requests_fail():
    traffic, dead, alive = started(20), replica("a"), replica("b")
    dead.apply([Effect(dead=True)], 0.0)
    assert play(traffic, [dead, alive], 10).unavailable == 0
    assert alive.process.measured.submitted > 100
    alive.apply([Effect(dead=True)], 10.0)
    assert play(traffic, [dead, alive], 20, since=10.0).unavailable == pytest.approx(200, rel=0.2)


def test_a_load_may_change_while_it_runs():
    traffic, replicas = started(5), [replica("a")]
    before = play(traffic, replicas, 20).offered
    traffic.set_load("chat", load(50, mix=(RequestKind(output_tokens=2),)), 20.0)
    after = play(traffic, replicas, 40, since=20.0).offered - before
    assert after == pytest.approx(10 * before, rel=0.4)
    traffic.set_load("chat", load(0), 40.0)
    total = traffic.streams["chat"].tally.offered
    assert play(traffic, replicas, 60, since=40.0).offered == total


def test_a_dropped_load_stops_but_its_requests_finish():
    traffic, replicas = started(20), [replica("a")]
    play(traffic, replicas, 5)
    traffic.drop_load("chat")
    traffic.advance(60.0, {})
    replicas[0].advance(60.0)
    assert replicas[0].outstanding == 0
