from pathlib import Path

import pytest
import requests

from sandbox.local_slack import LocalSlack
from sandbox.slack_rules.part import SlackRules
from sandbox.slack_rules.rules import Rule
from tests.fixtures_slack import CHANNEL, eventually


def test_the_constructor_switches_rules_off_and_sets_the_burst(local_slack: LocalSlack, tmp_path):
    with SlackRules(local_slack, tmp_path, off=[Rule.LIMITS], post_burst=1, latency_seconds=0.01) as slack:
        app = slack.workspace.apps[0]

        def post() -> dict:
            body = {"channel": CHANNEL, "text": "x", "blocks": [{"type": "header"}]}
            headers = {"Authorization": f"Bearer {app.bot_token}"}
            return requests.post(f"{slack.api_url}chat.postMessage", json=body, headers=headers, timeout=5).json()

        assert post()["ok"]
        assert post()["error"] == "ratelimited"
        pid = slack.pid
    assert not Path(f"/proc/{pid}").exists()


def test_it_comes_back_on_the_same_addresses(local_slack: LocalSlack, tmp_path):
    slack = SlackRules(local_slack, tmp_path).start()
    slack.kill()
    slack.start()
    assert requests.post(f"{slack.api_url}api.test", timeout=5).json()["error"] == "not_authed"
    slack.stop()


def test_an_unknown_rule_is_a_mistake(slack: SlackRules):
    with pytest.raises(ValueError, match="politeness"):
        slack.control.switch("politeness", on=False)  # type: ignore[arg-type]


def test_waiting_for_sockets_that_never_come_says_how_many_there_are(slack: SlackRules):
    with pytest.raises(TimeoutError, match="has 0 Slack sockets, not 1"):
        slack.control.wait_connected(1, seconds=0.2)


def test_it_survives_a_restart_of_local_slack(workspace, tmp_path):
    with LocalSlack(workspace, tmp_path) as local, SlackRules(local, tmp_path) as slack:
        local.kill()
        local.start()
        assert eventually(lambda: slack.control.messages(CHANNEL) == [])
        before = slack.control.mark()
        # Its events arrive again, too.
        assert eventually(lambda: opened(slack, before))


def opened(slack: SlackRules, before: int) -> bool:
    requests.post(f"{slack.page_url}_control/open-home", json={"user": "U01ALICE"}, timeout=10).raise_for_status()
    return bool(slack.control.log(before, kind="envelope", method="events_api"))
