import pytest

from bot.incidents.judge import Finding, Verdict
from bot.runbook.schema import Severity
from sandbox.fault_table.grading import Grade, graded

VERDICTS = {"confirmed": Verdict.CONFIRMED, "ruled out": Verdict.RULED_OUT, "inconclusive": Verdict.INCONCLUSIVE}


def finding(rule, verdict, **more):
    by = "cause" if verdict == "explained" else None
    found = VERDICTS.get(verdict, Verdict.CONFIRMED)
    return Finding(rule, found, Severity.WARNING, rule, f"{rule} it is", suppressed_by=by, **more)


@pytest.mark.parametrize(
    ("expected", "found", "grade"),
    [
        ("confirmed", "confirmed", Grade.RIGHT),
        ("confirmed", "inconclusive", Grade.INCONCLUSIVE),
        ("confirmed", "ruled out", Grade.WRONG),
        ("confirmed", "explained", Grade.WRONG),
        ("explained", "explained", Grade.RIGHT),
        ("explained", "ruled out", Grade.RIGHT),
        ("explained", "confirmed", Grade.WRONG),
        ("ruled out", "ruled out", Grade.RIGHT),
        ("ruled out", "inconclusive", Grade.INCONCLUSIVE),
        ("ruled out", "confirmed", Grade.WRONG),
        ("ruled out", "explained", Grade.WRONG),
        ("inconclusive", "inconclusive", Grade.RIGHT),
        ("inconclusive", "ruled out", Grade.WRONG),
        ("inconclusive", "confirmed", Grade.WRONG),
    ],
)
def test_a_rule_is_graded_by_what_was_expected_of_it(expected, found, grade):
    result = graded({"hung": expected}, [finding("hung", found)])
    assert result.grade is grade
    assert bool(result.faults) is (grade is not Grade.RIGHT)


def test_a_rule_that_the_row_does_not_name_must_not_be_confirmed():
    result = graded({"hung": "confirmed"}, [finding("hung", "confirmed"), finding("overload", "confirmed")])
    assert result.grade is Grade.WRONG
    assert result.confirmed == ("hung", "overload")
    assert "overload it is" in result.faults[0]


def test_not_even_as_a_symptom():
    assert graded({}, [finding("overload", "explained")]).grade is Grade.WRONG


def test_the_worst_rule_decides():
    found = [finding("hung", "inconclusive"), finding("dead", "ruled out")]
    assert graded({"hung": "confirmed", "dead": "confirmed"}, found).grade is Grade.WRONG


def test_what_was_unknown_is_told():
    found = finding("hung", "inconclusive", unknown=("engine: Prometheus is down",))
    assert "engine: Prometheus is down" in graded({"hung": "confirmed"}, [found]).faults[0]


def test_a_rule_that_is_no_longer_there_is_a_wrong_row():
    assert graded({"hung": "ruled out"}, []).grade is Grade.WRONG


def test_one_of_two_rules_may_be_expected():
    one_of = {"killed|died": "confirmed"}
    assert graded(one_of, [finding("killed", "ruled out"), finding("died", "confirmed")]).grade is Grade.RIGHT
    assert graded(one_of, [finding("killed", "ruled out"), finding("died", "inconclusive")]).grade is Grade.INCONCLUSIVE
    assert graded(one_of, [finding("killed", "ruled out"), finding("died", "ruled out")]).grade is Grade.WRONG
