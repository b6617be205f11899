import http.client
import json
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from bot.announce.announcer import Backlog
from bot.inbound.health import SLOW_SECONDS, STUCK_SECONDS, Health
from bot.inbound.intake import Intake
from bot.inbound.server import HttpServer, new_api
from bot.inbound.webhook import AlertmanagerWebhook
from bot.ports import SourceError
from tests.fixtures_store import NOW


@dataclass
class Parts:
    """What the bot is made of, as health sees it; a test turns the knobs."""

    leads: bool = True
    age: float = 0.1
    connected: bool = True
    backlog: Backlog = field(default_factory=Backlog)
    down: bool = False
    errors: dict[str, int] = field(default_factory=lambda: {"triage": 0})
    active: int = 3
    slots: int = 128
    ended: int = 7
    seconds: float = 9.5

    def age_seconds(self) -> float:
        return self.age

    def depths(self) -> dict[str, int]:
        if self.down:
            raise SourceError("Database", "did not answer", retryable=True)
        return {"deliveries": 4, "cards": 0}


class Served:
    def __init__(self, parts: Parts, token: str | None = "right") -> None:
        intake = Intake(lambda webhooks: 0, lambda: None)
        secret = SecretStr(token) if token else None
        self.webhook = AlertmanagerWebhook(intake, token=secret, body_limit_bytes=1000)
        api = new_api()
        self.webhook.add_to(api)
        Health(
            store=parts,
            leader=parts,
            slack_connected=lambda: parts.connected,
            intake=intake,
            webhook=self.webhook,
            backlog=lambda: parts.backlog,
            engine=parts,
            rounds=parts,
            agents=lambda: {"gpu-01": True, "gpu-02": False},
        ).add_to(api)
        self.server = HttpServer(api, host="127.0.0.1", port=0)
        self.server.start()

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.status, answer.read().decode()
        connection.close()
        return said

    def ready(self) -> tuple[int, dict[str, dict[str, object]]]:
        status, body = self.get("/readyz")
        return status, json.loads(body)["checks"]


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def served(parts):
    made = Served(parts)
    yield made
    made.server.stop()


def test_a_bot_that_works_is_alive_and_ready(served):
    assert served.get("/healthz")[0] == 200
    status, checks = served.ready()
    assert status == 200
    assert all(check["ok"] for check in checks.values())


def test_a_loop_that_hangs_for_minutes_wants_a_restart(served, parts):
    parts.age = STUCK_SECONDS + 1
    assert served.get("/healthz")[0] == 503
    parts.leads = False  # a standby's loop does not run
    assert served.get("/healthz")[0] == 200


def test_a_slow_loop_is_told_but_webhooks_may_come(served, parts):
    parts.age = SLOW_SECONDS + 1
    assert served.get("/healthz")[0] == 200
    status, checks = served.ready()
    assert (status, checks["loop"]["ok"]) == (200, False)


def test_without_the_store_nothing_can_be_taken_in(served, parts):
    parts.down = True
    status, checks = served.ready()
    assert status == 503
    assert "did not answer" in checks["store"]["detail"]
    assert served.get("/healthz")[0] == 200  # a restart would not bring the database back


def test_without_slack_alerts_are_still_taken_in_and_it_says_what_is_lost(served, parts):
    parts.connected = False
    status, checks = served.ready()
    assert (status, checks["slack"]["ok"]) == (200, False)
    assert "clicks and commands do not arrive" in checks["slack"]["detail"]
    parts.connected, parts.backlog = True, Backlog(trouble="Slack: did not answer within 10 s")
    assert served.ready()[1]["slack"] == {"ok": False, "detail": "Slack: did not answer within 10 s"}


def test_a_missing_token_is_told():
    served = Served(Parts(), token=None)
    assert served.ready()[1]["token"]["ok"] is False
    served.server.stop()


def test_a_standby_is_ready_since_it_takes_in(served, parts):
    parts.leads = False
    status, checks = served.ready()
    assert status == 200
    assert checks["loop"]["detail"] == "another replica leads; this one takes in"


def test_the_metrics_tell_of_every_part(served, parts):
    parts.backlog = Backlog(cards=2, limited=5, oldest=NOW)
    served.webhook.refused[401] += 3
    text = served.get("/metrics")[1]
    for line in (
        'vllm_oncall_webhooks_refused_total{status="401"} 3.0',
        "vllm_oncall_alerts_taken_in_total 0.0",
        "vllm_oncall_alerts_repeated_total 0.0",
        "vllm_oncall_leads 1.0",
        "vllm_oncall_loop_age_seconds 0.1",
        'vllm_oncall_work_errors_total{work="triage"} 0.0',
        'vllm_oncall_due{what="deliveries"} 4.0',
        "vllm_oncall_engine_active 3.0",
        "vllm_oncall_engine_slots 128.0",
        "vllm_oncall_rounds_total 7.0",
        "vllm_oncall_round_seconds_total 9.5",
        "vllm_oncall_slack_connected 1.0",
        "vllm_oncall_slack_limited_total 5.0",
        'vllm_oncall_slack_backlog{what="cards"} 2.0',
        "process_resident_memory_bytes",
    ):
        assert line in text, line


def test_the_metrics_answer_without_the_store(served, parts):
    parts.down = True
    status, text = served.get("/metrics")
    assert status == 200
    assert "vllm_oncall_due" not in text
    assert "vllm_oncall_metrics_unread 1.0" in text
