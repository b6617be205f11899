"""How much waits for something: the numbers behind "is it behind?"."""

from collections.abc import Mapping

import sqlalchemy as sa

from bot.incidents.incident import IncidentState
from bot.outbound.store import tables
from bot.outbound.store.rows import Rows
from bot.remediation.proposal import ProposalState


class DepthRows(Rows):
    def depths(self) -> Mapping[str, int]:
        t = tables
        due: dict[str, tuple[sa.Table, sa.ColumnElement[bool] | sa.TextClause | None]] = {
            "deliveries": (t.delivery, None),
            "truncated_groups": (t.truncated_group, None),
            "requests": (t.request, sa.text(t.REQUEST_IS_DUE)),
            "rounds": (t.round, t.round.c.ended_at.is_(None)),
            "cards": (t.card, t.card.c.stale_since.is_not(None)),
            "thread_messages": (t.thread_message, t.thread_message.c.ts.is_(None)),
            "whispers": (t.whisper, None),
            "incidents_open": (t.incident, t.incident.c.state == IncidentState.OPEN),
            "executions_approved": (t.proposal, t.proposal.c.state == ProposalState.APPROVED),
            "executions_running": (t.proposal, t.proposal.c.state == ProposalState.RUNNING),
        }
        counts = [
            sa.select(sa.func.count())
            .select_from(table)
            .where(*([] if of is None else [of]))
            .scalar_subquery()
            .label(name)
            for name, (table, of) in due.items()
        ]
        row = self._connection.execute(sa.select(*counts)).mappings().one()
        return {str(name): int(count) for name, count in row.items()}
