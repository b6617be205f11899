"""What the bot has written down, read beside it: its database, opened read-only."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoredRound:
    number: int
    seconds: float
    probe_seconds: tuple[float, ...]
    failed: tuple[str, ...]  # steps without a reading, and why
    ended_at: float = 0.0  # seconds since 1970


class BotStore:
    """The SQLite database of a bot that runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "oncall.sqlite"

    def latest_incident(self) -> int:
        """0 if there is none."""
        return self._number("SELECT coalesce(max(number), 0) FROM incident")

    def opened_at(self, incident: int) -> float:
        """Seconds since 1970."""
        return self._number(f"SELECT opened_at FROM incident WHERE number = {incident:d}") / 1e6

    def is_open(self, incident: int) -> bool:
        return bool(self._number(f"SELECT count(*) FROM incident WHERE number = {incident:d} AND state = 'open'"))

    def rounds(self, incident: int) -> list[StoredRound]:
        """Those that ended, in order."""
        columns = "number, started_at, ended_at, observations"
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT {columns} FROM round WHERE incident = ? AND ended_at IS NOT NULL ORDER BY number", (incident,)
            ).fetchall()
        return [_round(*row) for row in rows]

    def alerts_waiting(self) -> int:
        """Taken in, and not triaged yet."""
        return self._number("SELECT count(*) FROM delivery")

    def oldest_word(self) -> float:
        """When the alert was told that was not told for the longest time; seconds since 1970, 0 without any."""
        return self._number("SELECT coalesce(min(received_at), 0) FROM alert") / 1e6

    def messages_waiting(self) -> int:
        return self._number("SELECT count(*) FROM thread_message WHERE ts IS NULL")

    def alerts_under_incidents(self) -> list[dict[str, str]]:
        """The labels of each."""
        with self._connection() as connection:
            rows = connection.execute("SELECT labels FROM incident_alert").fetchall()
        return [json.loads(labels) for (labels,) in rows]

    def cards(self) -> list[tuple[str, str | None]]:
        """Channel and ts of every incident's card, in the incidents' order; the ts is None while Slack lacks it."""
        query = "SELECT c.channel, c.ts FROM incident i LEFT JOIN card c ON c.incident = i.number ORDER BY i.number"
        with self._connection() as connection:
            return list(connection.execute(query).fetchall())

    def _number(self, query: str) -> int:
        with self._connection() as connection:
            return int(connection.execute(query).fetchone()[0])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)
        try:
            yield connection
        finally:
            connection.close()


def _round(number: int, started: int, ended: int, observations: str) -> StoredRound:
    """Times are whole microseconds."""
    seen = json.loads(observations)
    failed = tuple(f"{o['step']}: {o['error']}" for o in seen if o["error"] is not None)
    return StoredRound(number, (ended - started) / 1e6, tuple(o["seconds"] for o in seen), failed, ended / 1e6)
