from datetime import UTC, datetime

import pytest

from bot.ports import Answer, Sample, SourceError, promql_quote

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def answer(*values):
    return Answer(tuple(Sample({}, v, NOW) for v in values))


def test_no_series_is_not_known_rather_than_zero():
    assert answer().number is None


def test_nan_is_not_known():
    assert answer(float("nan")).number is None


def test_zero_is_a_number():
    assert answer(0.0).number == 0


def test_several_series_are_not_one_number():
    with pytest.raises(ValueError, match="2 series came"):
        _ = answer(1.0, 2.0).number


def test_a_label_value_cannot_leave_its_quotes():
    assert promql_quote('x"} or vector(1) #\\\n') == '"x\\"} or vector(1) #\\\\\\n"'


def test_a_source_error_reads_as_source_reason_and_what_to_do():
    assert str(SourceError("Prometheus", "did not answer within 10 s.", "Is the pod up?")) == (
        "Prometheus: did not answer within 10 s. Is the pod up?"
    )
