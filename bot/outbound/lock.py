"""The lock whose holder leads, and how its loss ends the process.

On PostgreSQL it is a session's advisory lock: the server gives it to the next one when the session ends, also when it
was idle for LEASE seconds, since a frozen process keeps its TCP connection for ever. Before that time is over the
process knows that it can no longer be sure, and exits; it does not try to clean up, since others lead by then.
"""

import fcntl
import os
import select
import threading
import time
from pathlib import Path
from typing import NoReturn, Protocol

import psycopg
import structlog

from bot.outbound.store.engines import NAMESPACE, sqlite_file

_log = structlog.get_logger(__name__)

LOST = 3  # exit code
LEASE_SECONDS = 8.0
PING_SECONDS = 1.0
_LOOK_SECONDS = 0.4  # how often who waits asks again
_SURE_SECONDS = LEASE_SECONDS - 2  # so long after a ping was sent, the server still holds the session
_LEADER = 1  # advisory key, in our namespace
_LOG_PAUSE_SECONDS = 30


class LeaderLock(Protocol):
    def acquire(self, stopped: threading.Event) -> bool: ...
    def check(self) -> None:
        """Before every change to the outside world: returns only if this process leads."""
        ...

    def release(self) -> None: ...


def lock_for(database_url: str) -> LeaderLock:
    if database_url.startswith("sqlite"):
        file = sqlite_file(database_url)
        return FileLock(file.with_name(file.name + ".lock"))
    return PostgresLock(database_url)


class FileLock:
    """Beside the SQLite file. The kernel holds it for as long as the process lives, frozen or not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, stopped: threading.Event) -> bool:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        waits = False
        while (file := self._try()) is None:
            if not waits:
                _log.info("another process leads; this one waits", lock=str(self._path))
                waits = True
            if stopped.wait(_LOOK_SECONDS):
                return False
        self._file = file
        return True

    def _try(self) -> int | None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if not self._is_at_its_place(file):
            os.close(file)
            return None
        return file

    def _is_at_its_place(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        if self._file is None:
            _end("asked to change something without leading")
        if not self._is_at_its_place(self._file):
            _end(f"the lock file {self._path} was removed, so another process may lead")

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class PostgresLock:
    """Does not work through a PgBouncer in transaction mode: a session must stay a session."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._session: psycopg.Connection | None = None
        self._sure_at: float | None = None  # when the last ping that was answered was sent; None: does not lead
        self._released = threading.Event()
        self._logged_at = float("-inf")

    def acquire(self, stopped: threading.Event) -> bool:
        while not stopped.is_set():
            try:
                session = self._wait_in_session(stopped)
            except psycopg.Error as error:
                self._log_why("the database does not let this process wait for the lock", error)
                stopped.wait(PING_SECONDS)
                continue
            if session is not None:
                self._session = session
                for watch in (self._ping, self._watch):
                    threading.Thread(target=watch, args=(session,), daemon=True, name=f"lock{watch.__name__}").start()
                return True
        return False

    def _wait_in_session(self, stopped: threading.Event) -> psycopg.Connection | None:
        options = f"-c idle_session_timeout={int(LEASE_SECONDS * 1000)} -c statement_timeout=5000"  # PostgreSQL >= 14
        session = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            tcp_user_timeout=5000,
            options=options,
            application_name="vllm-oncall leader",
        )
        try:
            while not stopped.is_set():
                asked = time.monotonic()
                row = session.execute("SELECT pg_try_advisory_lock(%s, %s)", (NAMESPACE, _LEADER)).fetchone()
                if row is not None and row[0]:
                    self._sure_at = asked
                    return session
                self._log_why("another process leads; this one waits")
                stopped.wait(_LOOK_SECONDS)
        except BaseException:
            session.close()
            raise
        session.close()
        return None

    def check(self) -> None:
        if self._sure_at is None or self._released.is_set():
            _end("asked to change something without leading")
        self._end_unless_sure(self._sure_at)

    def release(self) -> None:
        """The next one leads at once. For the end of the process: a lock is not taken twice."""
        self._released.set()
        if self._session is not None:
            self._session.close()

    def _ping(self, session: psycopg.Connection) -> None:
        while not self._released.wait(PING_SECONDS):
            sent = time.monotonic()
            try:
                session.execute("SELECT 1")
            except psycopg.Error as error:
                if not self._released.is_set():
                    _end(f"its session with the database ended: {' '.join(str(error).split())}")
                return
            self._sure_at = sent

    def _watch(self, _session: psycopg.Connection) -> None:
        """A ping that hangs does not come back to say so."""
        while not self._released.wait(0.25):
            if self._sure_at is not None:
                self._end_unless_sure(self._sure_at)

    def _end_unless_sure(self, sure_at: float) -> None:
        silent = time.monotonic() - sure_at
        if silent > _SURE_SECONDS:
            _end(f"the database has not answered for {silent:.1f} s, so another process may lead")

    def _log_why(self, event: str, error: psycopg.Error | None = None) -> None:
        now = time.monotonic()
        if now - self._logged_at < _LOG_PAUSE_SECONDS:
            return
        self._logged_at = now
        if error is None:
            _log.info(event)
        else:
            _log.warning(event, why=" ".join(str(error).split()))


def _end(why: str) -> NoReturn:
    """At once: no handler, no clean-up, and no log that might block. What matters is in the store already."""
    try:
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"This process leads no longer and ends: {why}.\n".encode())
    finally:
        os._exit(LOST)
