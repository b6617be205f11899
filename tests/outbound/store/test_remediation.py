from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from bot.remediation.proposal import MOVES, Applied, Approval, DiffLine, Helped, Manual, ProposalState
from tests.fixtures_store import NOW, a_proposal, an_incident

S = ProposalState
MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(store):
    with store.write() as tx:
        tx.save_incident(an_incident())
    return store


def test_a_proposal_comes_back_as_it_was_saved(store):
    full = a_proposal(
        diff=(DiffLine("spec.replicas", 3, 4), DiffLine("args", None, ["--max-num-seqs", 128])),
        before={"replicas": 3, "template": {"spec": {"$": "odd"}}},
        objections=("no free GPU",),
        blast_radius="none",
        undoes="inc-1-p0",
        pinned_until=NOW,
        decided_by="U1",
        decided_at=NOW,
        started_at=NOW,
        applied=Applied.PARTLY,
        helped=Helped.CANNOT_TELL,
        outcome="1 of 2",
    )
    with store.write() as tx:
        tx.save_proposal(full)
    with store.read() as tx:
        assert tx.proposal("inc-1-p1") == full
        assert tx.proposal("inc-1-p2") is None
        assert tx.next_proposal_number(1) == 2


def test_only_the_legal_moves_are_stored(store):
    for number, (old, new) in enumerate(product(S, S), start=1):
        with store.write() as tx:
            tx.save_proposal(a_proposal(number, state=old))
        legal = old is new or new in MOVES.get(old, ())
        words = f"inc-1-p{number} is {old.value}; it cannot become {new.value}"
        refused = nullcontext() if legal else pytest.raises(ValueError, match=words)
        with refused, store.write() as tx:
            tx.save_proposal(a_proposal(number, state=new))
        with store.read() as tx:
            assert tx.proposal(f"inc-1-p{number}").state is (new if legal else old)


def test_a_refused_move_takes_its_whole_transaction_back(store):
    with store.write() as tx:
        tx.save_proposal(a_proposal(state=S.DECLINED))
    with pytest.raises(ValueError, match="cannot become running"), store.write() as tx:
        tx.save_approval(Approval("inc-1-p1", "U1", NOW))
        tx.save_proposal(a_proposal(state=S.RUNNING))
    with store.read() as tx:
        assert tx.approvals_of("inc-1-p1") == ()


def test_proposals_are_found_by_incident_state_and_start(store):
    with store.write() as tx:
        tx.save_proposal(a_proposal(1, state=S.RUNNING, started_at=NOW))
        tx.save_proposal(a_proposal(2, state=S.PENDING))
        tx.save_proposal(a_proposal(3, state=S.ENDED, started_at=NOW - MINUTE))
    with store.read() as tx:
        assert [p.number for p in tx.proposals_of(1)] == [1, 2, 3]
        assert [p.number for p in tx.proposals_in(S.PENDING, S.ENDED)] == [2, 3]
        assert [p.number for p in tx.started_since(NOW)] == [1]
        assert [p.number for p in tx.started_since(NOW - MINUTE)] == [3, 1]


def test_the_first_press_of_a_person_is_the_one_that_counts(store):
    first = Approval("inc-1-p1", "U1", NOW, "the pager does not stop")
    with store.write() as tx:
        tx.save_proposal(a_proposal())
        tx.save_approval(first)
        tx.save_approval(replace(first, at=NOW + MINUTE))
        tx.save_approval(Approval("inc-1-p1", "U2", NOW))
    with store.read() as tx:
        assert tx.approvals_of("inc-1-p1") == (first, Approval("inc-1-p1", "U2", NOW))


def test_what_is_to_be_done_by_hand_is_the_latest_list(store):
    def manual(rule):
        return Manual(1, rule, "drain_node", "Drain gpu-03", "kubectl drain gpu-03", "no such action yet")

    with store.write() as tx:
        tx.save_manuals(1, [manual("a"), manual("b")])
        tx.save_manuals(1, [manual("c")])
    with store.read() as tx:
        assert tx.manuals_of(1) == (manual("c"),)
    with store.write() as tx:
        tx.save_manuals(1, [])
        assert tx.manuals_of(1) == ()


def test_a_freeze_says_who_and_why_until_it_is_lifted(store):
    with store.write() as tx:
        assert tx.frozen() is None
        assert tx.unfreeze("U1", NOW) is False
        tx.freeze("U1", "launch day", NOW)
    with store.write() as tx:
        assert tx.frozen() == "changes are frozen by U1: launch day"
        assert tx.unfreeze("U2", NOW) is True
        assert tx.frozen() is None
