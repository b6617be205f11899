"""The store on both databases, each test with an empty one of its own; and values to put into it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.incidents.alert import Alert, AlertStatus
from bot.incidents.incident import Incident, IncidentState, Target
from bot.outbound.store import SqlStore
from bot.ports import Risk
from bot.remediation.proposal import Proposal, ProposalState
from bot.runbook.schema import Severity

NOW = datetime(2026, 11, 24, 2, 7, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: everything asked of one must be true of the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/oncall.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[SqlStore]:
    opened = SqlStore.open(database_url)
    yield opened
    opened.close()


def an_alert(
    fingerprint: str = "cf8dfd88e26cb4d5",
    status: AlertStatus = AlertStatus.FIRING,
    starts_at: str = "2026-11-24T02:06:00.143Z",
    received_at: datetime = NOW,
) -> Alert:
    labels = {"alertname": "VLLMQueueLong", "severity": "critical"}
    return Alert(fingerprint, status, labels, {"summary": "138 wait"}, starts_at, "", "http://p/graph", received_at)


def an_incident(number: int = 1, **changes: object) -> Incident:
    values: dict[str, object] = {
        "number": number,
        "state": IncidentState.OPEN,
        "severity": Severity.CRITICAL,
        "title": "VLLMQueueLong",
        "target": Target(service="chat-70b"),
        "runbook": "high_latency",
        "channel": "C0INCIDENTS",
        "opened_at": NOW,
        "began_at": NOW,
    }
    return Incident(**{**values, **changes})  # type: ignore[arg-type]


def a_proposal(number: int = 1, incident: int = 1, **changes: object) -> Proposal:
    values: dict[str, object] = {
        "incident": incident,
        "number": number,
        "action": "scale_workload",
        "params": {"replicas": 4},
        "risk": Risk.MEDIUM,
        "description": "Scale chat-70b from 3 to 4 replicas",
        "button": "scale 3 -> 4",
        "why": "138 requests wait",
        "state": ProposalState.PENDING,
        "created_at": NOW,
        "expires_at": NOW,
        "service": "chat-70b",
        "rule": "under_provisioned",
    }
    return Proposal(**{**values, **changes})  # type: ignore[arg-type]
