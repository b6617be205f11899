"""One engine that writes and one that reads, for each of the two databases, set up so that nothing is lost.

Writers follow one another on both: SQLite by BEGIN IMMEDIATE, PostgreSQL by an advisory lock that a writing
transaction takes first. So a check and the write that rests on it (the guard, the audit chain, a proposal's move) are
one thing, without isolation errors to retry.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

# Advisory locks, beside the leader's (see `outbound/lock.py`): namespace of this project, then the purpose.
NAMESPACE = 7305
_WRITERS, _INTAKE, _MIGRATION = 2, 3, 4

# Sooner than a frozen replica is replaced: its open transaction holds the writers' lock.
_PG_OPTIONS = "-c idle_in_transaction_session_timeout=8000 -c statement_timeout=30000 -c lock_timeout=20000"
_PG_CONNECT = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "vllm-oncall"}
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Engines:
    writer: sa.Engine
    reader: sa.Engine

    def dispose(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def open_engines(url: str) -> Engines:
    """Raises ValueError for a URL that names neither an SQLite file nor a PostgreSQL database."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        sqlite_file(url).parent.mkdir(parents=True, exist_ok=True)
        # One connection: writers follow one another in this process (`turns`) instead of polling the file's lock.
        writer = _sqlite(url, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0, pool_timeout=120)
        return Engines(writer, _sqlite(url, "BEGIN", read_only=True, pool_size=8, max_overflow=32))
    if parsed.get_backend_name() == "postgresql":
        connect = {**_PG_CONNECT, "options": _PG_OPTIONS}
        # READ COMMITTED behind the writers' lock: each statement sees all that the writers before committed.
        options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": connect, "json_serializer": _json}
        writer = sa.create_engine(url, isolation_level="READ COMMITTED", **options)
        reader = sa.create_engine(url, isolation_level="REPEATABLE READ", **options)
        return Engines(writer, reader.execution_options(postgresql_readonly=True))
    raise ValueError(f"database_url must begin with sqlite:/// or postgresql://, not {parsed.drivername}://")


def sqlite_file(url: str) -> Path:
    """Raises ValueError for a database in memory: a crash would lose it, and a second connection would not see it."""
    name = sa.make_url(url).database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise ValueError("database_url must name a file: sqlite:////var/lib/vllm-oncall/oncall.sqlite")
    return Path(name)


def _json(value: Any) -> str:
    """Three times as fast as json.dumps: a storm is mostly labels."""
    return _JSON.dump_json(value).decode()


def lock_writers(connection: sa.Connection) -> None:
    """First in every writing transaction."""
    _lock(connection, _WRITERS)


def lock_intake(connection: sa.Connection) -> None:
    """Apart from the writers' lock, so that a webhook does not wait for the leader. Taken after it, never before."""
    _lock(connection, _INTAKE)


def lock_migration(connection: sa.Connection) -> None:
    """Replicas start together: the second waits, and then finds nothing to do."""
    _lock(connection, _MIGRATION)


def _lock(connection: sa.Connection, purpose: int) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:ns, :key)"), {"ns": NAMESPACE, "key": purpose})


def _sqlite(url: str, begin: str, *, read_only: bool = False, **pool: int) -> sa.Engine:
    engine = sa.create_engine(url, json_serializer=_json, **pool)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver would begin a transaction only before the first change: what was read before it is not protected.
        connection.isolation_level = None
        # WAL: readers do not wait for the writer. FULL: what was committed survives the loss of power.
        for pragma in ("journal_mode=wal", "synchronous=full", "busy_timeout=30000", "foreign_keys=on"):
            connection.execute(f"PRAGMA {pragma}")
        # Of each connection; SQLite's own is 2 MB, for some forty of them. What is read often is in the file cache.
        connection.execute("PRAGMA cache_size=-256" if read_only else "PRAGMA cache_size=-2000")
        if read_only:
            # A change begun from a read snapshot fails as "database is locked" whatever the timeout: say it plainly.
            connection.execute("PRAGMA query_only=on")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
