import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bot.outbound.prometheus import Prometheus
from bot.ports import Answer, Metrics, Sample, Series, SourceError, promql_quote
from sandbox import prometheus as sandbox
from sandbox.replay import Replay
from tests.fakes import NOW, FakeMetrics
from tests.fixtures_metrics import IDLE, PRESSURE
from tests.outbound.servers import Answering, Says, Server, Silence, server

WAITING = "vllm:num_requests_waiting"
IDLE_P99 = "histogram_quantile(0.99, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[30s])))"
RULES = {
    "groups": [
        {
            "name": "test",
            "rules": [
                {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "info"}, "annotations": {"a": "b"}},
                {"alert": "NotYet", "expr": "vector(1)", "for": "1h"},
            ],
        }
    ]
}


# ---------------------------------------------------------------------------------------------- the contract


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[tuple[Prometheus, datetime, datetime]]:
    """One that scraped an idle vLLM, and then a loaded one; with a moment of each."""
    with Replay(IDLE) as vllm:
        job = sandbox.Job("vllm", [vllm.target], {"pod": 'odd"name\\'})
        with sandbox.Prometheus(tmp_path_factory.mktemp("prometheus"), [job]) as server:
            server.wait_for(f"count_over_time({WAITING}[1m])", lambda found: bool(found) and found[0].value >= 3)
            idle = datetime.now(UTC) - timedelta(seconds=1)
            vllm.show(PRESSURE)
            server.wait_for(f"{WAITING} > 10", bool)
            yield Prometheus(server.url, timeout_seconds=5), idle, datetime.now(UTC)


@pytest.fixture(params=["fake", "real"])
def told(request) -> tuple[Metrics, datetime, datetime]:
    """Metrics, a moment when the service was idle, and one when 46 requests waited."""
    if request.param == "real":
        return request.getfixturevalue("real")
    idle = NOW - timedelta(seconds=10)
    labels = {"pod": 'odd"name\\'}

    def waiting(_: str, at: datetime | None) -> Answer:
        return Answer((Sample(labels, 0.0 if at is not None and at <= idle else 46.0, at or NOW),))

    points = tuple((NOW - timedelta(seconds=n), 0.0 if n > 5 else 46.0) for n in range(10, -1, -1))
    metrics = FakeMetrics(
        answers={
            WAITING: waiting,
            "vector(0)/0": Answer((Sample({}, math.nan, NOW),)),
            "vllm:request_success_total": Answer(tuple(Sample({"n": str(n)}, 1.0, NOW) for n in range(3))),
            "sum(": SourceError("Prometheus", "refused `sum(`: parse error (bad_data)"),
            "absent_metric": Answer(()),
        },
        graphs={WAITING: (Series(labels, points),)},
    )
    return metrics, idle, NOW


def test_a_metric_has_a_number_its_labels_and_a_time(told):
    metrics, _, now = told
    answer = metrics.instant(WAITING)
    assert answer.number == 46
    assert answer.samples[0].labels["pod"] == 'odd"name\\'
    assert abs(answer.samples[0].at - now) < timedelta(seconds=60)


def test_the_past_answers_for_the_past(told):
    metrics, idle, _ = told
    assert metrics.at(idle).instant(WAITING).number == 0
    assert metrics.instant(WAITING).number == 46


def test_an_absent_metric_has_no_samples(told):
    answer = told[0].instant("absent_metric")
    assert answer.samples == ()
    assert answer.number is None


def test_a_query_without_meaning_has_a_sample_and_no_number(told):
    answer = told[0].instant("vector(0)/0")
    assert len(answer.samples) == 1
    assert answer.number is None


def test_several_series_are_not_one_number(told):
    answer = told[0].instant("vllm:request_success_total")
    assert len(answer.samples) > 1
    with pytest.raises(ValueError, match="aggregate"):
        _ = answer.number


def test_a_refused_query_is_an_error_with_the_reason(told):
    with pytest.raises(SourceError, match="parse error") as refused:
        told[0].instant("sum(")
    assert not refused.value.retryable


def test_a_graph_shows_the_rise(told):
    metrics, _, now = told
    (graph,) = metrics.range(WAITING, now - timedelta(seconds=30), now, 1)
    values = [value for _, value in graph.points]
    assert values[0] == 0 and values[-1] == 46
    rounding = timedelta(milliseconds=1)
    assert all(now - timedelta(seconds=30) - rounding <= at <= now + rounding for at, _ in graph.points)


def test_a_graph_of_an_absent_metric_is_empty(told):
    metrics, _, now = told
    assert metrics.range("absent_metric", now - timedelta(seconds=30), now, 1) == ()


# ---------------------------------------------------------------------------------------------- the real one alone


def test_an_idle_quantile_is_not_a_number(real):
    prometheus, idle, _ = real
    answer = prometheus.at(idle).instant(IDLE_P99)
    assert answer.number is None
    assert answer.samples and math.isnan(answer.samples[0].value)


def test_an_infinite_value_is_kept(real):
    assert real[0].instant("vector(1)/0").number == math.inf


def test_a_scalar_is_one_sample(real):
    assert real[0].instant("scalar(vector(7))").number == 7


@pytest.mark.parametrize("query", [f"{WAITING}[1m]", '"words"'])
def test_what_is_no_number_per_series_is_refused(real, query: str):
    with pytest.raises(SourceError, match="not one value per series"):
        real[0].instant(query)


def test_a_quoted_label_value_selects_itself_and_nothing_else(real):
    """Whatever an alert's label holds, it stays a string: it cannot end the selector and go on."""
    prometheus, _, now = real
    for value, count in (('odd"name\\', 1), ('x"} or vector(1) #', 0), ("line\nbreak", 0)):
        answer = prometheus.at(now).instant(WAITING + "{pod=" + promql_quote(value) + "}")
        assert len(answer.samples) == count


def test_too_many_points_are_refused_with_the_reason(real):
    with pytest.raises(SourceError, match="11,000 points"):
        real[0].range("up", NOW - timedelta(days=30), NOW, 1)


def test_alerts_firing_and_pending_are_told_apart(tmp_path):
    with sandbox.Prometheus(tmp_path, rules=RULES) as server:
        prometheus = Prometheus(server.url, timeout_seconds=5)
        server.wait_for('ALERTS{alertname="Always"}', bool)
        alerts = {alert.labels["alertname"]: alert for alert in prometheus.alerts()}
        assert (alerts["Always"].state, alerts["NotYet"].state) == ("firing", "pending")
        assert alerts["Always"].labels["severity"] == "info"
        assert alerts["Always"].annotations == {"a": "b"}
        assert alerts["Always"].fingerprint is None
        assert datetime.fromisoformat(alerts["Always"].starts_at) <= datetime.now(UTC)


def test_it_knows_since_when_it_runs(real):
    started = real[0].started_at()
    assert started is not None
    assert timedelta(0) < datetime.now(UTC) - started < timedelta(hours=1)


def test_a_frozen_prometheus_does_not_answer_and_then_does(tmp_path):
    with sandbox.Prometheus(tmp_path) as server:
        prometheus = Prometheus(server.url, timeout_seconds=0.5)
        assert prometheus.instant("vector(1)").number == 1
        server.freeze()
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"did not answer within 0\.5 s") as raised:
            prometheus.instant("vector(1)")
        assert raised.value.retryable and time.monotonic() - start < 2
        server.thaw()
        assert Prometheus(server.url, timeout_seconds=10).instant("vector(1)").number == 1


def test_one_that_is_down_is_told_to_be_down(tmp_path):
    with sandbox.Prometheus(tmp_path) as server:
        prometheus = Prometheus(server.url, timeout_seconds=2)
        server.stop()
        with pytest.raises(SourceError, match="cannot be reached") as raised:
            prometheus.instant("vector(1)")
    assert "VLLM_ONCALL_PROMETHEUS__URL" in raised.value.hint


def test_thirty_two_threads_share_it(real):
    answers: list[float | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(real[0].instant(WAITING).number), daemon=True) for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [46.0] * 32


# ---------------------------------------------------------------------------------------------- against odd servers


def ask(answer: Answering, question, **more) -> tuple[object, Server]:
    with server(answer) as odd:
        return question(Prometheus(odd.url, timeout_seconds=0.5, **more)), odd


def vector(*samples: tuple[dict, str], **more) -> Says:
    result = [{"metric": labels, "value": [1795452416.5, value]} for labels, value in samples]
    return Says({"status": "success", "data": {"resultType": "vector", "result": result}, **more})


def one(prometheus: Prometheus) -> Answer:
    return prometheus.instant("up")


def test_warnings_of_a_partial_answer_are_kept():
    answer, _ = ask(lambda _: vector(({}, "1"), warnings=["store gateway 2 did not answer"]), one)
    assert answer.warnings == ("store gateway 2 did not answer",)


def test_the_query_travels_in_the_body_with_a_limit_token_and_tenant():
    _, odd = ask(lambda _: vector(), one, token="sesame", tenant="ml")
    (asked,) = odd.asked
    assert (asked.method, asked.path, asked.query) == ("POST", "/api/v1/query", {})
    assert asked.form == {"query": "up", "timeout": "400ms"}
    assert (asked.headers["Authorization"], asked.headers["X-Scope-OrgID"]) == ("Bearer sesame", "ml")


def test_the_time_of_the_past_is_sent():
    _, odd = ask(lambda _: vector(), lambda prometheus: prometheus.at(NOW).instant("up"))
    assert float(odd.asked[0].form["time"]) == NOW.timestamp()


@pytest.mark.parametrize(("kind", "retryable"), [("timeout", True), ("execution", False), ("unavailable", True)])
def test_its_own_reason_is_told_and_nothing_is_asked_twice(kind: str, retryable: bool):
    body = {"status": "error", "errorType": kind, "error": "query timed out in expression evaluation"}
    with server(lambda _: Says(body, 503)) as odd, pytest.raises(SourceError) as raised:
        one(Prometheus(odd.url, timeout_seconds=0.5))
    assert f"refused `up`: query timed out in expression evaluation ({kind})" in raised.value.why
    assert raised.value.retryable is retryable
    assert len(odd.asked) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Says("<html>502</html>", 502), "answered 502"),
        (Says({"message": "no org id"}, 401), "answered 401"),
        (Says("<html>hello</html>"), "other than JSON"),
        (Says({"hello": 1}), "does not answer as Prometheus does"),
        (Says({"status": "success", "data": {"resultType": "vector", "result": [{"no": 1}]}}), "does not know"),
        (Says({"status": "success", "data": {"resultType": "tensor", "result": []}}), "does not know"),
        (Says({"status": "success", "data": None}), "does not know"),
    ],
)
def test_an_odd_answer_is_never_an_empty_one(said: Says, words: str):
    with pytest.raises(SourceError, match=words):
        ask(lambda _: said, one)


def test_native_histograms_are_named():
    result = [{"metric": {}, "histogram": [1795452416.5, {"count": "1"}]}]
    body = {"status": "success", "data": {"resultType": "vector", "result": result}}
    with pytest.raises(SourceError, match="native histograms"):
        ask(lambda _: Says(body), one)


def test_a_server_without_a_process_of_its_own_has_no_start():
    assert ask(lambda _: Says("404 page not found", 404), lambda prometheus: prometheus.started_at())[0] is None


def test_silence_is_an_error_on_every_question():
    for question in (
        one,
        lambda prometheus: prometheus.range("up", NOW, NOW, 1),
        lambda prometheus: prometheus.alerts(),
        lambda prometheus: prometheus.started_at(),
    ):
        with pytest.raises(SourceError, match="did not answer"):
            ask(lambda _: Silence(), question)


def test_a_link_leads_to_the_public_address_and_the_time():
    prometheus = Prometheus("http://prometheus.monitoring:9090", timeout_seconds=1, public_url="https://prom.example/")
    assert prometheus.link('up{a="b"}') == "https://prom.example/graph?g0.expr=up%7Ba%3D%22b%22%7D&g0.tab=0"
    assert "g0.moment_input=2026-11-24+02%3A13%3A00" in prometheus.at(NOW).link("up")


def test_it_tells_what_it_refuses_from_not_being_there(real):
    prometheus, _, _ = real
    assert prometheus.refusal(WAITING) is None and prometheus.refusal("no_such_metric") is None
    assert "parse error" in prometheus.refusal("sum(")
    assert "one value per series" in prometheus.refusal(f"{WAITING}[1m]")
    with pytest.raises(SourceError, match="cannot be reached"):
        Prometheus("http://127.0.0.1:9", timeout_seconds=1).refusal("up")
