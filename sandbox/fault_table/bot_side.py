"""What the bot makes of an alert: its own adapters, composed as its application composes them, and its own account."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.app import Outside, connect
from bot.fleet import Fleet
from bot.incidents.diagnose import Diagnoser
from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, Target
from bot.incidents.placing import runbook_for
from bot.incidents.target import resolve
from bot.outbound.prometheus import Prometheus
from bot.runbook.schema import Severity
from bot.settings import Settings

WINDOW_SECONDS = 10.0  # seconds where production has minutes; nothing else differs
STEP_THREADS = 64


@dataclass(frozen=True)
class Diagnosed:
    runbook: str | None  # that the alert's labels lead to
    target: Target
    round: Round
    seconds: float


class BotSide:
    """`diagnose` may be called from many threads at once, each with its own fleet.yaml."""

    def __init__(self, folder: Path, *, prometheus_url: str, kubernetes_url: str, ca: Path, token_file: Path) -> None:
        """Raises ValueError if a runbook has a mistake, since the row would then be about what it was before."""
        folder.mkdir(parents=True, exist_ok=True)
        nobody = folder / "fleet.json"
        nobody.write_text(_fleet([]).model_dump_json())
        settings = Settings.model_validate(
            {
                "slack": {"bot_token": "not used: nothing is posted"},
                "fleet": nobody,
                "database_url": f"sqlite:///{folder / 'bot.sqlite'}",
                "prometheus": {"url": prometheus_url, "window_seconds": WINDOW_SECONDS},
                "kubernetes": {"url": kubernetes_url, "ca_file": ca, "token_file": token_file},
                "step_threads": STEP_THREADS,
            }
        )
        self._outside: Outside = connect(settings)
        if self._outside.library.mistakes:
            raise ValueError("runbooks with mistakes:\n" + "\n".join(map(str, self._outside.library.mistakes)))
        self._pool = ThreadPoolExecutor(STEP_THREADS, thread_name_prefix="step")

    def with_prometheus(self, url: str) -> "BotSide":
        """The same bot, told of another Prometheus. Not to be closed by itself."""
        settings = self._outside.settings.prometheus
        reader = Prometheus(url, timeout_seconds=settings.timeout_seconds, threads=STEP_THREADS)
        other = copy(self)
        other._outside = replace(self._outside, prometheus=reader)
        return other

    @property
    def rules(self) -> Mapping[str, tuple[str, ...]]:
        """Each runbook's rules."""
        return {name: tuple(rule.id for rule in book.rules) for name, book in self._outside.runbooks.items()}

    def diagnose(self, service: Mapping[str, Any], labels: Mapping[str, str], began: datetime) -> Diagnosed:
        """As triage and rounds would: labels to target and runbook, and one round of that runbook."""
        outside = replace(self._outside, fleet=_fleet([service]))
        begun = time.monotonic()
        target = resolve(labels, outside.sources(now()).cluster, outside.fleet)
        runbook = runbook_for(labels, outside.runbooks)
        incident = _incident(target, runbook, began)
        asked = Round(1, 1, runbook or "none", RoundReason.START, due_at=began)
        ended = Diagnoser(outside.runbooks, outside.sources, self._pool, clock=now)(incident, asked)
        return Diagnosed(runbook, target, ended, time.monotonic() - begun)

    def close(self) -> None:
        self._pool.shutdown()
        self._outside.store.close()


def now() -> datetime:
    return datetime.now(UTC)


def _incident(target: Target, runbook: str | None, began: datetime) -> Incident:
    return Incident(
        number=1,
        state=IncidentState.OPEN,
        severity=Severity.CRITICAL,
        title="a row of the fault table",
        target=target,
        runbook=runbook,
        channel="C0",
        opened_at=now(),
        began_at=began,
    )


def _fleet(services: list[Mapping[str, Any]]) -> Fleet:
    return Fleet.model_validate(
        {
            "services": services,
            "default_channel": "C0",
            "roles": {"operator": {"users": ["U0"]}},
            "approvals": {"low": "operator", "medium": "operator", "high": "operator"},
        }
    )
