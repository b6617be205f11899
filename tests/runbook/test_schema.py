import pytest
from pydantic import ValidationError

from bot.runbook.schema import Runbook, Severity

LEAST = {
    "title": "t",
    "owner": "o",
    "symptoms": "s",
    "match": [{"alertname": ["A", "B"]}, {"alertname": "C", "severity": "critical"}],
    "steps": [{"id": "queue", "probe": "vllm_queue", "with": {"service": "$service"}}],
    "rules": [{"id": "r", "when": ["queue.waiting > 50"], "severity": "warning", "title": "t", "finding": "f"}],
}


def test_any_entry_of_match_is_enough_and_the_one_that_asks_for_more_counts_more():
    runbook = Runbook.model_validate(LEAST)
    assert runbook.matches({"alertname": "B"}) == 1
    assert runbook.matches({"alertname": "C", "severity": "critical"}) == 2
    assert runbook.matches({"alertname": "C"}) == 0


def test_an_id_used_twice_is_named():
    with pytest.raises(ValidationError, match="id used twice: queue"):
        Runbook.model_validate({**LEAST, "steps": LEAST["steps"] * 2})


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValidationError, match="suggests"):
        Runbook.model_validate({**LEAST, "rules": [{**LEAST["rules"][0], "suggests": []}]})


def test_severities_have_an_order():
    assert Severity.CRITICAL.rank > Severity.WARNING.rank > Severity.INFO.rank


def test_the_first_alert_decides_what_an_incident_is_about():
    signal = {"name": "TTFT", "query": "x", "unit": "seconds", "threshold": 1}
    other = {**signal, "name": "TPOT", "alerts": ["SlowTokens"]}
    runbook = Runbook.model_validate({**LEAST, "signal": signal, "other_signals": [other]})
    assert runbook.signal_for(["SlowTokens", "A"]).name == "TPOT"
    assert runbook.signal_for(["A", "SlowTokens"]).name == "TTFT"
    assert runbook.signal_for([]).name == "TTFT"
    assert Runbook.model_validate(LEAST).signal_for(["A"]) is None
