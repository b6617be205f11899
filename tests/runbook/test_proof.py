from bot.ports import SourceError
from bot.runbook.proof import Proof, told


def test_each_query_is_shown_once_and_its_refusal_kept():
    asked = []

    def refusal(query):
        asked.append(query)
        return "parse error" if query == "sum(" else None

    proof = Proof(refusal)
    assert [proof(query) for query in ("up", "sum(", "sum(", "up")] == [None, "parse error", "parse error", None]
    assert asked == ["up", "sum("] and proof.proven == 2
    assert told(proof, 12) == ("2 queries shown to Prometheus.", "12 cases run.")


def test_a_prometheus_that_does_not_answer_proves_nothing_and_is_asked_once():
    asked = []

    def refusal(query):
        asked.append(query)
        raise SourceError("Prometheus", "did not answer within 10 s")

    proof = Proof(refusal)
    assert proof("up") is None and proof("sum(") is None
    assert asked == ["up"] and proof.proven == 0
    assert "not proven after 0 queries. Prometheus: did not answer" in told(proof, 0)[0]


def test_without_a_prometheus_or_cases_that_is_said():
    queries, cases = told(None, None)
    assert "PromQL was not proven" in queries and "--prometheus" in queries
    assert "No case was run" in cases
