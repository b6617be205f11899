import json
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.fleet import WorkloadRef
from bot.incidents.incident import Round, RoundReason, SignalReading, Target
from bot.incidents.judge import Finding, Observation
from bot.outbound.store.codec import coder, microseconds, moment
from bot.remediation.proposal import DiffLine
from bot.report import Button, Buttons, Code, Fields, Menu, Note, Report, Style, Text
from bot.runbook.schema import Severity, Suggestion


def json_of(numbers: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )


json_like = json_of(st.floats(allow_nan=False))
settings = json_of(st.floats(allow_nan=False, allow_infinity=False))  # of an action: nobody scales to infinity
words = st.text(alphabet="abcdefgh_", min_size=1, max_size=8).filter(lambda w: w[0] != "_")
st.register_type_strategy(WorkloadRef, st.builds(WorkloadRef, namespace=st.just("ml"), name=st.just("chat-70b")))
st.register_type_strategy(
    Suggestion, st.builds(Suggestion, action=words, with_=st.dictionaries(words, settings, max_size=2), why=st.text())
)
aware = st.datetimes(timezones=st.just(UTC))
observations = st.builds(
    Observation, reading=st.none() | st.dictionaries(st.text(), json_like, max_size=3), seconds=st.floats(0, 60)
)


def there_and_back(hint: Any, value: Any) -> Any:
    return coder(hint).decode(json.loads(json.dumps(coder(hint).encode(value))))


@given(st.from_type(Report))
def test_a_report_comes_back_as_it_went(report):
    assert there_and_back(Report, report) == report


def test_parts_that_differ_in_nothing_but_their_class_stay_apart():
    parts = (Text("x"), Note("x"), Code("x"), Fields(("x",)))
    assert there_and_back(Report, Report("t", parts)).parts == parts


def test_a_menu_among_buttons_stays_a_menu():
    row = Buttons((Button("Ack", "ack", "inc-1", Style.DANGER), Menu((Button("Silence", "silence", "inc-1"),))))
    assert there_and_back(Report, Report("t", (row,))).parts == (row,)


@given(st.builds(Finding, suggest=st.lists(st.from_type(Suggestion), max_size=2).map(tuple)))
def test_a_finding_with_its_suggestions_comes_back_as_it_went(finding):
    assert there_and_back(Finding, finding) == finding


@given(observations)
def test_an_observation_comes_back_as_it_went(observation):
    assert there_and_back(Observation, observation) == observation


@given(st.from_type(Target))
def test_a_target_comes_back_as_it_went(target):
    assert there_and_back(Target, target) == target


@given(json_like, json_like)
def test_a_diff_line_comes_back_as_it_went(before, after):
    line = DiffLine("spec.replicas", before, after)
    assert there_and_back(DiffLine, line) == line


def test_a_value_that_is_not_a_number_stays_one():
    reading = SignalReading("TTFT P99", "seconds", 1.0, "above", float("nan"), float("-inf"), float("inf"))
    back = there_and_back(SignalReading, reading)
    assert back.value != back.value
    assert (back.low, back.high) == (float("-inf"), float("inf"))
    assert there_and_back(Any, {"p99": float("inf")}) == {"p99": float("inf")}


def test_a_foreign_key_that_looks_like_ours_is_left_alone():
    assert there_and_back(Any, {"$": "nan"}) == {"$": "nan"}


def test_a_whole_number_in_a_float_field_comes_back_as_a_float():
    assert isinstance(there_and_back(float, 3), float)


@given(aware)
def test_a_time_keeps_its_microseconds(at):
    assert moment(microseconds(at)) == at


def test_a_time_of_another_zone_is_the_same_moment():
    berlin = datetime(2026, 11, 24, 3, tzinfo=timezone(timedelta(hours=1)))
    assert moment(microseconds(berlin)) == berlin


def test_a_naive_time_is_refused():
    with pytest.raises(ValueError, match="without a zone"):
        microseconds(datetime(2026, 11, 24))


def test_what_is_not_json_like_is_refused_and_named():
    with pytest.raises(TypeError, match="Severity"):
        coder(Any).encode({"a": [Severity.INFO]})
    with pytest.raises(TypeError, match="keys in stored JSON are text"):
        coder(Any).encode({1: "a"})


def test_a_type_that_cannot_be_stored_is_refused_when_the_tables_are_declared():
    with pytest.raises(TypeError, match="no way to store"):
        coder(set[str])
    with pytest.raises(TypeError, match="no way to tell"):
        coder(Text | str)


def test_a_field_that_a_newer_version_added_takes_its_default():
    @dataclass(frozen=True)
    class Newer:
        text: str
        added: tuple[int, ...] = field(default=(1,))

    assert coder(Newer).decode({"text": "a", "gone": 3}) == Newer("a")


def test_a_stored_value_that_lacks_a_field_is_an_error_not_a_guess():
    older = make_dataclass("Older", [("text", str)], frozen=True)
    with pytest.raises(ValueError, match="a stored Older lacks text"):
        coder(older).decode({})


def test_every_field_of_a_round_can_be_stored():
    a_round = Round(1, 1, "high_latency", RoundReason.START, datetime(2026, 11, 24, tzinfo=UTC))
    assert {f.name for f in fields(Round)} == set(coder(Round).encode(a_round))
