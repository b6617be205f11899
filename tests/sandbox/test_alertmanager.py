import queue
import time

import pytest

from sandbox.alertmanager import Alertmanager, Grouping, Slack, Webhook, configuration
from sandbox.part import PartError
from tests.fixtures_metrics import WebhookListener

ALERT = {"labels": {"alertname": "QueueLong", "service": "chat"}, "annotations": {"summary": "138 wait"}}


def test_an_alert_reaches_the_webhook_with_its_token(alertmanager: Alertmanager, webhook_listener: WebhookListener):
    alertmanager.post_alerts(ALERT)
    got = webhook_listener.next()
    assert got["status"] == "firing"
    assert got["alerts"][0]["labels"] == ALERT["labels"]
    assert webhook_listener.authorizations == ["Bearer sesame"]
    assert [alert["labels"] for alert in alertmanager.alerts()] == [ALERT["labels"]]


def test_more_alerts_than_the_limit_are_counted_not_sent(tmp_path, webhook_listener: WebhookListener):
    grouping = Grouping(by=["alertname"], wait_seconds=0.5)
    hook = Webhook(webhook_listener.url, max_alerts=2)
    with Alertmanager(tmp_path, [hook], grouping) as alertmanager:
        alertmanager.post_alerts(*({"labels": {"alertname": "Storm", "pod": f"p{n}"}} for n in range(5)))
        got = webhook_listener.next()
    assert (len(got["alerts"]), got["truncatedAlerts"]) == (2, 3)


def test_after_a_restart_in_peace_nothing_is_told_twice(alertmanager: Alertmanager, webhook_listener: WebhookListener):
    alertmanager.post_alerts(ALERT)
    webhook_listener.next()
    alertmanager.stop()
    alertmanager.start()
    alertmanager.post_alerts(ALERT)
    with pytest.raises(queue.Empty):
        webhook_listener.next(seconds=2)


def test_after_a_crash_it_tells_again(alertmanager: Alertmanager, webhook_listener: WebhookListener):
    alertmanager.post_alerts(ALERT)
    webhook_listener.next()
    alertmanager.kill()
    alertmanager.start()
    alertmanager.post_alerts(ALERT)
    assert webhook_listener.next()["alerts"][0]["labels"] == ALERT["labels"]


def test_each_receiver_gets_what_its_matchers_let_through(tmp_path, webhook_listener: WebhookListener):
    picky = Webhook(webhook_listener.url, matchers=["severity=critical"])
    with Alertmanager(tmp_path, [picky, Webhook("http://127.0.0.1:9/")]) as alertmanager:
        alertmanager.post_alerts(ALERT, {"labels": {"alertname": "Down", "severity": "critical"}})
        assert webhook_listener.next()["alerts"][0]["labels"]["alertname"] == "Down"
        with pytest.raises(queue.Empty):
            webhook_listener.next(seconds=1)


def test_its_own_slack_notifier_posts_with_the_bot_token(tmp_path, webhook_listener: WebhookListener):
    slack = Slack(f"{webhook_listener.url}api/chat.postMessage", "#inc", "xoxb-1")
    with Alertmanager(tmp_path, [slack]) as alertmanager:
        alertmanager.post_alerts(ALERT)
        assert webhook_listener.next()["channel"] == "#inc"
    assert webhook_listener.authorizations[0] == "Bearer xoxb-1"


def test_a_refused_configuration_changes_nothing_and_says_why(alertmanager: Alertmanager, webhook_listener):
    with pytest.raises(PartError, match="cannot be zero"):
        alertmanager.reload(configuration([], Grouping(interval_seconds=0)))
    alertmanager.post_alerts(ALERT)
    assert webhook_listener.next()["status"] == "firing"


def test_a_frozen_one_answers_nothing_until_it_thaws(alertmanager: Alertmanager):
    alertmanager.freeze()
    start = time.monotonic()
    with pytest.raises(PartError):
        alertmanager.post_alerts(ALERT, seconds=0.5)
    assert time.monotonic() - start < 5
    alertmanager.thaw()
    alertmanager.post_alerts(ALERT)


def test_without_the_program_the_error_names_the_package(tmp_path):
    with pytest.raises(PartError, match="apt-get install"):
        Alertmanager(tmp_path, binary="no-such-alertmanager")
