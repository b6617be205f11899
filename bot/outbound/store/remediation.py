"""Proposals, approvals, what must be done by hand, and whether changes are frozen."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from bot.outbound.store import tables
from bot.outbound.store.rows import Rows, insert_unless_there, row_of
from bot.remediation.proposal import MOVES, Approval, Manual, Proposal, ProposalState


class RemediationRows(Rows):
    def next_proposal_number(self, incident: int) -> int:
        t = tables.proposal
        last = self._connection.execute(sa.select(sa.func.max(t.c.number)).where(t.c.incident == incident)).scalar_one()
        return int(last or 0) + 1

    def save_proposal(self, proposal: Proposal) -> None:
        t = tables.proposal
        stored = self._connection.execute(sa.select(t.c.state).where(t.c.id == proposal.id)).scalar_one_or_none()
        if stored is not None and stored is not proposal.state and proposal.state not in MOVES.get(stored, ()):
            raise ValueError(f"{proposal.id} is {stored.value}; it cannot become {proposal.state.value}")
        self._upsert(t, {"id": proposal.id, **row_of(proposal)}, ["id"])

    def proposal(self, id: str) -> Proposal | None:
        return self._one(Proposal, sa.select(tables.proposal).where(tables.proposal.c.id == id))

    def proposals_of(self, incident: int) -> Sequence[Proposal]:
        t = tables.proposal
        return self._all(Proposal, sa.select(t).where(t.c.incident == incident).order_by(t.c.number))

    def proposals_in(self, *states: ProposalState) -> Sequence[Proposal]:
        """Oldest first."""
        t = tables.proposal
        return self._all(Proposal, sa.select(t).where(t.c.state.in_(states)).order_by(t.c.created_at, t.c.id))

    def started_since(self, moment: datetime) -> Sequence[Proposal]:
        t = tables.proposal
        return self._all(Proposal, sa.select(t).where(t.c.started_at >= moment).order_by(t.c.started_at, t.c.id))

    def save_approval(self, approval: Approval) -> None:
        """A second one of the same person does nothing: the first press is the one that counted."""
        insert_unless_there(self._connection, tables.approval, row_of(approval), ["proposal", "user"])

    def approvals_of(self, proposal: str) -> Sequence[Approval]:
        t = tables.approval
        return self._all(Approval, sa.select(t).where(t.c.proposal == proposal).order_by(t.c.id))

    def save_manuals(self, incident: int, manuals: Sequence[Manual]) -> None:
        self._connection.execute(sa.delete(tables.manual).where(tables.manual.c.incident == incident))
        if manuals:
            self._connection.execute(sa.insert(tables.manual), [row_of(m) for m in manuals])

    def manuals_of(self, incident: int) -> Sequence[Manual]:
        t = tables.manual
        return self._all(Manual, sa.select(t).where(t.c.incident == incident).order_by(t.c.id))

    def frozen(self) -> str | None:
        t = tables.change_freeze
        row = self._connection.execute(sa.select(t).where(t.c.lifted_at.is_(None)).order_by(t.c.id)).mappings().first()
        return None if row is None else f"changes are frozen by {row['user']}: {row['reason']}"

    def freeze(self, user: str, reason: str, at: datetime) -> None:
        self._connection.execute(sa.insert(tables.change_freeze).values(user=user, reason=reason, at=at))

    def unfreeze(self, user: str, at: datetime) -> bool:
        t = tables.change_freeze
        lifted = sa.update(t).where(t.c.lifted_at.is_(None)).values(lifted_at=at, lifted_by=user)
        return self._connection.execute(lifted).rowcount > 0
