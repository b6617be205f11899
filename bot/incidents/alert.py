"""An alert as Alertmanager posts it, and as we keep it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.runbook.schema import Severity


class AlertStatus(enum.Enum):
    FIRING = "firing"
    RESOLVED = "resolved"


class _Foreign(BaseModel):
    # Newer Alertmanagers add fields, older ones lack some (facts: 0.25 to 0.34).
    model_config = ConfigDict(extra="ignore", frozen=True)


class WebhookAlert(_Foreign):
    status: AlertStatus
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = Field(default_factory=dict)
    startsAt: str
    endsAt: str = ""
    generatorURL: str = ""
    fingerprint: Annotated[str, Field(min_length=1, max_length=128)]  # 16 hex digits; it is a key in our database


class Webhook(_Foreign):
    """Payload version 4. `truncatedAlerts` were dropped by position: resolved ones may be among them."""

    version: str
    status: AlertStatus
    receiver: str = ""
    groupKey: str = ""
    externalURL: str = ""
    truncatedAlerts: int = 0
    alerts: tuple[WebhookAlert, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert's state as last told. `starts_at` is kept as received."""

    fingerprint: str
    status: AlertStatus
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: str
    ends_at: str
    generator_url: str
    received_at: datetime

    @property
    def is_moment(self) -> bool:
        """It happened (an Xid) and ended as it began: nobody lists it afterwards, and nobody tells that it is over."""
        return self.status is AlertStatus.FIRING and self.ends_at == self.starts_at

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "(alert without a name)")

    @property
    def severity(self) -> Severity:
        """The `severity` label; teams write page, error, warn ... An unknown word is a warning: it wakes nobody."""
        word = self.labels.get("severity", "").lower()
        if word in ("critical", "page", "emergency", "fatal", "error", "high"):
            return Severity.CRITICAL
        return Severity.INFO if word in ("info", "none", "low", "notice") else Severity.WARNING


@dataclass(frozen=True, slots=True)
class LastTold:
    """What doubts about a firing alert rest on: a storm's alerts are not read as a whole for that."""

    fingerprint: str
    starts_at: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change of one alert's state, on disk and waiting for triage. `id` gives the order of arrival."""

    id: int
    alert: Alert


@dataclass(frozen=True, slots=True)
class TruncatedGroup:
    """A webhook that did not carry all alerts of its group: Alertmanager must be asked."""

    id: int
    group_key: str
    receiver: str
    truncated: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Truncation:
    """What a webhook said it left out. An empty group key: it was too large to be read. An empty receiver: not even
    its beginning told for whom it was."""

    group_key: str
    receiver: str
    truncated: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class TakenIn:
    """One webhook on its way from the intake to the store.

    moments: its alerts are events of a moment, not states that last. One that is known is no news, whatever became of
    it since; where a state that fires again after its resolve is.
    """

    alerts: tuple[Alert, ...]
    truncation: Truncation | None = None
    moments: bool = False
