from dataclasses import replace
from datetime import timedelta

from bot.ports import Answer, ContainerState
from bot.probes.vllm_engine import Params, observe
from tests.fakes import NOT_ANSWERING, NOW, FakeEngine, FakeEngines
from tests.probes.engines import show
from tests.probes.fleets import by_pod, histogram, world


def seen(**kinds):
    sources, cluster, _ = world(replicas=len(kinds))
    show(sources, cluster, **{name: kind for name, kind in kinds.items() if kind})
    engines = FakeEngines({f"{pod.ip}:8000": FakeEngine() for pod in cluster.pods})
    return replace(sources, engines=engines), cluster


def ask(sources, **params):
    return observe(Params(service="chat", **params), sources)


def test_replicas_are_counted_by_state_and_the_bad_ones_named():
    sources, cluster = seen(p0="working", p1="hung", p2="saturated")
    found = ask(sources)
    assert (found.replicas, found.working, found.hung, found.saturated, found.idle) == (3, 1, 1, 1, 0)
    assert (found.hung_pod, found.hung_pods) == (cluster.pods[1].name, cluster.pods[1].name)
    assert (found.hung_requests, found.hung_seconds) == (13, 270)
    assert (found.dead, found.asleep, found.missing) == (0, 0, None)


def test_where_one_step_takes_minutes_rightly_no_step_for_minutes_is_no_hang_yet():
    sources, cluster = seen(p0="hung")  # for 270 s
    sources.metrics.answers["request_prefill_time_seconds_bucket"] = histogram(le_60=1, le_120=9, le_inf=9)
    assert ask(sources).hung == 1, "a step is short where prompts are computed in pieces"
    one = replace(cluster.pods[0].containers[0], args=("m", "--no-enable-chunked-prefill"))
    cluster.pods[0] = replace(cluster.pods[0], containers=(one,))
    found = ask(sources)
    assert (found.hung, found.unclear) == (None, 1) and "360 s make a hang" in found.missing


def test_a_night_without_work_is_idle_and_nothing_else():
    found = ask(seen(p0="idle", p1="idle")[0])
    assert (found.idle, found.hung, found.asleep, found.dead, found.missing) == (2, 0, 0, 0, None)


def test_sleep_tells_who_sleeps_and_who_waits_for_it():
    sources, cluster = seen(p0="asleep_with_work", p1="working")
    found = ask(sources)
    assert (found.asleep, found.asleep_pod, found.asleep_requests, found.hung) == (1, cluster.pods[0].name, 13, 0)


def test_how_to_wake_it_depends_on_whether_it_sleeps_or_is_paused():
    found = ask(seen(p0="asleep")[0])
    assert (found.asleep_how, found.wake_path) == ("asleep", "wake_up")
    sources, cluster = seen(p0="hung")
    engines = FakeEngines({f"{pod.ip}:8000": FakeEngine(paused=True) for pod in cluster.pods})
    found = ask(replace(sources, engines=engines))
    assert (found.asleep, found.hung, found.asleep_how, found.wake_path) == (1, 0, "paused", "resume")


def test_what_was_cut_off_as_it_fell_asleep_tells_that_it_was_needed():
    sources, cluster = seen(p0="asleep", p1="working")
    cut_off = 'finished_reason="abort"}) - sum by (namespace, pod)'
    sources.metrics.answers[cut_off] = Answer(())
    assert ask(sources).asleep_cut_off is None, "it has never been seen awake"
    sources.metrics.answers[cut_off] = by_pod(cluster, 4, 7)
    assert ask(sources).asleep_cut_off == 4, "what another replica aborted is not counted"
    asked = [query for query in sources.metrics.asked if cut_off in query]
    assert len(asked) == 4 and sum("[600s:30s]" in query for query in asked) == 2


def test_what_was_cut_off_long_ago_is_told_apart_from_what_was_lately():
    sources, cluster = seen(p0="asleep", p1="working")
    cut_off = 'finished_reason="abort"}) - sum by (namespace, pod)'

    def long_ago(query, _):
        return Answer(()) if "[600s:" in query else by_pod(cluster, 1, 0)

    sources.metrics.answers[cut_off] = long_ago
    assert (ask(sources).asleep_cut_off, ask(sources).asleep_cut_off_lately) == (1, 0)
    sources.metrics.answers[cut_off] = by_pod(cluster, 1, 0)
    assert ask(sources).asleep_cut_off_lately == 1


def test_while_one_replica_is_unclear_it_is_not_known_that_none_hangs():
    found = ask(seen(p0="working", p1=None)[0])
    assert (found.unclear, found.hung, found.dead, found.asleep) == (1, None, None, None)
    assert "Prometheus has no metrics of it" in found.missing


def test_a_hang_that_is_seen_is_there_whatever_else_is_unclear():
    assert ask(seen(p0="hung", p1=None)[0]).hung == 1


def test_without_the_api_server_the_number_of_replicas_is_not_known():
    sources, cluster = seen(p0="working")
    cluster.down = NOT_ANSWERING
    found = ask(sources)
    assert (found.replicas, found.working, found.hung, found.loading) == (None, 1, None, None)


def test_how_long_a_start_takes_is_told_beside_what_is_usual():
    sources, cluster = seen(p0=None)
    loading = replace(cluster.pods[0].containers[0], state=ContainerState("running", at=NOW - timedelta(minutes=20)))
    cluster.pods[0] = replace(cluster.pods[0], ready=False, ready_at=None, containers=(loading,))
    found = ask(replace(sources, engines=FakeEngines()))
    assert (found.loading, found.loading_seconds, found.cold_start_seconds) == (1, 1200, 600)
    assert (found.hung, found.dead) == (0, 0)


def test_the_stretch_that_makes_a_hang_may_be_set():
    assert ask(seen(p0="stalling")[0]).hung is None
    assert ask(seen(p0="stalling")[0], still_seconds=45).hung == 1


def test_demand_at_the_router_is_told_beside_idle_replicas():
    sources, _ = seen(p0="idle")
    sources.metrics.answers["istio_requests_total"] = 4.0
    assert ask(sources).arriving_per_second == 4.0


def test_a_service_without_pods_says_so():
    sources, cluster = seen(p0="idle")
    cluster.pods.clear()
    found = ask(sources)
    assert (found.replicas, found.hung) == (0, None)
    assert "no pods" in found.missing
