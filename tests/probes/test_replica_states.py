from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import Answer, ContainerState, Sample, SourceError
from bot.probes.replica_states import ReplicaState, replica_states
from tests.fakes import NOT_ANSWERING, NOW, FakeEngine, FakeEngines
from tests.probes.engines import show
from tests.probes.fleets import world

LIMIT = 120.0


def ask(sources):
    return replica_states(sources, sources.fleet.services[0], LIMIT)


def only(sources):
    (found,) = ask(sources).all
    return found


def answering(cluster, *, health=200):
    return FakeEngines({f"{pod.ip}:8000": FakeEngine(health=health) for pod in cluster.pods})


def one(*, engine=None, health=200, container=None, up=None, alive=None, **pod):
    """A service of one pod, and what is seen of it. `alive`: seconds since Prometheus last reached it."""
    sources, cluster, _ = world(replicas=1)
    first = replace(cluster.pods[0], **pod)
    if container:
        first = replace(first, containers=(replace(first.containers[0], **container),))
    cluster.pods[0] = first
    if engine:
        show(sources, cluster, p0=engine)
    key = {"namespace": first.namespace, "pod": first.name}
    if up is not None:
        sources.metrics.answers["(up{"] = Answer((Sample(key, up, NOW),))
    if alive is not None:
        then = (NOW - timedelta(seconds=alive)).timestamp()
        sources.metrics.answers["max_over_time((timestamp(up"] = Answer((Sample(key, then, NOW),))
    return replace(sources, engines=answering(cluster, health=health)), cluster


@pytest.mark.parametrize("kind", ["working", "saturated", "idle", "hung"])
def test_a_replica_that_reports_is_in_the_state_of_its_counters(kind):
    assert only(one(engine=kind)[0]).state is ReplicaState(kind)


def test_asleep_is_no_hang_though_it_has_work_and_makes_no_step():
    found = only(one(engine="asleep_with_work")[0])
    assert (found.state, found.running, found.waiting) == (ReplicaState.ASLEEP, 4, 9)


def test_where_sleep_is_not_exported_an_engine_that_may_sleep_is_not_said_to_hang():
    sources, cluster = one(engine="hung")
    sources.metrics.answers["engine_sleep_state"] = Answer(())
    assert only(sources).state is ReplicaState.HUNG  # not started with --enable-sleep-mode
    args = replace(cluster.pods[0].containers[0], args=("org/model", "--enable-sleep-mode"))
    cluster.pods[0] = replace(cluster.pods[0], containers=(args,))
    found = only(sources)
    assert found.state is ReplicaState.UNCLEAR
    assert "whether it sleeps is not exported" in found.why


def paused(sources, cluster, *, found=True):
    engine = FakeEngine(paused=True) if found else FakeEngine(health=None)
    return replace(sources, engines=FakeEngines({f"{pod.ip}:8000": engine for pod in cluster.pods}))


def test_what_somebody_paused_is_no_hang():
    found = only(paused(*one(engine="hung")))
    assert (found.state, found.why) == (ReplicaState.ASLEEP, "somebody has paused it")


def test_what_was_paused_while_it_had_nothing_to_do_is_not_idle():
    development = {"env": {"VLLM_SERVER_DEV_MODE": "1"}}
    assert only(paused(*one(engine="idle", container=development))).state is ReplicaState.ASLEEP
    assert only(one(engine="idle", container=development)[0]).state is ReplicaState.IDLE
    assert only(paused(*one(engine="idle"))).state is ReplicaState.IDLE, "it cannot be paused, and is not asked"


def test_what_may_be_paused_and_cannot_be_asked_is_not_said_to_hang():
    sources, cluster = one(engine="hung", container={"env": {"VLLM_SERVER_DEV_MODE": "1"}})
    assert only(paused(sources, cluster, found=False)).state is ReplicaState.UNCLEAR
    sources, cluster = one(engine="hung")
    assert only(paused(sources, cluster, found=False)).state is ReplicaState.HUNG


def test_an_engine_that_does_not_even_say_whether_it_is_paused_hangs():
    sources, cluster = one(engine="hung", container={"env": {"VLLM_SERVER_DEV_MODE": "1"}})
    silent = {f"{pod.ip}:8000": FakeEngine(paused=None) for pod in cluster.pods}
    assert only(replace(sources, engines=FakeEngines(silent))).state is ReplicaState.HUNG


def test_two_who_look_from_different_places_agree_that_it_is_dead():
    found = only(one(health=None, up=0.0, alive=300)[0])
    assert found.state is ReplicaState.DEAD
    assert found.since == NOW - timedelta(seconds=300)


def test_what_its_readiness_probe_reaches_is_not_dead_because_a_network_policy_lets_in_only_the_gateway():
    sources, cluster = one(health=None, up=0.0, alive=300, container={"readiness_probe": True})
    found = only(sources)
    assert found.state is ReplicaState.UNCLEAR
    assert "NetworkPolicy" in found.why
    # Before the window is over, its counters are still there; they are of the past.
    known = {"engine": "idle", "health": None, "up": 0.0, "alive": 300}
    assert only(one(**known, container={"readiness_probe": True})[0]).state is ReplicaState.UNCLEAR
    cluster.machines["gpu-01"] = replace(cluster.machines["gpu-01"], ready=None)
    assert only(sources).state is ReplicaState.DEAD  # its kubelet does not report any more


def test_what_its_readiness_probe_does_not_reach_either_is_dead():
    fails = {"readiness_probe": True, "ready": False}
    assert only(one(health=None, up=0.0, alive=300, container=fails, ready=False)[0]).state is ReplicaState.DEAD


def test_what_the_window_still_holds_of_an_engine_does_not_keep_it_alive():
    found = only(one(engine="working", health=None, up=0.0, alive=100)[0])
    assert found.state is ReplicaState.DEAD
    assert only(one(engine="working", health=None, up=0.0, alive=20)[0]).state is ReplicaState.UNCLEAR
    assert only(one(engine="working", health=None, up=1.0, alive=0)[0]).state is ReplicaState.WORKING


def test_a_moment_of_silence_is_no_death():
    found = only(one(health=None, up=0.0, alive=20)[0])
    assert found.state is ReplicaState.UNCLEAR
    assert "since 02:12:40" in found.why


def test_what_prometheus_reaches_is_not_dead_because_this_bot_does_not_reach_it():
    found = only(one(health=None, up=1.0, alive=0)[0])
    assert found.state is ReplicaState.UNCLEAR
    assert "NetworkPolicy" in found.why


def test_what_nobody_scrapes_and_nobody_reaches_is_not_known_to_be_dead():
    assert only(one(health=None)[0]).state is ReplicaState.UNCLEAR
    assert only(one(health=None, up=0.0)[0]).state is ReplicaState.UNCLEAR  # ready, and it never answered anybody


def test_an_engine_kept_alive_after_its_death_says_so_on_health():
    found = only(one(engine="idle", health=503)[0])
    assert found.state is ReplicaState.DEAD
    assert "503" in found.why


def test_a_container_that_runs_and_has_not_answered_yet_loads():
    started = NOW - timedelta(minutes=4)
    container = {"state": ContainerState("running", at=started)}
    found = only(one(health=None, up=0.0, ready=False, ready_at=None, container=container)[0])
    assert (found.state, found.since) == (ReplicaState.LOADING, started)


def test_what_the_run_before_answered_does_not_make_a_start_a_death():
    container = {"state": ContainerState("running", at=NOW - timedelta(minutes=4))}
    sources, _ = one(health=None, up=0.0, alive=300, ready=False, container=container)
    assert only(sources).state is ReplicaState.LOADING


def test_a_container_that_ended_has_crashed_whatever_its_code():
    ended = ContainerState("terminated", "Completed", exit_code=0, at=NOW)
    waits = ContainerState("waiting", "CrashLoopBackOff")
    for state in (ended, waits):
        assert only(one(container={"state": state}, ready=False)[0]).state is ReplicaState.CRASHED


def test_a_pod_without_a_node_or_an_image_is_pending():
    assert only(one(node=None, ip=None, ready=False)[0]).state is ReplicaState.PENDING
    waits = ContainerState("waiting", "ImagePullBackOff")
    assert only(one(container={"state": waits}, ready=False)[0]).state is ReplicaState.PENDING


def test_a_replica_that_answers_and_exports_nothing_is_unclear():
    found = only(one()[0])
    assert found.state is ReplicaState.UNCLEAR
    assert "answers /health with 200, and Prometheus has no metrics of it" in found.why
    assert found.unseen
    assert not only(one(engine="stalling")[0]).unseen


def test_an_engine_that_stalls_for_less_than_the_limit_is_unclear():
    assert only(one(engine="stalling")[0]).state is ReplicaState.UNCLEAR


def test_without_the_api_server_what_reports_is_told_and_that_there_may_be_more():
    sources, cluster = one(engine="hung")
    cluster.down = NOT_ANSWERING
    found = ask(sources)
    assert [r.state for r in found.all] == [ReplicaState.HUNG]
    assert "did not answer" in found.missing


def test_without_prometheus_nothing_is_said():
    sources, _ = one(engine="working")
    sources.metrics.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)


def test_a_pod_that_is_being_deleted_is_no_replica_any_more():
    assert ask(one(engine="hung", deleted_at=NOW)[0]).all == ()
