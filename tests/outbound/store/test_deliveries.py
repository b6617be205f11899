from dataclasses import replace
from datetime import timedelta

from bot.incidents.alert import AlertStatus, TakenIn, Truncation
from tests.fixtures_store import NOW, an_alert

MINUTE = timedelta(minutes=1)
FIRING, RESOLVED = AlertStatus.FIRING, AlertStatus.RESOLVED


def take_in(store, *alerts):
    with store.write() as tx:
        return tx.take_in(alerts)


def waiting(store):
    with store.read() as tx:
        return [d.alert for d in tx.deliveries(1000)]


def test_an_alert_waits_for_triage_as_it_was_told(store):
    assert take_in(store, an_alert()) == 1
    assert waiting(store) == [an_alert()]


def test_a_repeat_is_dropped_but_remembered_as_told(store):
    take_in(store, an_alert())
    assert take_in(store, an_alert(received_at=NOW + MINUTE)) == 0
    assert waiting(store) == [an_alert()]
    with store.read() as tx:
        assert [a.received_at for a in tx.firing()] == [NOW + MINUTE]


def test_a_repeat_is_dropped_after_its_first_telling_was_triaged(store):
    take_in(store, an_alert())
    with store.write() as tx:
        tx.delivered([d.id for d in tx.deliveries(10)])
    assert take_in(store, an_alert()) == 0
    assert waiting(store) == []


def test_an_alert_that_lapsed_and_fires_again_with_its_old_start_is_kept(store):
    states = [an_alert(status=FIRING), an_alert(status=RESOLVED), an_alert(status=FIRING)]
    assert [take_in(store, a) for a in states] == [1, 1, 1]
    assert waiting(store) == states


def test_the_same_holds_inside_one_webhook(store):
    told = [an_alert(status=s) for s in (FIRING, FIRING, RESOLVED, RESOLVED, FIRING)]
    assert take_in(store, *told) == 3
    assert [a.status for a in waiting(store)] == [FIRING, RESOLVED, FIRING]


def test_a_new_start_is_a_change_without_a_resolve_between(store):
    take_in(store, an_alert(), an_alert(starts_at="2026-11-24T02:08:00Z"))
    assert len(waiting(store)) == 2


def test_only_what_fires_by_the_last_telling_is_firing(store):
    take_in(store, an_alert("a"), an_alert("b"), an_alert("b", RESOLVED), an_alert("c", RESOLVED), an_alert("c"))
    with store.read() as tx:
        assert sorted(a.fingerprint for a in tx.firing()) == ["a", "c"]


def test_a_repeat_brings_its_latest_annotations(store):
    take_in(store, an_alert())
    take_in(store, replace(an_alert(), annotations={"summary": "201 wait"}))
    with store.read() as tx:
        assert tx.last_states([an_alert().fingerprint])[0].annotations == {"summary": "201 wait"}


def test_deliveries_come_in_order_and_within_the_limit(store):
    take_in(store, *(an_alert(f"{n:04}") for n in range(1200)))
    with store.write() as tx:
        first = tx.deliveries(1000)
        assert [d.alert.fingerprint for d in first] == [f"{n:04}" for n in range(1000)]
        tx.delivered([d.id for d in first])
        assert len(tx.deliveries(1000)) == 200


def test_nothing_told_is_nothing_kept(store):
    assert take_in(store) == 0
    assert store.take_in_webhooks([]) == 0


def truncation(key="g", truncated=7):
    return Truncation(key, "default", truncated, NOW)


def test_many_webhooks_are_one_commit(store):
    webhooks = [TakenIn((an_alert("a"), an_alert("b"))), TakenIn((an_alert("a"),), truncation()), TakenIn(())]
    assert store.take_in_webhooks(webhooks) == 2
    assert [a.fingerprint for a in waiting(store)] == ["a", "b"]
    with store.read() as tx:
        assert [(g.group_key, g.receiver, g.truncated) for g in tx.truncated_groups()] == [("g", "default", 7)]


def test_a_truncated_group_is_kept_once_until_it_is_reconciled(store):
    store.take_in_webhooks(
        [TakenIn((), truncation()), TakenIn((), truncation(truncated=9)), TakenIn((), truncation("h"))]
    )
    with store.write() as tx:
        groups = tx.truncated_groups()
        assert [(g.group_key, g.truncated) for g in groups] == [("g", 9), ("h", 7)]
        tx.reconciled([g.id for g in groups])
        assert tx.truncated_groups() == ()


def test_a_group_told_again_while_it_was_asked_for_is_asked_for_again(store):
    store.take_in_webhooks([TakenIn((), truncation())])
    with store.read() as tx:
        asked = tx.truncated_groups()
    store.take_in_webhooks([TakenIn((), truncation())])
    with store.write() as tx:
        tx.reconciled([g.id for g in asked])
        assert len(tx.truncated_groups()) == 1


def test_an_event_of_a_moment_that_is_known_is_no_news_whatever_became_of_it(store):
    """An agent tells its Xids again to a bot that starts; one that ended in silence meanwhile must not fire anew."""
    moment = TakenIn((an_alert(),), moments=True)
    assert store.take_in_webhooks([moment]) == 1
    assert store.take_in_webhooks([moment]) == 0
    take_in(store, an_alert(status=RESOLVED))
    assert store.take_in_webhooks([moment]) == 0
    with store.read() as tx:
        assert tx.firing() == ()
    assert [a.status for a in waiting(store)] == [FIRING, RESOLVED]


def test_an_event_of_a_moment_is_not_among_those_whose_silence_says_something(store):
    moment = replace(an_alert("moment"), ends_at=an_alert().starts_at)
    store.take_in_webhooks([TakenIn((moment,), moments=True), TakenIn((an_alert("state"),))])
    with store.read() as tx:
        assert [a.fingerprint for a in tx.firing()] == ["state"]


def test_a_state_beside_it_that_fires_again_is_news(store):
    take_in(store, an_alert("state", status=RESOLVED), an_alert("moment", status=RESOLVED))
    told = [TakenIn((an_alert("moment"),), moments=True), TakenIn((an_alert("state"),))]
    assert store.take_in_webhooks(told) == 1
