import requests

from sandbox.local_slack import LocalSlack
from sandbox.slack_workspace import SlackWorkspace
from tests.fixtures_slack import CHANNEL


def test_it_has_the_workspaces_people_and_channels(local_slack: LocalSlack, workspace: SlackWorkspace):
    state = requests.get(f"{local_slack.url}/_control/state", timeout=5).json()
    assert {user["name"] for user in state["users"]} >= {user.name for user in workspace.users}
    assert {channel["name"] for channel in state["channels"]} == {channel.name for channel in workspace.channels}


def test_what_it_hands_out_is_on_loopback(local_slack: LocalSlack, workspace: SlackWorkspace):
    opened = requests.post(f"{local_slack.url}/api/apps.connections.open", timeout=5).json()
    assert opened["url"].startswith("ws://127.0.0.1:")


def test_it_starts_again_on_its_port_with_empty_channels(workspace: SlackWorkspace, tmp_path):
    with LocalSlack(workspace, tmp_path) as part:
        said = {"channel": CHANNEL, "user": "U01ALICE", "text": "x"}
        requests.post(f"{part.url}/_control/message", json=said, timeout=5).raise_for_status()
        part.kill()
        part.start()
        assert requests.get(f"{part.url}/_control/messages/{CHANNEL}", timeout=5).json() == {"messages": []}
