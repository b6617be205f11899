from dataclasses import replace
from datetime import timedelta

from bot.incidents.incident import IncidentState, RoundReason, Target
from bot.remediation.checks import ask_round, audit, incident_is_over, rows_for
from bot.remediation.proposal import ProposalState
from tests.fixtures_store import an_incident


def test_the_guards_rows_are_what_is_under_way_what_began_and_who_is_in_trouble(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_incident(an_incident(2, target=Target(node="gpu-01", also=("whisper", "chat-70b"))))
        tx.save_incident(an_incident(3, target=Target("embed"), state=IncidentState.RESOLVED))
        for number, minutes in ((2, 10), (3, 70)):
            old = replace(proposal, number=number, params={}, state=ProposalState.ENDED)
            tx.save_proposal(replace(old, started_at=stage.now - timedelta(minutes=minutes)))
        tx.save_proposal(replace(proposal, state=ProposalState.APPROVED))
        rows = rows_for(tx, stage.now)
    assert [p.number for p in rows.under_way] == [1]
    assert [p.number for p in rows.began_within_the_hour] == [2]
    assert rows.services_in_trouble == 2  # chat-70b and whisper


def test_an_incident_that_is_over_forbids_all_but_the_way_back(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        assert incident_is_over(tx, proposal) is None
        tx.save_incident(replace(stage.incident(), state=IncidentState.RESOLVED))
        assert incident_is_over(tx, proposal) == "inc-1 is resolved, so the change is no longer needed"
        assert incident_is_over(tx, replace(proposal, undoes="inc-1-p0")) is None


def test_a_round_after_a_change_says_for_which(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        number = ask_round(tx, proposal, stage.now)
    (round,) = stage.rounds()
    assert (round.number, round.reason, round.for_execution) == (number, RoundReason.AFTER_CHANGE, "inc-1-p1")


def test_without_a_runbook_there_is_no_round(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        tx.save_incident(replace(stage.incident(), runbook=None))
        assert ask_round(tx, proposal, stage.now) is None


def test_an_audit_entry_names_the_change(stage):
    proposal = stage.scale_up()
    with stage.store.write() as tx:
        audit(tx, stage.now, "UALICE", "proposal.declined", proposal, why="no")
    with stage.store.read() as tx:
        entry = tx.audited(proposal.id, 1)[0].entry
    assert (entry.actor, entry.subject, entry.detail) == ("UALICE", "inc-1-p1", {"what": "scale 3 → 4", "why": "no"})
