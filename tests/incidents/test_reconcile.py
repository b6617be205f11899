from dataclasses import replace

import pytest

from bot.incidents.alert import TakenIn, Truncation
from bot.incidents.incident import Timing
from bot.incidents.reconcile import Reconcile
from bot.ports import FiringAlert
from tests.fakes import NOT_ANSWERING
from tests.incidents.conftest import alert, at

TIMING = Timing(silent_seconds=600)
OLD = alert(service="chat-70b")


class World:
    """Alertmanager and Prometheus, as far as alerts go. `down` names who does not answer."""

    def __init__(self):
        self.told, self.computed, self.down = [], [], None
        self.silenced, self.receivers = [], ("bot",)
        self.since = at(-9999)
        self.asked = []

    def started_at(self):
        return self.since

    def active(self, *, matchers=()):
        if self.down == "alertmanager":
            raise NOT_ANSWERING
        self.asked.append(tuple(matchers))
        return tuple(
            FiringAlert(a.labels, {}, a.starts_at, a.fingerprint, state, receivers=self.receivers)
            for state, alerts in (("active", self.told), ("suppressed", self.silenced))
            for a in alerts
            if all(matcher == f'alertname="{a.labels.get("alertname", "")}"' for matcher in matchers)
        )

    def alerts(self):
        if self.down == "prometheus":
            raise NOT_ANSWERING
        return tuple(FiringAlert(a.labels, {}, a.starts_at, None, "firing") for a in self.computed)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def reconcile(store, world):
    with store.write() as tx:
        tx.take_in([OLD])
        tx.delivered([d.id for d in tx.deliveries(10)])
    return Reconcile(store, world, world, TIMING, interval_seconds=10)


def states(store):
    with store.read() as tx:
        return [d.alert.status.value for d in tx.deliveries(10)]


def test_an_alert_told_lately_is_not_asked_for(reconcile, store):
    for seconds in range(0, 600, 20):
        reconcile.step(at(seconds))
    assert states(store) == []


def test_a_silent_alert_that_both_lack_twice_is_resolved(reconcile, store):
    reconcile.step(at(600))
    assert states(store) == []
    reconcile.step(at(610))
    assert states(store) == ["resolved"]


def test_an_alert_that_alertmanager_still_has_goes_on_firing(reconcile, store, world):
    world.told = [OLD]
    for seconds in range(600, 700, 10):
        reconcile.step(at(seconds))
    assert states(store) == []


def test_an_alert_that_prometheus_still_computes_goes_on_firing(reconcile, store, world):
    world.computed = [OLD]
    for seconds in range(600, 700, 10):
        reconcile.step(at(seconds))
    assert states(store) == []


@pytest.mark.parametrize("who", ["alertmanager", "prometheus"])
def test_while_one_of_them_does_not_answer_nothing_is_resolved(reconcile, store, world, who):
    world.down = who
    for seconds in range(600, 700, 10):
        reconcile.step(at(seconds))
    assert states(store) == []


def test_right_after_a_restart_absence_means_nothing(reconcile, store, world):
    world.since = at(600)
    for seconds in range(600, 720, 10):
        reconcile.step(at(seconds))
    assert states(store) == []
    for seconds in range(720, 760, 10):
        reconcile.step(at(seconds))
    assert states(store) == ["resolved"]


def test_of_a_long_list_only_alerts_of_the_names_in_doubt_are_read(reconcile, store, world):
    nameless = replace(OLD, fingerprint="f-nameless", labels={"service": "chat-70b"})
    store.take_in_webhooks([TakenIn((nameless,))])
    world.told = [OLD, nameless, alert("Other")]
    for seconds in range(610, 700, 10):
        reconcile.step(at(seconds))
    assert set(world.asked) == {(f'alertname="{OLD.name}"',), ('alertname=""',)}
    with store.read() as tx:
        assert [d.alert.fingerprint for d in tx.deliveries(10)] == ["f-nameless"]  # as it came in, not again


def test_what_one_name_told_counts_though_the_next_is_not_answered(reconcile, store, world):
    """One Alertmanager behind a load balancer goes away in between."""
    back = replace(OLD, starts_at=at(500).isoformat())
    other = alert("Zzz", service="chat-70b")
    store.take_in_webhooks([TakenIn((other,))])
    world.told = [back]
    first = world.active

    def dies(*, matchers):
        world.down = "alertmanager" if world.asked else None
        return first(matchers=matchers)

    world.active = dies
    assert reconcile.step(at(610))
    with store.read() as tx:
        assert [(d.alert.name, d.alert.starts_at) for d in tx.deliveries(10)][-1] == (OLD.name, back.starts_at)


def test_the_same_moment_spelt_otherwise_is_no_new_state(reconcile, store, world):
    world.told = [replace(OLD, starts_at=OLD.starts_at.replace("+00:00", ".000Z"))]
    reconcile.step(at(600))
    assert states(store) == []


def test_an_event_of_a_moment_never_ends_in_silence(reconcile, store, world):
    """The GPU agent told it, so no Alertmanager can list it; nor does a truncated webhook cast doubt on it."""
    world.told = [OLD]
    xid = replace(alert("GpuXid", node="gpu-07"), ends_at=OLD.starts_at)
    store.take_in_webhooks([TakenIn((xid,), moments=True), TakenIn((), Truncation("{}:{}", "bot", 1, at(5)))])
    for seconds in range(10, 3600, 10):
        reconcile.step(at(seconds))
    with store.read() as tx:
        assert [(d.alert.name, d.alert.status.value) for d in tx.deliveries(10)] == [("GpuXid", "firing")]


def test_lacked_once_and_told_again_starts_over(reconcile, store, world):
    reconcile.step(at(600))
    world.told = [OLD]
    reconcile.step(at(610))
    world.told = []
    reconcile.step(at(1300))
    assert states(store) == []


def test_what_a_truncated_webhook_hid_is_fetched(reconcile, store, world):
    hidden = alert("VllmQueue", service="chat-70b")
    world.told = [OLD, hidden]
    store.take_in_webhooks([TakenIn((), Truncation("{}:{}", "bot", 1, at(5)))])
    reconcile.step(at(10))
    with store.read() as tx:
        assert [d.alert.name for d in tx.deliveries(10)] == ["VllmQueue"]
        assert not tx.truncated_groups()


HIDDEN = alert("VllmQueue", service="chat-70b")


def fetched(reconcile, store, receiver="bot", group_key="{}:{}"):
    store.take_in_webhooks([TakenIn((), Truncation(group_key, receiver, 1, at(5)))])
    reconcile.step(at(10))
    with store.read() as tx:
        return [d.alert.name for d in tx.deliveries(10)]


def test_what_other_receivers_get_is_not_taken_in(reconcile, store, world):
    world.told, world.receivers = [OLD, HIDDEN], ("pager", "bot-staging")
    assert fetched(reconcile, store) == []
    world.receivers = ("pager", "bot")
    assert fetched(reconcile, store, "another") == []


def test_what_is_silenced_is_not_taken_in(reconcile, store, world):
    world.told, world.silenced = [OLD], [HIDDEN]
    assert fetched(reconcile, store) == []
    with store.read() as tx:
        assert not tx.truncated_groups()


def test_an_alert_that_is_known_goes_on_firing_while_it_is_silenced(reconcile, store, world):
    world.silenced = [OLD]
    for seconds in range(600, 700, 10):
        reconcile.step(at(seconds))
    assert states(store) == []


def test_an_alert_that_went_to_another_receiver_goes_on_firing(reconcile, store, world):
    world.told, world.receivers = [OLD], ("pager",)
    for seconds in range(600, 700, 10):
        reconcile.step(at(seconds))
    assert states(store) == []


def test_of_a_webhook_too_large_to_be_read_its_receivers_alerts_are_fetched(reconcile, store, world):
    world.told = [OLD, HIDDEN]
    assert fetched(reconcile, store, group_key="") == ["VllmQueue"]


def test_where_even_the_receiver_is_not_known_all_that_is_not_silenced_is_fetched(reconcile, store, world):
    world.told, world.silenced, world.receivers = [OLD, HIDDEN], [alert("Silenced")], ("pager",)
    assert fetched(reconcile, store, "", group_key="") == ["VllmQueue"]


def test_what_a_truncated_webhook_hid_is_fetched_right_after_a_restart_too(reconcile, store, world):
    hidden = alert("VllmQueue", service="chat-70b")
    world.since = at(0)
    world.told = [hidden]  # OLD has not been told again yet
    store.take_in_webhooks([TakenIn((), Truncation("{}:{}", "bot", 1, at(5)))])
    for seconds in (10, 20, 30):
        reconcile.step(at(seconds))
    with store.read() as tx:
        assert [(d.alert.name, d.alert.status.value) for d in tx.deliveries(10)] == [("VllmQueue", "firing")]
        assert tx.truncated_groups()  # a resolve may hide there as well: it is asked for once absence says something
    for seconds in (130, 140, 150):
        reconcile.step(at(seconds))
    with store.read() as tx:
        assert [d.alert.status.value for d in tx.deliveries(10)] == ["firing", "resolved"]
        assert not tx.truncated_groups()


def test_a_resolve_that_a_truncated_webhook_hid_is_found_without_waiting_for_silence(reconcile, store):
    store.take_in_webhooks([TakenIn((), Truncation("{}:{}", "bot", 1, at(5)))])
    reconcile.step(at(10))
    reconcile.step(at(20))
    assert states(store) == ["resolved"]


def test_without_an_alertmanager_nothing_is_assumed(store, world):
    assert not Reconcile(store, None, world, TIMING, interval_seconds=10).step(at(0))
