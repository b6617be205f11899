"""What all subjects of the store share: dataclasses to rows and back, insert-or-update on both databases."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")


class Clock(Protocol):
    def __call__(self) -> datetime: ...


class Rows:
    """One transaction's connection, and the subjects' methods on it."""

    def __init__(self, connection: sa.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock  # for order alone (the oldest mark first): what is stored as a fact gets its time passed in

    def _one(self, kind: type[T], query: sa.Select[Any]) -> T | None:
        row = self._connection.execute(query).mappings().first()
        return None if row is None else value_of(kind, row)

    def _all(self, kind: type[T], query: sa.Select[Any]) -> tuple[T, ...]:
        return tuple(value_of(kind, row) for row in self._connection.execute(query).mappings())

    def _upsert(self, table: sa.Table, row: Mapping[str, Any], key: Sequence[str]) -> None:
        self._connection.execute(upsert(self._connection, table, key), row)


def row_of(value: Any) -> dict[str, Any]:
    """Field by field, not deeper: the columns' types know what to do with the parts."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def value_of(kind: type[T], row: Mapping[Any, Any]) -> T:
    return kind(**{f.name: row[f.name] for f in fields(kind)})  # type: ignore[arg-type]


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT; the two dialects spell it alike, in classes of their own."""
    return _insert(connection.dialect.name, table)


def _insert(dialect: str, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def upsert(connection: sa.Connection, table: sa.Table, key: Sequence[str]) -> sa.Executable:
    return _upsert(connection.dialect.name, table, tuple(key))


@cache
def _upsert(dialect: str, table: sa.Table, key: tuple[str, ...]) -> sa.Executable:
    """Kept: to put it together takes longer than to execute it."""
    statement = _insert(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(key), set_={c.name: statement.excluded[c.name] for c in table.c if c.name not in key}
    )


def insert_unless_there(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], key: Sequence[str]) -> bool:
    """False if a row with this key was there already."""
    statement = insert(connection, table).values(**row).on_conflict_do_nothing(index_elements=list(key))
    return connection.execute(statement.returning(table.c[key[0]])).first() is not None


def in_chunks(items: Sequence[T], size: int = 500) -> Iterable[Sequence[T]]:
    """Databases limit the number of parameters of one statement."""
    return (items[i : i + size] for i in range(0, len(items), size))
