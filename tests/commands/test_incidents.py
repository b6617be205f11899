import pytest

from bot.commands import incidents
from bot.commands.words import UsageError
from bot.incidents.incident import IncidentState
from tests import stories as s


def test_none_open_is_said(bench):
    assert incidents.run([], bench.context()).text == "No incident is open"


def test_open_ones_show_verdict_and_who_is_at_it_and_resolved_ones_how_long_they_took(bench):
    bench.opened(
        s.incident(142, acked_by=s.BOB, acked_at=s.at(1)),
        s.incident(7, state=IncidentState.RESOLVED, resolved_at=s.at(6), resolution="all alerts resolved"),
        rounds=(s.round_of(),),
    )
    with bench.store.write() as tx:
        tx.save_proposal(s.proposal())
    shown = s.said(incidents.run([], bench.context()))
    assert "1 incident open" in shown
    assert "inc-142 chat-70b · VLLMHighTTFT, since 2026-11-24 02:07" in shown
    assert "Under-provisioned: 138 requests wait" in shown
    assert "acknowledged by @U02BOB, 1 to review" in shown
    assert "inc-7 chat-70b: 2026-11-24 02:13, after 6 min; all alerts resolved" in shown


def test_a_word_too_many_is_refused(bench):
    with pytest.raises(UsageError):
        incidents.run(["all"], bench.context())
