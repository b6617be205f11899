from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.audit import GENESIS, AuditEntry, broken_link, chained

T0 = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)


def chain(length):
    links, previous = [], GENESIS
    for n in range(length):
        entry = AuditEntry(T0 + timedelta(seconds=n), "U1", "incident.acked", f"inc-{n}", {"n": n, "what": ["a", None]})
        links.append(chained(entry, n + 1, previous))
        previous = links[-1].hash
    return links


def test_an_untouched_chain_holds():
    assert broken_link(chain(5)) is None


def test_an_entry_changed_afterwards_is_named():
    links = chain(5)
    links[2] = replace(links[2], entry=replace(links[2].entry, actor="U2"))
    assert broken_link(links) == "entry 3 was changed after it was written"


def test_a_removed_entry_is_named():
    links = chain(5)
    del links[1]
    assert broken_link(links) == "entry 2 is missing (next is 3)"


def test_a_chain_rewritten_from_the_middle_does_not_join_the_old_part():
    links = chain(3)
    forged = chained(replace(links[1].entry, actor="U2"), 2, links[0].hash)
    assert broken_link([links[0], forged, links[2]]) == "entry 3 does not follow entry 2"


def test_the_hash_depends_on_microseconds():
    entry = AuditEntry(T0, "U1", "a", "b", {})
    later = replace(entry, at=T0 + timedelta(microseconds=1))
    assert chained(entry, 1, GENESIS).hash != chained(later, 1, GENESIS).hash
