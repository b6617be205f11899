import contextvars
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict

from bot.incidents import diagnose as module
from bot.incidents.diagnose import Diagnoser, Words, diagnose
from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target
from bot.incidents.judge import Verdict
from bot.ports import SourceError
from bot.probes import finder
from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from bot.runbook.schema import Runbook, Severity
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics, series
from tests.probes.fleets import UP, by_pod, world
from tests.probes.gpu_nodes import agent, agents, gpu, xid

TARGET = Target(service="chat", namespace="llm")
CONTEXT = contextvars.ContextVar("CONTEXT", default="")

ONCE = "max by (namespace, pod, engine)"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as pool:
        yield pool


def runbook(*steps, **more):
    return Runbook.model_validate(
        {
            "title": "t",
            "owner": "o",
            "symptoms": "s",
            "match": [{"alertname": "A"}],
            "steps": [{"with": {"service": "$service"}, **step} for step in steps],
            "rules": [
                {"id": "r", "when": ["queue.waiting > 50"], "severity": "critical", "title": "Full", "finding": "f"}
            ],
            "name": "one",
            **more,
        }
    )


QUEUE = {"id": "queue", "probe": "vllm_queue"}


@pytest.fixture
def busy():
    sources, cluster, ref = world()
    sources.metrics.answers = {f"by (namespace, pod) ({ONCE} (vllm:num_requests_waiting": by_pod(cluster, 41, 50, 47)}
    return sources, cluster, ref


def ask(runbook, sources, pool, target=TARGET):
    return diagnose(runbook, target, NOW - timedelta(minutes=2), sources, pool)


@pytest.fixture
def probe_named(monkeypatch):
    """A probe `made` for this test, whose `observe` is given."""

    class Params(BaseModel):
        model_config = ConfigDict(extra="allow")

    @dataclass(frozen=True, slots=True)
    class Reading:
        value: float | None = None
        log_excerpt: str | None = None

    def named(observe):
        made = SimpleNamespace(Params=Params, Reading=Reading, observe=observe, __doc__="Is it made?\n\nYes.")
        real = finder.probe
        monkeypatch.setattr(module, "probe", lambda name: made if name == "made" else real(name))
        return Reading

    return named


MADE = {"id": "made", "probe": "made"}


# --- one round


def test_a_round_is_readings_and_a_verdict(busy, pool):
    found = ask(runbook(QUEUE), busy[0], pool)
    (observation,) = found.observations
    assert observation.reading["waiting"] == 138 and observation.error is None
    assert observation.ask.startswith("How many requests wait")
    assert found.findings[0].verdict is Verdict.CONFIRMED
    assert found.signal is None


def test_the_queries_are_kept_with_what_came_back(busy, pool):
    (observation,) = ask(runbook(QUEUE), busy[0], pool).observations
    waiting = next(q for q in observation.queries if f"by (namespace, pod) ({ONCE} (vllm:num_requests_w" in q.promql)
    assert waiting.value == "3 series" and waiting.link.startswith("http")


def test_two_steps_that_ask_the_same_ask_once_and_both_tell_of_it(busy, pool):
    sources, _, _ = busy
    found = ask(runbook(QUEUE, {**QUEUE, "id": "again"}), sources, pool)
    assert len(sources.metrics.asked) == len(set(sources.metrics.asked))
    one, again = (o.queries for o in found.observations)
    assert one == again and len(one) == len(sources.metrics.asked)


def test_a_source_that_is_down_is_an_error_in_its_own_words_and_inconclusive(busy, pool):
    sources, _, _ = busy
    sources.metrics.down = NOT_ANSWERING
    found = ask(runbook(QUEUE), sources, pool)
    assert found.observations[0].error == "Fake: did not answer within 10 s"
    assert found.findings[0].verdict is Verdict.INCONCLUSIVE
    assert found.findings[0].unknown == ("queue: Fake: did not answer within 10 s",)


def test_a_source_that_is_down_is_not_asked_again_by_every_probe(busy, pool):
    sources, _, _ = busy
    sources.metrics.down = NOT_ANSWERING
    ask(runbook(QUEUE, {**QUEUE, "id": "a"}, {**QUEUE, "id": "b"}), sources, pool)
    assert len(sources.metrics.asked) == len(set(sources.metrics.asked))


def test_an_alert_without_a_service_asks_nothing_and_says_why(busy, pool):
    target = Target(unresolved="no service of fleet.yaml matches its labels")
    found = ask(runbook(QUEUE), busy[0], pool, target)
    (observation,) = found.observations
    assert observation.error == (
        "not asked: it needs a service, and this alert names none (no service of fleet.yaml matches its labels)"
    )
    assert found.findings[0].verdict is Verdict.INCONCLUSIVE
    assert busy[0].metrics.asked == []


def test_a_broken_probe_takes_no_other_answer_away(busy, pool, probe_named, caplog):
    def observe(params, sources):
        raise ZeroDivisionError("by accident")

    probe_named(observe)
    with caplog.at_level(logging.ERROR):
        made, queue = ask(runbook(MADE, QUEUE), busy[0], pool).observations
    assert made.error == "internal error in probe made: ZeroDivisionError: by accident (the log has more)"
    assert "Traceback" in caplog.text
    assert queue.reading["waiting"] == 138


def test_params_that_do_not_fit_are_an_error_of_that_step(busy, pool):
    (observation,) = ask(runbook({**QUEUE, "with": {"service": 7}}), busy[0], pool).observations
    assert "internal error in probe vllm_queue" in observation.error


def test_a_step_without_an_answer_in_time_is_an_error_and_the_round_goes_on(busy, pool, probe_named):
    release = threading.Event()
    probe_named(lambda params, sources: release.wait(10))
    begun = time.monotonic()
    made, queue = ask(runbook({**MADE, "timeout_seconds": 0.2}, QUEUE), busy[0], pool).observations
    release.set()
    assert made.error == "did not answer within 0.2 s"
    assert queue.reading["waiting"] == 138
    assert time.monotonic() - begun < 5


def test_a_full_pool_is_told_from_a_silent_source(busy, probe_named):
    release = threading.Event()
    probe_named(lambda params, sources: release.wait(10))
    steps = [{**MADE, "id": f"made{n}", "timeout_seconds": 0.2} for n in range(3)]
    with ThreadPoolExecutor(1) as narrow:
        observations = ask(runbook(*steps), busy[0], narrow).observations
        release.set()
    assert observations[-1].error == "found no free thread within 0.2 s"


def test_nan_and_infinity_are_no_readings(busy, pool, probe_named):
    reading = probe_named(lambda params, sources: reading(value=float("inf"), log_excerpt="line"))
    (observation,) = ask(runbook(MADE), busy[0], pool).observations
    assert observation.reading == {"value": None}
    assert observation.log_excerpt == "line"
    assert observation.ask == "Is it made?"


def test_secrets_leave_no_step_whatever_probe_told_them(busy, pool, probe_named):
    reading = probe_named(lambda params, sources: reading(value="--api-key s3cret", log_excerpt="HF_TOKEN=hf_secret"))
    (observation,) = ask(runbook(MADE), busy[0], pool).observations
    assert observation.reading == {"value": "--api-key [redacted]"}
    assert observation.log_excerpt == "HF_TOKEN=[redacted]"

    def refused(params, sources):
        raise SourceError("vLLM", "answered 401 to authorization: Bearer s3cret-token")

    probe_named(refused)
    (observation,) = ask(runbook(MADE), busy[0], pool).observations
    assert "s3cret" not in observation.error and "answered 401" in observation.error


def test_the_logs_context_is_there_in_the_steps(busy, pool, probe_named):
    seen = []
    reading = probe_named(lambda params, sources: (seen.append(CONTEXT.get()), reading())[1])
    CONTEXT.set("inc-7")
    ask(runbook(MADE), busy[0], pool)
    assert seen == ["inc-7"]


SIGNAL = {
    "name": "Waiting",
    "query": "sum(vllm:num_requests_waiting{$selector})",
    "unit": "count",
    "threshold": 50,
}


def test_the_signal_is_read_beside_the_steps(busy, pool):
    sources, _, _ = busy
    alive = by_pod(busy[1], 1, 1, 1)
    sources.metrics.answers |= {"sum(vllm:num_requests_waiting": 138.0, "num_requests_running": alive}
    signal = ask(runbook(QUEUE, signal=SIGNAL), sources, pool).signal
    assert (signal.value, signal.threshold, signal.error) == (138.0, 50.0, None)


def test_the_signal_is_that_of_the_alert(busy, pool):
    other = {**SIGNAL, "name": "Other", "alerts": ["B"]}
    book = runbook(QUEUE, signal=SIGNAL, other_signals=[other])
    found = diagnose(book, TARGET, NOW, busy[0], pool, alert_names=("B", "A"))
    assert found.signal.name == "Other"


def test_a_signal_without_a_service_says_what_it_lacks(busy, pool):
    signal = ask(runbook(QUEUE, signal=SIGNAL), busy[0], pool, Target()).signal
    assert signal.value is None and "$selector" in signal.error


def test_a_signal_that_does_not_come_is_waited_for_no_longer_than_a_round_may(busy, pool, monkeypatch):
    monkeypatch.setattr(module, "SIGNAL_TIMEOUT_SECONDS", 0.2)
    release = threading.Event()

    class Slow(FakeMetrics):
        def instant(self, query):
            release.wait(10)
            return super().instant(query)

    promql = {"id": "queue", "probe": "replicas"}
    found = ask(runbook(promql, signal=SIGNAL), replace(busy[0], metrics=Slow()), pool)
    release.set()
    assert found.signal.error == "did not answer within 0.2 s" and found.signal.threshold == 50.0


# --- what a step is asked about


def about(target, *nodes, **events):
    """gpu_hardware_failure, as we ship it, over nodes that their agents tell of."""
    sources, cluster, _ = world()
    with ThreadPoolExecutor(16) as pool:
        book = library([our_folder()]).runbooks["gpu_hardware_failure"]
        held = [agent(*(gpu(n, held_by=cluster.pods[n // 4] if n < 12 else None) for n in range(16))), *nodes]
        sources = replace(sources, gpus=agents(*held, **events))
        found = diagnose(book, target, NOW - timedelta(minutes=2), sources, pool)
    return {o.step: o for o in found.observations}, {f.rule: f for f in found.findings}


def test_a_service_alone_is_looked_at_on_all_nodes_of_its_replicas():
    seen, findings = about(TARGET, gpu_01=(xid(79, index=5),))
    assert seen["xid"].reading["matched_by"] == "uuid" and seen["recovery"].reading["gpus"] == 12
    assert findings["xid_reboot"].verdict is Verdict.CONFIRMED
    assert "GPU 5 (GPU-5, 05:00) on gpu-01" in findings["xid_reboot"].text
    assert findings["gpu_lost"].verdict is Verdict.RULED_OUT
    assert "needs a node" in seen["tenants"].error, "that is about one node only"


def test_there_the_gpus_of_others_on_its_nodes_do_not_count():
    _, findings = about(TARGET, gpu_01=(xid(79, index=15),))
    assert findings["xid_reboot"].verdict is Verdict.RULED_OUT


def test_where_the_node_is_known_the_whole_node_is_looked_at():
    _, findings = about(replace(TARGET, node="gpu-01"), gpu_01=(xid(79, index=15, gpu_uuid=None, pci=None),))
    assert findings["xid_reboot"].verdict is Verdict.CONFIRMED


def test_sentences_name_what_was_looked_at(busy):
    assert Words(TARGET, NOW, busy[0]).simple["place"] == "the nodes of chat"
    assert Words(replace(TARGET, node="gpu-01"), NOW, busy[0]).simple["place"] == "gpu-01"
    assert Words(Target(), NOW, busy[0]).simple["place"] is None


# --- words


def test_words_come_from_the_resolved_target(busy):
    target = Target(service="chat", namespace="llm", pod="chat-1", node="gpu-01")
    words = Words(target, NOW + timedelta(hours=1), busy[0]).simple
    assert {"service": "chat", "kind": "deployment", "workload": "chat", "namespace": "llm"}.items() <= words.items()
    assert {"pod": "chat-1", "node": "gpu-01", "window": "300s", "slo.ttft_p99_seconds": 1.0}.items() <= words.items()
    assert words["began"] == NOW.isoformat()  # never in the future


def test_what_is_no_kubernetes_name_stays_out_of_queries(busy):
    words = Words(Target(pod='x"} or up{', node="gpu 01"), NOW, busy[0]).simple
    assert words["pod"] is None and words["node"] is None


def test_the_selector_is_looked_up_only_where_it_is_named(busy):
    sources, cluster, _ = busy
    words = Words(TARGET, NOW, sources)
    cluster.down = NOT_ANSWERING
    assert "selector" not in words.for_names(["service"])
    assert words.for_names(["selector"])["selector"].startswith('namespace="llm"')


# --- as the loop and the graph use it


def incident():
    return Incident(
        number=7,
        state=IncidentState.OPEN,
        severity=Severity.CRITICAL,
        title="A",
        target=TARGET,
        runbook="one",
        channel="#chat",
        opened_at=NOW,
        began_at=NOW - timedelta(minutes=2),
    )


def due(**more):
    return Round(incident=7, number=1, runbook="one", reason=RoundReason.START, due_at=NOW, **more)


def diagnoser(sources, pool, **runbooks):
    return Diagnoser(runbooks, lambda now: replace(sources, now=now), pool, clock=lambda: NOW)


def test_a_round_that_is_due_comes_back_ended(busy, pool):
    done = diagnoser(busy[0], pool, one=runbook(QUEUE))(incident(), due())
    assert (done.started_at, done.ended_at, done.error) == (NOW, NOW, None)
    assert done.findings[0].rule == "r" and done.observations[0].step == "queue"


def test_a_runbook_that_is_gone_ends_the_round_with_words(busy, pool):
    done = diagnoser(busy[0], pool, other=runbook(QUEUE))(incident(), due())
    assert done.ended_at == NOW
    assert done.error == "there is no runbook 'one' any more; there is other"


def test_as_of_a_time_prometheus_answers_and_kubernetes_says_it_cannot(busy, pool):
    sources, _, _ = busy
    then = NOW - timedelta(hours=3)
    answers = sources.metrics.answers
    sources = replace(sources, metrics=FakeMetrics({**answers, **UP}))
    book = runbook(QUEUE, {"id": "replicas", "probe": "replicas"})
    queue, replicas = diagnoser(sources, pool, one=book)(incident(), due(as_of=then)).observations
    assert queue.reading["waiting"] == 138
    assert queue.reading["saturated_replicas"] is None
    assert replicas.error == "Kubernetes: can only answer for now, not for 2026-11-23 23:13 UTC"


def test_the_signals_history_is_there_for_the_graph(busy, pool):
    sources, _, _ = busy
    graphs = {"sum(vllm:num_requests_waiting": (series(1.0, 2.0, 138.0),)}
    sources = replace(sources, metrics=FakeMetrics(graphs=graphs))
    found = diagnoser(sources, pool, one=runbook(QUEUE, signal=SIGNAL))
    points = found.history(incident(), due(), NOW - timedelta(minutes=15), NOW, 15)
    assert [value for _, value in points] == [1.0, 2.0, 138.0]
    assert diagnoser(sources, pool, one=runbook(QUEUE)).history(incident(), due(), NOW, NOW, 15) == ()


def test_the_signal_can_be_read_beside_any_round(busy, pool):
    sources, cluster, _ = busy
    sources.metrics.answers |= {
        "sum(vllm:num_requests_waiting": 138.0,
        "num_requests_running": by_pod(cluster, 1, 1, 1),
    }
    found = diagnoser(sources, pool, one=runbook(QUEUE, signal=SIGNAL))
    assert found.signal_now(incident(), sources).value == 138.0
    assert found.signal_now(replace(incident(), runbook=None), sources) is None


# --- how long it takes


def test_a_round_takes_little_more_than_its_slowest_probe(pool):
    """With 300 ms on each source: the probes' own chains of questions are what takes time, not the round."""
    sources, cluster, _ = world()

    def slow(call):
        def slowed(*args, **more):
            time.sleep(0.3)
            return call(*args, **more)

        return slowed

    for name in ("pods_of", "revisions", "nodes", "workload", "free_gpus", "autoscaler_of"):
        setattr(cluster, name, slow(getattr(cluster, name)))
    sources.metrics.answers = {"by (namespace, pod)": by_pod(cluster, 1, 1, 1)}
    object.__setattr__(sources.metrics, "instant", slow(sources.metrics.instant))
    high_latency = library([our_folder()]).runbooks["high_latency"]
    begun = time.monotonic()
    found = ask(high_latency, sources, pool)
    wall = time.monotonic() - begun
    slowest = max(o.seconds for o in found.observations)
    assert [o.error for o in found.observations] == [None] * len(high_latency.steps)
    assert wall <= 1.25 * slowest, (wall, slowest)
    assert slowest < 1.5, {o.step: o.seconds for o in found.observations}
