"""/healthz (should this process be restarted?), /readyz (may webhooks be sent here?) and /metrics.

Ready means that alerts can be taken in, so the store alone decides: if Slack is away, a bot that is taken out of its
Service could not even write down what it will have to say. The rest is told, so that a person sees it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bot.announce.announcer import Backlog
from bot.inbound.intake import Intake
from bot.inbound.metrics import OwnMetrics, Reading
from bot.inbound.webhook import AlertmanagerWebhook
from bot.ports import SourceError

STUCK_SECONDS = 300.0  # of one pass of a lane: every outbound call in it has a deadline of seconds
SLOW_SECONDS = 30.0


class StoreHealth(Protocol):
    def depths(self) -> Mapping[str, int]:
        """How many rows are due, by what they are. Raises SourceError."""
        ...


class LeaderHealth(Protocol):
    @property
    def leads(self) -> bool: ...
    @property
    def errors(self) -> Mapping[str, int]: ...
    def age_seconds(self) -> float: ...


class EngineHealth(Protocol):
    @property
    def active(self) -> int: ...
    @property
    def slots(self) -> int: ...


class RoundsHealth(Protocol):
    @property
    def ended(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Check:
    ok: bool
    detail: str


class Health:
    def __init__(
        self,
        *,
        store: StoreHealth,
        leader: LeaderHealth,
        slack_connected: Callable[[], bool],
        intake: Intake,
        webhook: AlertmanagerWebhook,
        backlog: Callable[[], Backlog],
        engine: EngineHealth,
        rounds: RoundsHealth | None = None,
        agents: Callable[[], Mapping[str, bool]] | None = None,
    ) -> None:
        """`agents`: the GPU nodes' agents that this replica listens to, and whether it hears them."""
        self._store = store
        self._leader = leader
        self._slack_connected = slack_connected
        self._intake = intake
        self._webhook = webhook
        self._backlog = backlog
        self._engine = engine
        self._rounds = rounds
        self._agents = agents
        self._metrics = OwnMetrics(self._readings())

    def add_to(self, api: FastAPI) -> None:
        api.add_api_route("/healthz", self.healthz, methods=["GET"])
        api.add_api_route("/readyz", self.readyz, methods=["GET"])
        api.add_api_route("/metrics", self.metrics, methods=["GET"])

    async def healthz(self) -> Response:
        """Async, and of numbers in memory alone: it answers while all threads are busy."""
        loop = self._loop(STUCK_SECONDS)
        return JSONResponse({"ok": loop.ok, "loop": loop.detail}, 200 if loop.ok else 503)

    def readyz(self) -> Response:
        checks = {
            "store": self._store_answers(),
            "loop": self._loop(SLOW_SECONDS),
            "slack": self._slack(),
            "token": self._token(),
        }
        ready = checks["store"].ok
        told = {name: asdict(check) for name, check in checks.items()}
        return JSONResponse({"ready": ready, "checks": told}, 200 if ready else 503)

    def metrics(self) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    # ------------------------------------------------------------------------------------------------ checks

    def _store_answers(self) -> Check:
        started = time.monotonic()
        try:
            self._store.depths()
        except SourceError as error:
            return Check(False, str(error))
        return Check(True, f"answered in {time.monotonic() - started:.3f} s")

    def _loop(self, limit_seconds: float) -> Check:
        if not self._leader.leads:
            return Check(True, "another replica leads; this one takes in")
        age = self._leader.age_seconds()
        return Check(age < limit_seconds, f"leads; the slowest lane was through {age:.1f} s ago")

    def _slack(self) -> Check:
        if not self._slack_connected():
            return Check(False, "no connection: clicks and commands do not arrive, and are lost")
        trouble = self._backlog().trouble
        return Check(trouble is None, trouble or "connected")

    def _token(self) -> Check:
        if self._webhook.has_token:
            return Check(True, "set")
        return Check(False, "VLLM_ONCALL_INTAKE__TOKEN is not set: every webhook is refused")

    # ------------------------------------------------------------------------------------------------ metrics

    def _readings(self) -> list[Reading]:
        return [*self._of_intake(), *self._of_work(), *self._of_slack(), *self._of_agents()]

    def _of_intake(self) -> list[Reading]:
        intake, webhook = self._intake, self._webhook
        return [
            Reading("webhooks_accepted", "Webhooks answered with 200: on disk.", lambda: webhook.accepted, counts=True),
            Reading(
                "webhooks_refused",
                "Webhooks answered otherwise (401: token, 400 and 413: body, 503: full or no database).",
                lambda: {str(status): count for status, count in sorted(webhook.refused.items())},
                "status",
                counts=True,
            ),
            Reading("alerts_taken_in", "Alerts on disk, repeats included.", lambda: intake.alerts, counts=True),
            Reading(
                "alerts_repeated", "Alerts dropped as what was known already.", lambda: intake.repeats, counts=True
            ),
            Reading("webhooks_waiting", "Webhooks that wait for the disk.", lambda: intake.waiting),
        ]

    def _of_work(self) -> list[Reading]:
        leader, engine, rounds = self._leader, self._engine, self._rounds
        readings = [
            Reading("leads", "1 if this replica does what is due.", lambda: float(leader.leads)),
            Reading("loop_age_seconds", "Since the slowest lane of work was through.", leader.age_seconds),
            Reading("work_errors", "Failed steps of the leader's works.", lambda: leader.errors, "work", counts=True),
            Reading("due", "Rows of the store that wait for something.", self._store.depths, "what"),
            Reading("engine_active", "Executions that hold a slot, asleep or not.", lambda: engine.active),
            Reading("engine_slots", "Slots there are; new executions wait from 80 % on.", lambda: engine.slots),
        ]
        if rounds is not None:
            readings += [
                Reading("rounds", "Diagnosis rounds that ended.", lambda: rounds.ended, counts=True),
                Reading("round_seconds", "Seconds they took, in all.", lambda: rounds.seconds, counts=True),
            ]
        return readings

    def _of_slack(self) -> list[Reading]:
        return [
            Reading("slack_connected", "1 if clicks and commands arrive.", lambda: float(self._slack_connected())),
            Reading("slack_limited", "Answers of 429.", lambda: self._backlog().limited, counts=True),
            Reading("slack_backlog", "What Slack does not show yet.", self._slack_backlog, "what"),
            Reading("slack_oldest_card_seconds", "How long the oldest incident is without a card.", self._oldest),
        ]

    def _of_agents(self) -> list[Reading]:
        agents = self._agents
        if agents is None:
            return []
        what = "1 if this replica hears the node's GPU agent: an Xid there would be told at once."
        return [Reading("gpu_agent_heard", what, lambda: {n: float(heard) for n, heard in agents().items()}, "node")]

    def _slack_backlog(self) -> Mapping[str, float]:
        backlog = self._backlog()
        return {n: getattr(backlog, n) for n in ("cards", "edits", "threads", "whispers")}

    def _oldest(self) -> float:
        oldest = self._backlog().oldest
        return 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
