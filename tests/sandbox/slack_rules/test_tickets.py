import pytest

from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_rules.tickets import Tickets


def error_of(call) -> str:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.error


def test_a_trigger_is_good_for_three_seconds():
    tickets = Tickets()
    young, old = tickets.new_trigger("A", "U", 0.0), tickets.new_trigger("A", "U", 0.0)
    assert tickets.exchange(young, "A", 3.0, strict=True).user == "U"
    assert error_of(lambda: tickets.exchange(old, "A", 3.1, strict=True)) == "expired_trigger_id"


def test_a_trigger_is_good_once():
    tickets = Tickets()
    trigger = tickets.new_trigger("A", "U", 0.0)
    tickets.exchange(trigger, "A", 0.1, strict=True)
    assert error_of(lambda: tickets.exchange(trigger, "A", 0.2, strict=True)) == "exchanged_trigger_id"


def test_a_trigger_that_was_never_given_out_or_is_another_apps_is_invalid():
    tickets = Tickets()
    trigger = tickets.new_trigger("A", "U", 0.0)
    assert error_of(lambda: tickets.exchange(trigger, "B", 0.1, strict=True)) == "invalid_trigger_id"
    assert error_of(lambda: tickets.exchange("1.2.abc", "A", 0.1, strict=True)) == "invalid_trigger_id"
    assert error_of(lambda: tickets.exchange(None, "A", 0.1, strict=False)) == "invalid_trigger_id"


def test_without_the_rule_a_trigger_does_not_age():
    tickets = Tickets()
    trigger = tickets.new_trigger("A", "U", 0.0)
    for now in (1.0, 1000.0):
        assert tickets.exchange(trigger, "A", now, strict=False).user == "U"


def test_a_response_address_takes_five_uses():
    tickets = Tickets()
    secret = tickets.new_response("A", "U", "C", None, 0.0)
    for _ in range(5):
        assert tickets.use_response(secret, 1.0, strict=True).channel == "C"
    assert error_of(lambda: tickets.use_response(secret, 1.0, strict=True)) == "used_url"


def test_a_response_address_lasts_thirty_minutes():
    tickets = Tickets()
    secret = tickets.new_response("A", "U", "C", "1.2", 0.0)
    assert tickets.use_response(secret, 1800.0, strict=True).message_ts == "1.2"
    assert error_of(lambda: tickets.use_response(secret, 1800.1, strict=True)) == "expired_url"
    assert error_of(lambda: tickets.use_response("no-such", 0.0, strict=True)) == "expired_url"
