"""The control API as HTTP; what it does is tested where it is done."""

import requests

from sandbox.slack_rules.part import SlackRules
from tests.fixtures_slack import ALICE, CHANNEL


def test_switching_rules_answers_which_are_off(slack: SlackRules):
    address = f"{slack.control.url}/_control/rules"
    off = requests.put(address, json={"names": ["limits", "ack"], "on": False}, timeout=5).json()["off"]
    assert off == ["ack", "limits"]
    assert requests.put(address, json={"names": ["limits", "ack"], "on": True}, timeout=5).json()["off"] == []


def test_reset_empties_channels_and_modals(slack: SlackRules, client):
    client.chat_postMessage(channel=CHANNEL, text="x")
    slack.control.reset()
    assert slack.control.messages(CHANNEL) == []
    assert slack.control.modals(ALICE) == []


def test_the_control_api_answers_on_no_other_port(slack: SlackRules):
    assert requests.get(slack.api_url.replace("/api/", "/_control/log?since=0&seconds=0"), timeout=5).status_code == 404
