import pytest

from sandbox.slack_rules.access import Channels, caller, check_scope, check_token_kind
from sandbox.slack_rules.refused import RefusedError
from sandbox.slack_workspace import SlackApp, SlackChannel, SlackWorkspace

APP = SlackApp(scopes=("chat:write",))
PUBLIC = SlackChannel("C1", "inc", ("U1", "U0BOT"))
FOREIGN = SlackChannel("C2", "random", ("U1",))
PRIVATE = SlackChannel("C3", "secret", ("U1",), is_private=True)
WORKSPACE = SlackWorkspace((), (PUBLIC, FOREIGN, PRIVATE), (APP,))


def error_of(call) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value


def test_a_call_without_token_or_with_an_unknown_one_is_refused():
    assert error_of(lambda: caller(WORKSPACE, None, strict=True)).error == "not_authed"
    assert error_of(lambda: caller(WORKSPACE, "xoxb-other", strict=True)).error == "invalid_auth"
    assert caller(WORKSPACE, "xoxb-other", strict=False).app == APP


def test_each_token_is_good_for_its_own_methods():
    bot, app = caller(WORKSPACE, APP.bot_token, strict=True), caller(WORKSPACE, APP.app_token, strict=True)
    check_token_kind(bot, "chat.postMessage")
    check_token_kind(app, "apps.connections.open")
    check_token_kind(app, "auth.test")
    assert error_of(lambda: check_token_kind(app, "chat.postMessage")).error == "not_allowed_token_type"
    assert error_of(lambda: check_token_kind(bot, "apps.connections.open")).error == "not_allowed_token_type"


def test_a_missing_scope_is_named_with_what_the_app_has():
    bot = caller(WORKSPACE, APP.bot_token, strict=True)
    check_scope(bot, "chat.postMessage")
    refused = error_of(lambda: check_scope(bot, "files.getUploadURLExternal"))
    assert refused.body == {
        "ok": False,
        "error": "missing_scope",
        "needed": "files:write",
        "provided": "chat:write",
    }


def test_a_private_channel_one_is_not_in_does_not_exist():
    channels = Channels.of(WORKSPACE)
    assert error_of(lambda: channels.check_visible(channels.get("C3"), "U0BOT")).error == "channel_not_found"
    assert error_of(lambda: channels.check_visible(channels.get("C9"), "U0BOT")).error == "channel_not_found"
    assert channels.check_visible(channels.get("C3"), "U1") == PRIVATE


def test_a_public_channel_one_is_not_in_is_seen_but_not_posted_to():
    channels = Channels.of(WORKSPACE)
    channel = channels.check_visible(channels.get("C2"), "U0BOT")
    assert error_of(lambda: channels.check_member(channel, "U0BOT")).error == "not_in_channel"
    channels.check_member(PUBLIC, "U0BOT")


def test_channels_are_found_by_name_and_learned_later():
    channels = Channels.of(WORKSPACE)
    assert channels.named("#inc") == channels.named("inc") == PUBLIC
    channels.learn([{"id": "D1", "name": "dm", "members": ["U1", "U0BOT"]}])
    assert channels.has("D1", "U0BOT")
