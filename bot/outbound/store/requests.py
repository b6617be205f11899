"""What people asked for in Slack, until the leader has acted on it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bot.commands.request import Request, RequestKind
from bot.outbound.store import tables
from bot.outbound.store.rows import Rows, insert_unless_there


class RequestRows(Rows):
    def ask(
        self, *, key: str, kind: RequestKind, user: str, channel: str, payload: Mapping[str, Any], at: datetime
    ) -> bool:
        row = {"key": key, "kind": kind, "user": user, "channel": channel, "payload": payload, "received_at": at}
        return insert_unless_there(self._connection, tables.request, {**row, "done": False}, ["key"])

    def requests(self, limit: int) -> Sequence[Request]:
        t = tables.request
        return self._all(Request, sa.select(t).where(sa.text(tables.REQUEST_IS_DUE)).order_by(t.c.id).limit(limit))

    def acted_on(self, id: int) -> None:
        """The row stays: Slack may deliver the same click again."""
        t = tables.request
        self._connection.execute(sa.update(t).where(t.c.id == id).values(done=True))
