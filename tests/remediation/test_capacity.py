from dataclasses import replace
from datetime import timedelta

from bot.actions.contract import CapacityChange
from bot.ports import SourceError
from bot.remediation.capacity import ColdStart, age, blast_radius, cold_start, load_per_replica
from tests.fakes import NOW, FakeCluster, FakeMetrics, container, fake_sources

MEASURED = ColdStart(400, measured=True)


def pods(*cold_starts: float | None, restarts: int = 0):
    """Each an hour younger than the one before."""
    cluster = FakeCluster()
    ref = cluster.add_workload(replicas=0)
    found = []
    for number, seconds in enumerate(cold_starts):
        created = NOW - timedelta(hours=24 - number)
        pod = cluster.add_pod(ref, containers=[container(restart_count=restarts)])
        ready_at = created + timedelta(seconds=seconds) if seconds is not None else None
        found.append(replace(pod, created_at=created, ready_at=ready_at, ready=seconds is not None))
    return found


def test_a_cold_start_is_measured_on_the_newest_pods():
    assert cold_start(pods(60, 400, 420, 410), 600) == ColdStart(400, measured=True)


def test_a_pod_that_regained_its_readiness_late_does_not_count_for_slow():
    assert cold_start(pods(400, 50_000), 600).seconds == 400


def test_without_a_pod_that_serves_the_declared_time_is_taken():
    assert cold_start(pods(None), 600) == ColdStart(600, measured=False)
    assert cold_start(pods(90, restarts=1), 600) == ColdStart(600, measured=False)


def test_adding_is_told_with_its_gpus_and_its_time():
    change = CapacityChange(replicas=3, ready=3, added=1, gpus_needed=4)
    assert blast_radius("chat-70b", change, MEASURED, free_gpus=8) == (
        "adds 1 to 3 replicas of chat-70b; needs 4 GPUs, 8 are free; last cold start 6 min 40 s"
    )


def test_removing_is_told_as_a_share_of_what_serves():
    change = CapacityChange(replicas=3, ready=3, lost=1, removed=1)
    assert blast_radius("chat-70b", change, MEASURED) == (
        "removes 1 of 3 replicas of chat-70b, 33 % of what serves now"
    )


def test_replacing_is_told_with_what_is_missing_meanwhile_and_how_long_it_takes():
    change = CapacityChange(replicas=3, ready=3, lost=1, replaced=3, waves=3)
    assert blast_radius("chat-70b", change, ColdStart(60, measured=False)) == (
        "replaces 3 of 3 replicas of chat-70b; up to 1 of 3 ready missing meanwhile (33 %); "
        "cold start as declared 1 min; one after another, so about 3 min"
    )
    assert "none of the ready ones goes before" in blast_radius("chat-70b", replace(change, lost=0), MEASURED)


def test_an_age_is_never_negative():
    assert age(NOW - timedelta(seconds=70), NOW) == "1 min 10 s"
    assert age(NOW + timedelta(seconds=70), NOW) == "0.0 s"


# ---------------------------------------------------------------------------------------------- load


def load(metrics: FakeMetrics, change: CapacityChange) -> str:
    cluster = FakeCluster()
    ref = cluster.add_workload(replicas=3)
    return load_per_replica(ref, change, fake_sources(cluster=cluster, metrics=metrics))


ADDED = CapacityChange(replicas=3, ready=3, added=1)


def test_the_load_of_each_replica_is_estimated():
    metrics = FakeMetrics({"num_requests_running": 120.0})
    assert load(metrics, ADDED) == "requests per ready replica 40 → 30 if the load stays"
    assert 'pod=~"chat-' in metrics.asked[0] and 'namespace="llm"' in metrics.asked[0]


def test_a_prometheus_that_does_not_answer_reads_cannot_tell():
    metrics = FakeMetrics(down=SourceError("Prometheus", "did not answer within 10 s"))
    assert load(metrics, ADDED) == "load per replica: cannot tell (Prometheus did not answer within 10 s)"


def test_absent_metrics_are_not_zero():
    assert load(FakeMetrics(), ADDED) == "load per replica: cannot tell (no data)"


def test_a_change_that_leaves_the_number_has_no_such_line():
    assert load(FakeMetrics(), CapacityChange(replicas=3, ready=3, replaced=3)) == ""
