"""How a value becomes a column: times are integer microseconds (UTC), closed sets are their words, what has parts is
JSON."""

import enum
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from bot.outbound.store.codec import coder, microseconds, moment


class Moment(TypeDecorator[datetime]):
    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else moment(value)


class Word(TypeDecorator[enum.Enum]):
    """A member of an Enum, stored as its value."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: enum.Enum | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value.value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> enum.Enum | None:
        return None if value is None else self.kind(value)


class Json(TypeDecorator[Any]):
    """A value of the type `hint`. Not jsonb: what was written comes back to the letter, and a log may hold a NUL."""

    impl = sa.JSON
    cache_ok = True

    def __init__(self, hint: Any) -> None:
        super().__init__(none_as_null=True)
        self.hint = hint
        self._coder = coder(hint)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else self._coder.encode(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else self._coder.decode(value)


# SQLite makes row ids only of INTEGER; elsewhere 2^31 deliveries are a few years of a storm.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
