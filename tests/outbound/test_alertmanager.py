import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from bot.incidents.alert import Alert, AlertStatus, TakenIn, Truncation
from bot.incidents.alert import Webhook as WebhookPost
from bot.incidents.incident import Timing
from bot.incidents.reconcile import Reconcile
from bot.outbound.alertmanager import Alertmanager
from bot.outbound.store import SqlStore
from bot.ports import Alerts, FiringAlert, SourceError
from sandbox import alertmanager as sandbox
from tests.fakes import FakeAlerts
from tests.fixtures_metrics import WebhookListener
from tests.outbound.servers import Answering, Says, Silence, server

UNTIL = datetime.now(UTC) + timedelta(hours=2)
QUEUE = {"alertname": "QueueLong", "service": "chat", "severity": "critical"}
CACHE = {"alertname": "CacheFull", "service": "chat", "severity": "warning"}


class World(Protocol):
    alerts: Alerts

    def fire(self, labels: dict[str, str]) -> None: ...
    def silenced(self) -> list[tuple[dict[str, str], str, str]]:
        """Matchers, by, comment."""
        ...


@dataclass
class FakeWorld:
    alerts: FakeAlerts = field(default_factory=FakeAlerts)

    def fire(self, labels: dict[str, str]) -> None:
        at, text = "2026-11-24T02:07:00.000Z", {"summary": "138 wait"}
        alert = FiringAlert(labels, text, at, "f1", "active", "http://g", ("webhook-0",))
        self.alerts.firing = (*self.alerts.firing, alert)

    def silenced(self) -> list[tuple[dict[str, str], str, str]]:
        return [(dict(matchers), by, comment) for matchers, _, by, comment in self.alerts.silences.values()]


class RealWorld:
    def __init__(self, part: sandbox.Alertmanager) -> None:
        self.part = part
        self.alerts = Alertmanager(part.url, timeout_seconds=5)

    def fire(self, labels: dict[str, str], **more: Any) -> None:
        self.part.post_alerts(
            {"labels": labels, "annotations": {"summary": "138 wait"}, "generatorURL": "http://g", **more}
        )

    def silenced(self) -> list[tuple[dict[str, str], str, str]]:
        return [
            ({matcher["name"]: matcher["value"] for matcher in one["matchers"]}, one["createdBy"], one["comment"])
            for one in self.part.silences()
        ]


class NothingComputed:
    """A Prometheus without alerts."""

    def alerts(self) -> tuple[FiringAlert, ...]:
        return ()

    def started_at(self) -> None:
        return None


@pytest.fixture
def real(alertmanager: sandbox.Alertmanager) -> RealWorld:
    return RealWorld(alertmanager)


@pytest.fixture(params=["fake", "real"])
def world(request) -> Iterator[World]:
    yield FakeWorld() if request.param == "fake" else request.getfixturevalue("real")


# ---------------------------------------------------------------------------------------------- the contract


def test_a_firing_alert_is_told_with_all_it_carries(world: World):
    world.fire(QUEUE)
    (alert,) = world.alerts.active()
    assert alert.labels == QUEUE
    assert alert.annotations == {"summary": "138 wait"}
    assert alert.state == "active"
    assert alert.fingerprint
    assert alert.generator_url == "http://g"
    assert alert.receivers == ("webhook-0",)
    assert datetime.fromisoformat(alert.starts_at).tzinfo is not None


def test_without_alerts_there_are_none(world: World):
    assert world.alerts.active() == ()


@pytest.mark.parametrize(
    ("matchers", "names"),
    [
        (['alertname="QueueLong"'], ["QueueLong"]),
        (['severity=~"critical|warning"'], ["CacheFull", "QueueLong"]),
        (['severity!="critical"'], ["CacheFull"]),
        (['service="chat"', 'severity="critical"'], ["QueueLong"]),
        (['service="other"'], []),
        (['alertname=""'], []),
    ],
)
def test_matchers_choose(world: World, matchers: list[str], names: list[str]):
    world.fire(QUEUE)
    world.fire(CACHE)
    assert sorted(alert.labels["alertname"] for alert in world.alerts.active(matchers=matchers)) == names


def test_a_silence_carries_who_and_why(world: World):
    made = world.alerts.silence(QUEUE, until=UNTIL, by="alice (U1)", comment="inc-142")
    assert made
    assert world.silenced() == [(QUEUE, "alice (U1)", "inc-142")]


def test_a_silence_asked_for_again_is_the_same_one(world: World):
    first = world.alerts.silence(QUEUE, until=UNTIL, by="alice", comment="inc-142")
    assert world.alerts.silence(QUEUE, until=UNTIL, by="alice", comment="inc-142") == first
    assert world.alerts.silence(QUEUE, until=UNTIL, by="bob", comment="inc-142") != first
    assert len(world.silenced()) == 2


def test_everything_cannot_be_silenced(world: World):
    with pytest.raises(SourceError, match="silence everything"):
        world.alerts.silence({}, until=UNTIL, by="alice", comment="x")


# ---------------------------------------------------------------------------------------------- the real one alone


def test_a_silenced_alert_is_still_told_and_says_so(real: RealWorld):
    real.fire(QUEUE)
    real.alerts.silence(QUEUE, until=UNTIL, by="alice", comment="inc-142")
    (alert,) = real.alerts.active()
    assert alert.state == "suppressed"


def test_a_value_with_quotes_is_silenced_literally(real: RealWorld):
    odd = {"alertname": 'x"} or .*'}
    real.alerts.silence(odd, until=UNTIL, by="alice", comment="x")
    real.fire(odd)
    real.fire(QUEUE)
    states = {alert.labels["alertname"]: alert.state for alert in real.alerts.active()}
    assert states == {'x"} or .*': "suppressed", "QueueLong": "active"}


def test_a_silence_that_was_lifted_is_made_anew(real: RealWorld):
    first = real.alerts.silence(QUEUE, until=UNTIL, by="alice", comment="inc-142")
    real.part.expire_silence(first)
    assert real.alerts.silence(QUEUE, until=UNTIL, by="alice", comment="inc-142") != first


def test_it_is_the_same_alert_as_in_the_webhook(real: RealWorld, webhook_listener: WebhookListener):
    """Same fingerprint and same moment; the texts of the moment differ in their zeros."""
    real.fire(QUEUE, startsAt="2026-11-24T02:07:00.1Z")
    (posted,) = webhook_listener.next()["alerts"]
    (alert,) = real.alerts.active()
    assert alert.fingerprint == posted["fingerprint"]
    assert datetime.fromisoformat(alert.starts_at) == datetime.fromisoformat(posted["startsAt"])
    assert (posted["startsAt"], alert.starts_at) == ("2026-11-24T02:07:00.1Z", "2026-11-24T02:07:00.100Z")


def test_each_alert_says_to_whom_it_is_routed_as_the_webhook_does(real: RealWorld, webhook_listener: WebhookListener):
    url = webhook_listener.url
    everything, critical = sandbox.Webhook(url), sandbox.Webhook(url, matchers=['severity="critical"'])
    real.part.reload(sandbox.configuration([critical, everything], sandbox.Grouping()))
    real.fire(QUEUE)
    real.fire(CACHE)
    routed = {alert.labels["alertname"]: set(alert.receivers) for alert in real.alerts.active()}
    assert routed == {"QueueLong": {"webhook-0", "webhook-1"}, "CacheFull": {"webhook-1"}}
    posts = [webhook_listener.next() for _ in range(3)]
    assert {(p["alerts"][0]["labels"]["alertname"], p["receiver"]) for p in posts} == {
        (name, receiver) for name, receivers in routed.items() for receiver in receivers
    }


def test_what_a_truncated_webhook_hid_is_found_by_its_receiver_and_nothing_else(
    real: RealWorld, webhook_listener: WebhookListener, tmp_path: Path
):
    """The bot's own reconciliation against the real API: one alert hidden, one silenced, one of somebody else."""
    mine = sandbox.Webhook(webhook_listener.url, max_alerts=1, matchers=['team="ml"'])
    others = sandbox.Webhook(webhook_listener.url, matchers=['team="db"'])
    real.part.reload(sandbox.configuration([others, mine], sandbox.Grouping(by=("team",))))
    real.alerts.silence({"alertname": "Silenced"}, until=UNTIL, by="alice", comment="x")
    real.part.post_alerts(
        *({"labels": {"alertname": name, "team": "ml"}} for name in ("First", "Second", "Silenced")),
        {"labels": {"alertname": "Foreign", "team": "db"}},
    )
    posts = [webhook_listener.next(), webhook_listener.next()]
    (hook,) = [WebhookPost.model_validate(p) for p in posts if p["receiver"] == "webhook-1"]
    assert hook.truncatedAlerts == 1
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    now = datetime.now(UTC)
    store.take_in_webhooks([TakenIn((), Truncation(hook.groupKey, hook.receiver, hook.truncatedAlerts, now))])
    Reconcile(store, real.alerts, NothingComputed(), Timing(), interval_seconds=1).step(now)
    with store.read() as tx:
        assert sorted(d.alert.name for d in tx.deliveries(10)) == ["First", "Second"]
    store.close()


def test_an_alert_in_doubt_is_found_whatever_its_name(real: RealWorld, tmp_path):
    now = datetime.now(UTC)
    names = ['Queue "long"', "C:\\full", "größer = schlechter", "two\nlines", "{},!~"]
    for name in names:
        real.fire({**QUEUE, "alertname": name})
    told = [
        Alert(a.fingerprint or "", AlertStatus.FIRING, a.labels, {}, "2026-11-24T02:00:00Z", "", "", now)
        for a in real.alerts.active()
    ]
    assert sorted(alert.name for alert in told) == sorted(names)
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    store.take_in_webhooks([TakenIn(tuple(told))])
    with store.write() as tx:
        tx.delivered([d.id for d in tx.deliveries(10)])
    reconcile = Reconcile(store, real.alerts, NothingComputed(), Timing(silent_seconds=0), interval_seconds=1)
    assert reconcile.step(now + timedelta(seconds=1))  # each is there with its own startsAt, none of ours
    with store.read() as tx:
        assert sorted(d.alert.name for d in tx.deliveries(10)) == sorted(names)
    store.close()


def test_a_matcher_that_is_none_is_refused_with_its_words(real: RealWorld):
    with pytest.raises(SourceError, match="bad matcher"):
        real.alerts.active(matchers=["no matcher"])


def test_after_a_restart_it_says_that_it_has_just_started(real: RealWorld, webhook_listener: WebhookListener):
    real.fire(QUEUE)
    webhook_listener.next()
    first = real.alerts.started_at()
    real.part.kill()
    real.part.start()
    assert real.alerts.active() == ()  # not because it resolved
    assert first < real.alerts.started_at() <= datetime.now(UTC)
    with pytest.raises(queue.Empty):
        webhook_listener.next(seconds=0.5)


def test_a_frozen_one_does_not_answer(alertmanager: sandbox.Alertmanager):
    alertmanager.freeze()
    with pytest.raises(SourceError, match=r"did not answer within 0\.5 s") as raised:
        Alertmanager(alertmanager.url, timeout_seconds=0.5).active()
    assert raised.value.retryable
    alertmanager.thaw()


def test_without_an_address_every_question_says_what_to_set():
    alerts = Alertmanager(None, timeout_seconds=1)
    for question in (
        alerts.active,
        alerts.started_at,
        lambda: alerts.silence(QUEUE, until=UNTIL, by="alice", comment="x"),
    ):
        with pytest.raises(SourceError, match="VLLM_ONCALL_ALERTMANAGER__URL"):
            question()


# ---------------------------------------------------------------------------------------------- against odd servers


def failure(answer: Answering) -> SourceError:
    with server(answer) as odd, pytest.raises(SourceError) as raised:
        Alertmanager(odd.url, timeout_seconds=0.5, token="sesame").active()
    assert odd.asked[0].headers["Authorization"] == "Bearer sesame"
    return raised.value


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Says({"status": "success", "data": []}), "does not know"),
        (Says([{"labels": {}}]), "does not know"),
        (Says("hello"), "other than JSON"),
        (Says("no", 404), "answered 404"),
        (Says("no", 401), "answered 401"),
        (Silence(), "did not answer"),
    ],
)
def test_an_odd_answer_is_never_an_empty_one(said: Says, words: str):
    assert words in failure(lambda _: said).why
