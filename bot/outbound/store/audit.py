"""The audit chain's rows. Nothing here updates or deletes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from bot.audit import GENESIS, AuditEntry, ChainedEntry, chained
from bot.outbound.store import tables
from bot.outbound.store.rows import Rows, row_of, value_of


class AuditRows(Rows):
    def audit(self, entry: AuditEntry) -> None:
        """Writers follow one another (see `SqlStore.write`), so nobody else can take the same place in the chain."""
        t = tables.audit
        newest = sa.select(t.c.sequence, t.c.hash).order_by(t.c.sequence.desc()).limit(1)
        last = self._connection.execute(newest).first()
        link = chained(entry, last.sequence + 1 if last else 1, last.hash if last else GENESIS)
        row = {"sequence": link.sequence, "previous": link.previous, "hash": link.hash, **row_of(link.entry)}
        self._connection.execute(sa.insert(t).values(**row))

    def audited(self, subject: str | None, limit: int) -> Sequence[ChainedEntry]:
        t = tables.audit
        query = sa.select(t).order_by(t.c.sequence.desc()).limit(limit)
        if subject is not None:
            # "inc-14" and its proposals "inc-14-p2", but not "inc-142".
            query = query.where((t.c.subject == subject) | t.c.subject.startswith(f"{subject}-", autoescape=True))
        return tuple(_link(row) for row in self._connection.execute(query).mappings())

    def audit_chain(self) -> Iterator[ChainedEntry]:
        t = tables.audit
        rows = self._connection.execute(sa.select(t).order_by(t.c.sequence).execution_options(yield_per=500)).mappings()
        return (_link(row) for row in rows)


def _link(row: Mapping[Any, Any]) -> ChainedEntry:
    return ChainedEntry(row["sequence"], row["previous"], row["hash"], value_of(AuditEntry, row))
