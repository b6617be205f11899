"""What Slack does not show yet: cards that changed, thread messages in order, answers to one person."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from bot.announce.outbox import Card, Waiting, Whisper
from bot.incidents.incident import ThreadMessage
from bot.outbound.store import tables
from bot.outbound.store.columns import Moment
from bot.outbound.store.rows import Rows, insert_unless_there, row_of, value_of
from bot.report import Report


class AnnounceRows(Rows):
    def show(self, incident: int) -> None:
        """Raises LookupError if the incident is not saved."""
        t, now = tables.card, self._clock()
        marked = sa.update(t).where(t.c.incident == incident)
        since = sa.func.coalesce(t.c.stale_since, sa.literal(now, Moment))
        if self._connection.execute(marked.values(mark=t.c.mark + 1, stale_since=since)).rowcount:
            return
        channel = sa.select(tables.incident.c.channel).where(tables.incident.c.number == incident)
        where = self._connection.execute(channel).scalar_one_or_none()
        if where is None:
            raise LookupError(f"inc-{incident} is not saved, so it has no card to show")
        self._connection.execute(sa.insert(t).values(incident=incident, channel=where, mark=1, stale_since=now))

    def stale_cards(self) -> Sequence[Card]:
        t = tables.card
        return self._all(Card, sa.select(t).where(t.c.stale_since.is_not(None)).order_by(t.c.stale_since, t.c.incident))

    def card(self, incident: int) -> Card | None:
        return self._one(Card, sa.select(tables.card).where(tables.card.c.incident == incident))

    def card_mark(self, incident: int) -> int:
        """0 if it was never shown."""
        mark = sa.select(tables.card.c.mark).where(tables.card.c.incident == incident)
        return self._connection.execute(mark).scalar_one_or_none() or 0

    def card_attempted(self, incident: int, at: datetime) -> None:
        t = tables.card
        self._connection.execute(sa.update(t).where(t.c.incident == incident).values(attempted_at=at))

    def card_shown(self, incident: int, ts: str, digest: str, mark: int) -> None:
        t = tables.card
        shown = sa.update(t).where(t.c.incident == incident)
        self._connection.execute(shown.values(ts=ts, shown=digest, attempted_at=None))
        # Marked again while Slack answered: still stale, but younger than those that wait for their first edit.
        self._connection.execute(shown.where(t.c.mark == mark).values(stale_since=None))
        self._connection.execute(shown.where(t.c.mark != mark).values(stale_since=self._clock()))

    def say(self, message: ThreadMessage) -> None:
        insert_unless_there(self._connection, tables.thread_message, row_of(message), ["incident", "key"])

    def card_moved(self, incident: int, channel: str) -> None:
        t = tables.card
        moved = sa.update(t).where(t.c.incident == incident, t.c.ts.is_(None))
        self._connection.execute(moved.values(channel=channel, attempted_at=None))

    def waiting_messages(self, limit: int) -> Sequence[Waiting]:
        t, card = tables.thread_message, tables.card
        waiting = sa.select(sa.func.min(t.c.id)).join(card, card.c.incident == t.c.incident)
        waiting = waiting.where(t.c.ts.is_(None), card.c.ts.is_not(None)).group_by(t.c.incident)
        rows = self._connection.execute(
            sa.select(t).where(t.c.id.in_(waiting)).order_by(t.c.id).limit(limit)
        ).mappings()
        return tuple(Waiting(row["id"], value_of(ThreadMessage, row), row["attempted_at"]) for row in rows)

    def message_attempted(self, id: int, at: datetime) -> None:
        t = tables.thread_message
        self._connection.execute(sa.update(t).where(t.c.id == id).values(attempted_at=at))

    def message_posted(self, id: int, ts: str) -> None:
        t = tables.thread_message
        self._connection.execute(sa.update(t).where(t.c.id == id).values(ts=ts))

    def whisper(self, channel: str, user: str, report: Report, at: datetime) -> None:
        row = {"channel": channel, "user": user, "report": report, "created_at": at}
        self._connection.execute(sa.insert(tables.whisper).values(**row))

    def waiting_whispers(self, limit: int) -> Sequence[Whisper]:
        t = tables.whisper
        return self._all(Whisper, sa.select(t).order_by(t.c.id).limit(limit))

    def whisper_attempted(self, id: int, at: datetime) -> None:
        t = tables.whisper
        self._connection.execute(sa.update(t).where(t.c.id == id).values(attempted_at=at))

    def whisper_done(self, id: int) -> None:
        self._connection.execute(sa.delete(tables.whisper).where(tables.whisper.c.id == id))
