"""A store on disk, and alerts in one line."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.fleet import Fleet
from bot.incidents.alert import Alert, AlertStatus
from bot.outbound.store import SqlStore
from bot.runbook.schema import Runbook

T0 = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)
RULE = {"id": "r", "when": ["a.b > 1"], "severity": "warning", "title": "t", "finding": "f"}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def alert(name="VllmHighTTFT", *, fingerprint=None, resolved=False, seconds=0.0, severity="critical", **labels):
    return Alert(
        fingerprint=fingerprint or f"{name}-{sorted(labels.items())}",
        status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
        labels={"alertname": name, "severity": severity, **labels},
        annotations={},
        starts_at=at(0).isoformat(),
        ends_at="",
        generator_url="",
        received_at=at(seconds),
    )


def resolved(firing: Alert, seconds: float) -> Alert:
    return replace(firing, status=AlertStatus.RESOLVED, received_at=at(seconds))


def make_fleet(*names: str) -> Fleet:
    services = [
        {
            "name": name,
            "channel": f"#{name}",
            "oncall": "U-ALICE",
            "escalation": "U-CAROL",
            "workloads": [{"namespace": "llm", "name": name}],
            "model": f"model-{name}",
        }
        for name in names
    ]
    return Fleet.model_validate(
        {
            "services": services,
            "default_channel": "#oncall",
            "roles": {"operator": {"users": ["U-ALICE"]}},
            "approvals": {"low": "operator", "medium": "operator", "high": "operator"},
        }
    )


def runbook(name, *match):
    body = {"title": name, "owner": "o", "symptoms": "s", "match": match, "rules": [RULE]}
    return Runbook.model_validate({**body, "steps": [{"id": "a", "probe": "promql"}], "name": name})


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()
