import pytest

from sandbox.slack_rules.rules import Rule, Rules


def test_every_rule_is_on_until_it_is_switched_off_by_name():
    rules = Rules()
    assert all(rules.on(rule) for rule in Rule)
    rules.switch(["limits", "ack"], on=False)
    assert not rules.on(Rule.LIMITS) and not rules.on(Rule.ACK) and rules.on(Rule.TOKENS)
    rules.switch(["limits"], on=True)
    assert rules.on(Rule.LIMITS) and not rules.on(Rule.ACK)


def test_a_name_that_is_no_rule_is_a_mistake_and_changes_nothing():
    rules = Rules()
    with pytest.raises(ValueError, match="politeness"):
        rules.switch(["limits", "politeness"], on=False)
    assert rules.on(Rule.LIMITS)
