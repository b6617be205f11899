import sqlalchemy as sa

from bot.audit import AuditEntry
from bot.commands import audit
from tests import stories as s


def written(bench, count: int = 3) -> None:
    with bench.store.write() as tx:
        for n in range(count):
            tx.audit(AuditEntry(s.at(n), s.BOB, "incident.acknowledged", f"inc-{140 + n}", {"n": n}))


def test_the_last_entries_and_that_the_chain_holds(bench):
    written(bench)
    shown = s.said(audit.run([], bench.context()))
    assert "The last 3 audit entries" in shown
    assert '1 2026-11-24 02:07 @U02BOB incident.acknowledged inc-140 {"n": 0}' in shown
    assert "The chain holds from its first entry to number 3; head " in shown


def test_of_one_incident(bench):
    written(bench)
    shown = s.said(audit.run(["inc-141"], bench.context()))
    assert "The last 1 audit entries of inc-141" in shown and "inc-140" not in shown


def test_none_is_said(bench):
    assert audit.run([], bench.context()).text == "There are no audit entries"


def test_a_changed_entry_is_told_before_anything_else(bench):
    written(bench)
    with bench.store.engines.writer.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET actor = 'somebody' WHERE sequence = 2"))
    report = audit.run([], bench.context())
    assert report.text == "The audit chain is broken: entry 2 was changed after it was written"
    assert s.said(report).startswith("!! The chain is broken")
