from datetime import timedelta

import pytest

from bot.ports import Answer, SourceError
from bot.probes.promql import Params, Reading, observe
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics, fake_sources
from tests.probes.fleets import histogram


def ask(answers, **params):
    return observe(Params(**params), fake_sources(metrics=FakeMetrics(answers)))


def test_one_number():
    assert ask({"sum(x)": 138.0}, query="sum(x)") == Reading(138.0, None, None, None, None)


def test_no_data_is_not_zero():
    assert ask({}, query="sum(x)").value is None


def test_a_quantile_comes_with_its_buckets_edges():
    found = ask({"x_bucket": histogram(le_1=10, le_5=100, le_inf=100)}, query="histogram_quantile(0.99, x_bucket)")
    assert (found.value_low, found.value_high) == (1.0, 5.0)


def test_it_is_compared_with_what_was():
    def told(query, time):
        value = 3.0 if time is None else 1.5
        assert time in (None, NOW - timedelta(hours=1))
        return histogram(**{"": value})

    found = ask({"x": told}, query="x", offset_seconds=3600)
    assert (found.value, found.baseline, found.baseline_ratio) == (3.0, 1.5, 2.0)


def test_without_a_baseline_there_is_no_ratio():
    def told(query, time):
        return histogram(**{"": 3.0}) if time is None else Answer(())

    assert ask({"x": told}, query="x", offset_seconds=60).baseline_ratio is None


def test_prometheus_down_is_raised():
    with pytest.raises(SourceError):
        ask({"x": NOT_ANSWERING}, query="x")
