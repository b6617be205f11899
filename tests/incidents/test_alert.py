import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.incidents.alert import Alert, AlertStatus, Webhook
from bot.runbook.schema import Severity

PAYLOADS = Path(__file__).parent.parent / "payloads"


@pytest.mark.parametrize(
    "name", ["firing-single", "resolved-single", "firing-group-truncated", "resolved-group-truncated"]
)
def test_what_a_real_alertmanager_posted_is_understood(name):
    body = json.loads((PAYLOADS / f"am-webhook-{name}.json").read_text())
    hook = Webhook.model_validate(body)
    assert len(hook.alerts) == len(body["alerts"])
    assert hook.truncatedAlerts == body["truncatedAlerts"]
    assert hook.alerts[0].startsAt == body["alerts"][0]["startsAt"]


def alert(**labels):
    return Alert("f", AlertStatus.FIRING, labels, {}, "", "", "", datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("page", Severity.CRITICAL),
        ("info", Severity.INFO),
        ("WARNING", Severity.WARNING),
    ],
)
def test_severity_words_of_different_teams(word, severity):
    assert alert(severity=word).severity is severity


def test_an_unknown_severity_wakes_nobody():
    assert alert(severity="sev-banana").severity is Severity.WARNING
    assert alert().severity is Severity.WARNING
