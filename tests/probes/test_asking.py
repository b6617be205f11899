import contextvars
import threading

import pytest

from bot.ports import Answer, Sample, SourceError
from bot.probes.asking import Later, number, quantile, recent, whole
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics, fake_sources

CONTEXT = contextvars.ContextVar("CONTEXT", default="")


def test_questions_run_side_by_side():
    meeting = threading.Barrier(3, timeout=10)
    asked = [Later(meeting.wait) for _ in range(3)]
    assert sorted(later.get() for later in asked) == [0, 1, 2]


def test_an_error_is_raised_where_the_answer_is_wanted():
    def fails():
        raise NOT_ANSWERING

    with pytest.raises(SourceError):
        Later(fails).get()


def test_the_logs_context_is_there():
    CONTEXT.set("inc-7")
    assert Later(CONTEXT.get).get() == "inc-7"


def test_a_number_is_none_without_data_and_for_nan():
    assert number(FakeMetrics(), "x") is None
    assert number(FakeMetrics({"x": float("nan")}), "x") is None
    assert number(FakeMetrics({"x": 0.0}), "x") == 0.0


def test_several_series_are_a_mistake_of_the_query():
    two = Answer((Sample({"pod": "a"}, 1, NOW), Sample({"pod": "b"}, 2, NOW)))
    with pytest.raises(SourceError, match="aggregate"):
        number(FakeMetrics({"x": two}), "x")


def test_a_partial_answer_is_no_answer():
    partial = Answer((Sample({}, 3, NOW),), warnings=("store-1 is down",))
    with pytest.raises(SourceError, match="only in part: store-1 is down"):
        whole(FakeMetrics({"x": partial}), "x")


def test_nan_samples_are_left_out():
    mixed = Answer((Sample({"pod": "a"}, float("nan"), NOW), Sample({"pod": "b"}, 2, NOW)))
    assert [s.value for s in whole(FakeMetrics({"x": mixed}), "x").samples] == [2]


def test_a_quantile_comes_from_its_buckets():
    answer = Answer((Sample({"le": "1"}, 9, NOW), Sample({"le": "+Inf"}, 9, NOW)))
    assert quantile(FakeMetrics({"x": answer}), 0.99, "x").high == 1.0


def test_recent_is_a_third_of_the_window():
    assert recent(fake_sources(window_seconds=300)) == "100s"
    assert recent(fake_sources(window_seconds=2)) == "1s"
