from sandbox.slack_rules.methods import METHODS, NEEDS_CHANNEL, NEEDS_MEMBERSHIP, TAKES_NAME


def test_only_sockets_are_opened_with_the_app_token():
    assert [name for name, method in METHODS.items() if method.app_token] == ["apps.connections.open"]


def test_every_method_that_needs_a_channel_is_known():
    assert set(METHODS) >= NEEDS_CHANNEL
    assert NEEDS_MEMBERSHIP <= NEEDS_CHANNEL
    assert TAKES_NAME <= NEEDS_CHANNEL
