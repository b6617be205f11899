"""Our database: SQLite or PostgreSQL behind one contract (`commands.request.Store`), one file per subject."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Self

import sqlalchemy as sa

from bot.incidents.alert import TakenIn
from bot.outbound.store.announce import AnnounceRows
from bot.outbound.store.audit import AuditRows
from bot.outbound.store.deliveries import DeliveryRows
from bot.outbound.store.depths import DepthRows
from bot.outbound.store.engines import Engines, lock_writers, open_engines
from bot.outbound.store.incidents import IncidentRows
from bot.outbound.store.migrations import migrate
from bot.outbound.store.remediation import RemediationRows
from bot.outbound.store.requests import RequestRows
from bot.outbound.store.rows import Clock
from bot.outbound.store.turns import Turns
from bot.ports import SourceError


class SqlTx(DeliveryRows, IncidentRows, RemediationRows, AnnounceRows, RequestRows, AuditRows, DepthRows):
    """All subjects on one transaction's connection: a `commands.request.RequestTx`."""


class StoreError(SourceError):
    """The database did not answer (`retryable`), or refused."""

    def __init__(self, error: sa.exc.SQLAlchemyError, where: str) -> None:
        cause = getattr(error, "orig", None) or error
        passing = isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError))
        # SQLite calls a mistake in the statement "operational", too; Python tells by its code.
        passing = passing and getattr(cause, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
        why = f"{' '.join(str(cause).split())} ({where})"
        hint = "Is it up, and is its disk writable and not full?" if passing else ""
        super().__init__("Database", why, hint, retryable=passing)


class SqlStore:
    """`commands.request.Store`, and what the intake, the engine and the metrics need of the database."""

    def __init__(self, url: str, engines: Engines, clock: Clock) -> None:
        self.url = url
        self.where = sa.make_url(url).render_as_string(hide_password=True)
        self.engines = engines
        self._clock = clock
        self._thread = threading.local()
        self._turns = Turns()
        # SQLite has one writer, whoever it is; on PostgreSQL a webhook does not wait for the leader.
        self._intake_turns = self._turns if engines.writer.dialect.name == "sqlite" else nullcontext()

    @classmethod
    def open(cls, url: str, *, clock: Clock = lambda: datetime.now(UTC)) -> Self:
        """Opens the database and brings its tables up to date. Raises SourceError, ValueError for a strange URL."""
        try:
            engines = open_engines(url)
        except OSError as error:
            hint = "Is the volume mounted, and may this user write to it?"
            raise SourceError("Database", f"{error.filename}: {error.strerror}", hint) from error
        store = cls(url, engines, clock)
        try:
            migrate(engines.writer)
        except sa.exc.SQLAlchemyError as error:
            engines.dispose()
            raise StoreError(error, store.where) from error
        return store

    def close(self) -> None:
        self.engines.dispose()

    def write(self) -> AbstractContextManager[SqlTx]:
        """Writers follow one another, in this process and among the replicas: keep it short, and ask nobody in it."""
        return self._transaction(self.engines.writer, writes=True)

    def read(self) -> AbstractContextManager[SqlTx]:
        """One snapshot, which waits for nobody. A change in it is refused."""
        return self._transaction(self.engines.reader, writes=False)

    @contextmanager
    def _transaction(self, engine: sa.Engine, *, writes: bool) -> Iterator[SqlTx]:
        try:
            with self._only_one() if writes else nullcontext(), engine.begin() as connection:
                if writes:
                    lock_writers(connection)
                yield SqlTx(connection, self._clock)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(error, self.where) from error

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """A second writing transaction would wait for the first one, which its own thread holds."""
        if getattr(self._thread, "writes", False):
            raise RuntimeError("this thread has a writing transaction open: hand its tx on instead of opening another")
        self._thread.writes = True
        try:
            with self._turns:
                yield
        finally:
            self._thread.writes = False

    def depths(self) -> Mapping[str, int]:
        """How many rows wait for something, by what they are."""
        with self.read() as tx:
            return tx.depths()

    def in_turn(self) -> AbstractContextManager[object]:
        """Around a transaction on our writer that somebody else (the engine) begins and ends."""
        return self._only_one()

    def joined(self, connection: sa.Connection) -> SqlTx:
        """The subjects on such a transaction."""
        lock_writers(connection)
        return SqlTx(connection, self._clock)

    def take_in_webhooks(self, webhooks: Sequence[TakenIn]) -> int:
        """Many webhooks in one commit, beside the other writers. Returns how many alerts were not repeats."""
        try:
            with self._intake_turns, self.engines.writer.begin() as connection:
                return SqlTx(connection, self._clock).take_in_webhooks(webhooks)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(error, self.where) from error
