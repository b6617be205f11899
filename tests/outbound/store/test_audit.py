from datetime import timedelta

import sqlalchemy as sa

from bot.audit import AuditEntry, broken_link
from tests.fixtures_store import NOW


def entry(subject="inc-1", **detail):
    return AuditEntry(NOW, "U1", "proposal.approved", subject, detail)


def write(store, *entries):
    for one in entries:
        with store.write() as tx:
            tx.audit(one)


def verdict(store):
    with store.read() as tx:
        return broken_link(tx.audit_chain())


def test_the_chain_holds_as_it_is_read_back(store):
    write(
        store, entry(before=3, ratio=0.1, whole=1.0), entry(text="naïve \x00 \u2028", none=None, list=(1, 2)), entry()
    )
    with store.read() as tx:
        chain = list(tx.audit_chain())
    assert [link.sequence for link in chain] == [1, 2, 3]
    assert broken_link(chain) is None


def test_an_entry_of_a_transaction_that_failed_leaves_no_gap(store):
    write(store, entry())
    try:
        with store.write() as tx:
            tx.audit(entry())
            raise KeyError
    except KeyError:
        pass
    write(store, entry())
    assert verdict(store) is None


def test_several_entries_of_one_transaction_follow_one_another(store):
    with store.write() as tx:
        tx.audit(entry())
        tx.audit(entry())
    assert verdict(store) is None


def test_a_changed_entry_is_found(store):
    write(store, entry(replicas=4), entry())
    tamper(store, "UPDATE audit SET detail = '{\"replicas\": 5}' WHERE sequence = 1")
    assert verdict(store) == "entry 1 was changed after it was written"


def test_a_changed_time_is_found(store):
    write(store, entry(), entry())
    tamper(store, "UPDATE audit SET at = at + 1 WHERE sequence = 2")
    assert verdict(store) == "entry 2 was changed after it was written"


def test_a_removed_entry_is_found(store):
    write(store, entry(), entry(), entry())
    tamper(store, "DELETE FROM audit WHERE sequence = 2")
    assert verdict(store) == "entry 2 is missing (next is 3)"


def test_entries_are_found_by_what_they_are_about_newest_first(store):
    write(store, entry("inc-14"), entry("inc-142"), entry("inc-14-p2"), entry("inc_14-p2"))
    with store.read() as tx:
        assert [e.entry.subject for e in tx.audited("inc-14", 10)] == ["inc-14-p2", "inc-14"]
        assert [e.sequence for e in tx.audited(None, 2)] == [4, 3]


def test_a_time_is_kept_to_the_microsecond(store):
    write(store, AuditEntry(NOW + timedelta(microseconds=1), "bot", "a", "b", {}))
    with store.read() as tx:
        assert tx.audited(None, 1)[0].entry.at == NOW + timedelta(microseconds=1)


def tamper(store, statement):
    with store.engines.writer.begin() as connection:
        connection.execute(sa.text(statement.replace(": ", r"\: ")))
