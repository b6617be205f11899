import pytest

from bot.commands import ack
from bot.commands.words import UsageError
from bot.incidents.incident import IncidentState
from tests import stories as s


def test_an_ack_is_written_with_its_audit_entry_and_the_card_is_marked(bench):
    bench.opened(s.incident())
    with bench.store.read() as tx:
        before = tx.card_mark(142)
    report = ack.run(["inc-142"], bench.context())
    assert report.text == "inc-142 (chat-70b) is yours: nobody else is called for it."
    with bench.store.read() as tx:
        incident, (entry,) = tx.incident(142), tx.audited("inc-142", 5)
        assert (incident.acked_by, incident.acked_at) == (s.BOB, s.at(3))
        assert (entry.entry.actor, entry.entry.action) == (s.BOB, "incident.acknowledged")
        assert tx.card_mark(142) > before


def test_the_second_ack_does_nothing_and_names_the_first(bench):
    bench.opened(s.incident())
    ack.run([], bench.context(s.ALICE))
    assert "<@U01ALICE> already" in ack.run([], bench.context(s.BOB)).text
    assert "you already" in ack.run([], bench.context(s.ALICE)).text
    with bench.store.read() as tx:
        assert tx.incident(142).acked_by == s.ALICE
        assert len(tx.audited("inc-142", 5)) == 1


def test_a_resolved_one_cannot_be_taken(bench):
    bench.opened(s.incident(state=IncidentState.RESOLVED, resolved_at=s.at(1)))
    with pytest.raises(UsageError, match="resolved already"):
        ack.run(["142"], bench.context())
