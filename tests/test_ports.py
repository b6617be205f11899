from datetime import UTC, datetime

import pytest

from bot.ports import Answer, Budget, Requirement, Sample, SourceError, promql_quote
from tests.fakes import FakeCluster

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


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ("chat", "code"), True),
        ("In", ("code",), False),
        ("NotIn", ("code",), True),
        ("NotIn", ("chat",), False),
        ("Exists", (), True),
        ("DoesNotExist", (), False),
    ],
)
def test_a_term_of_a_selector_holds_as_kubernetes_reads_it(operator: str, values: tuple[str, ...], holds: bool):
    assert Requirement("app", operator, values).holds({"app": "chat"}) is holds


def test_a_label_that_is_not_there_is_in_no_list():
    assert not Requirement("app", "In", ("chat",)).holds({})
    assert Requirement("app", "NotIn", ("chat",)).holds({})
    assert Requirement("app", "DoesNotExist").holds({})


def test_a_budget_without_a_selector_protects_nobody_and_an_empty_one_everybody_in_its_namespace():
    pod = FakeCluster().add_bare_pod("nightly")
    budget = Budget("llm", "all", (), 1, 1, 1, 0, unready_may_go=False)
    assert budget.selects(pod)
    assert not Budget("llm", "none", None, 1, 1, 1, 0, unready_may_go=False).selects(pod)
    assert not Budget("other", "all", (), 1, 1, 1, 0, unready_may_go=False).selects(pod)
