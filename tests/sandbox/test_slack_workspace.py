import pytest

from sandbox.slack_workspace import MANIFEST, SlackApp, demo_workspace, workspace_json


def test_the_app_gets_the_manifests_scopes_and_no_more():
    app = SlackApp.installed(MANIFEST)
    assert "chat:write" in app.scopes and "usergroups:read" in app.scopes
    assert "admin" not in app.scopes
    assert app.commands == ("/vllm",)


def test_the_app_subscribes_to_no_event_since_the_bot_listens_to_none():
    """Slack tells an event three times to an app that does not acknowledge it, and an empty Home tab helps nobody."""
    assert SlackApp.installed(MANIFEST).events == ()


def test_alice_is_on_call_and_bob_has_no_role():
    workspace = demo_workspace()
    members = {group.handle: group.users for group in workspace.user_groups}
    assert members["ml-oncall"] == (workspace.user("alice").id,)
    assert members["sre-leads"] == (workspace.user("carol").id,)
    assert all(workspace.user("bob").id not in users for users in members.values())
    assert workspace.apps[0].bot_user in workspace.channel("inc-chat").members


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(KeyError, match="alice"):
        demo_workspace().user("mallory")
    with pytest.raises(KeyError, match="inc-chat"):
        demo_workspace().channel("nowhere")


def test_it_survives_the_way_to_another_process():
    workspace = demo_workspace()
    assert workspace_json.validate_json(workspace_json.dump_json(workspace)) == workspace
