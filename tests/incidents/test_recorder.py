from datetime import timedelta

import pytest

from bot.incidents.recorder import Recorder
from bot.ports import Answer, Sample, SourceError
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics

TWO = Answer((Sample({"pod": "a"}, 1, NOW), Sample({"pod": "b"}, 2, NOW)))


def test_each_query_is_written_down_with_what_came_back():
    recorder = Recorder(FakeMetrics({"a": 138.0, "b": TWO, "c": float("nan"), "d": 0.123456}))
    for query in ("a", "b", "c", "d", "nothing"):
        recorder.instant(query)
    told = {query.promql: query.value for query in recorder.queries}
    assert told == {"a": "138", "b": "2 series", "c": "NaN (nothing to count)", "d": "0.1235", "nothing": "no data"}
    assert all(query.link.endswith(query.promql) for query in recorder.queries)


def test_a_failed_query_is_written_down_too():
    recorder = Recorder(FakeMetrics({"a": NOT_ANSWERING}))
    with pytest.raises(SourceError):
        recorder.instant("a")
    assert recorder.queries[0].value == "failed: did not answer within 10 s"


def test_what_is_asked_of_the_past_is_in_the_same_list():
    recorder = Recorder(FakeMetrics({"a": 1.0}))
    recorder.at(NOW - timedelta(hours=1)).instant("a")
    recorder.range("b", NOW - timedelta(minutes=5), NOW, 15)
    assert [query.promql for query in recorder.queries] == ["a", "b"]


def test_the_same_query_twice_stands_there_once():
    recorder = Recorder(FakeMetrics({"a": 1.0}))
    recorder.instant("a")
    recorder.instant("a")
    assert len(recorder.queries) == 1


def test_alerts_pass_through():
    assert Recorder(FakeMetrics()).alerts() == ()
