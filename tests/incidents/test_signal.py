from datetime import timedelta

import pytest

from bot.incidents import signal as signals
from bot.ports import Answer, Sample, SourceError
from bot.runbook.schema import Signal
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics, fake_sources, series

SIGNAL = Signal(
    name="TTFT P99",
    query="histogram_quantile(0.99, sum by (le) (rate(ttft_bucket{$selector}[$window])))",
    unit="seconds",
    threshold="$slo.ttft_p99_seconds",
    traffic="sum(rate(ttft_count{$selector}[$window]))",
)
WORDS = {"selector": 'pod="a"', "window": "300s", "slo.ttft_p99_seconds": 1.0}
BUCKETS = Answer(
    tuple(Sample({"le": le}, count, NOW) for le, count in (("1", 10), ("2.5", 20), ("5", 100), ("+Inf", 100)))
)
ALIVE = Answer((Sample({"namespace": "llm", "pod": "a"}, 1, NOW),))


def read(answers, signal=SIGNAL, words=WORDS):
    return signals.read(signal, words, fake_sources(metrics=FakeMetrics(answers)))


def test_a_quantile_is_read_as_its_bucket():
    found = read({"ttft_bucket": BUCKETS, "num_requests_running": ALIVE, "ttft_count": 12.0})
    assert (found.low, found.high) == (2.5, 5.0)
    assert 2.5 < found.value < 5.0
    assert (found.threshold, found.traffic, found.error) == (1.0, 12.0, None)


def test_a_plain_number_has_no_edges():
    found = read({"ttft": 138.0}, Signal(name="n", query="ttft", unit="count", threshold=50))
    assert (found.value, found.low, found.high, found.threshold) == (138.0, None, None, 50.0)


def test_prometheus_down_is_an_error_not_a_value():
    found = read({"ttft_bucket": NOT_ANSWERING, "num_requests_running": ALIVE})
    assert found.value is None and "did not answer" in found.error


def test_pods_that_have_gone_silent_are_not_read_from_their_past():
    up = Answer((Sample({"pod": "a"}, 0, NOW),))
    found = read({"ttft_bucket": BUCKETS, "up{": up, "ttft_count": 12.0})
    assert found.value is None and "cannot scrape its 1 pods" in found.error


def test_a_signal_that_counts_who_is_down_is_read_while_all_are():
    down = Signal(name="down", query="count(up{$selector} == 0) or vector(0)", unit="count", threshold=0.5)
    found = read({"count(up{": 3.0}, down)
    assert (found.value, found.error) == (3.0, None)


def test_nothing_observed_is_no_data_without_an_error():
    found = read({"num_requests_running": ALIVE, "ttft_count": 0.0})
    assert (found.value, found.low, found.error, found.traffic) == (None, None, None, 0.0)


def test_without_a_service_it_says_what_it_lacks():
    found = read({}, words={"window": "300s", "slo.ttft_p99_seconds": None})
    assert found.threshold is None and "$selector" in found.error


def test_its_own_window_is_used():
    signal = SIGNAL.model_copy(update={"window_seconds": 60.0})
    assert signals.words_for(signal, WORDS)["window"] == "60s"
    assert signals.words_for(SIGNAL, WORDS)["window"] == "300s"


def test_the_reading_says_how_far_its_own_window_looks_back():
    own = SIGNAL.model_copy(update={"window_seconds": 60.0})
    answers = {"ttft_bucket": BUCKETS, "num_requests_running": ALIVE}
    assert (read(answers, own).window_seconds, read(answers).window_seconds) == (60.0, None)


def test_its_history_is_one_series():
    metrics = FakeMetrics(graphs={"ttft_bucket": (series(1.0, 2.0, 3.0),)})
    points = signals.history(SIGNAL, WORDS, metrics, NOW - timedelta(minutes=5), NOW, 15)
    assert [value for _, value in points] == [1.0, 2.0, 3.0]
    assert "histogram_quantile(0.99" in metrics.asked[0]


def test_no_history_is_empty_and_several_series_are_a_mistake():
    assert signals.history(SIGNAL, WORDS, FakeMetrics(), NOW, NOW, 15) == ()
    metrics = FakeMetrics(graphs={"ttft_bucket": (series(1.0), series(2.0, pod="b"))})
    with pytest.raises(SourceError, match="2 series"):
        signals.history(SIGNAL, WORDS, metrics, NOW - timedelta(minutes=5), NOW, 15)
