import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from bot.outbound.store.columns import Json, Moment, RowId, Word
from bot.report import Note, Report
from bot.runbook.schema import Severity

things = sa.Table(
    "thing",
    sa.MetaData(),
    sa.Column("id", RowId, primary_key=True),
    sa.Column("at", Moment),
    sa.Column("severity", Word(Severity)),
    sa.Column("report", Json(Report)),
)


def stored(store: Any, **values: Any) -> tuple[Any, Any]:
    """The row as our types read it, and as it lies there."""
    with store.engines.writer.begin() as connection:
        things.create(connection)
        connection.execute(sa.insert(things).values(**values))
        ours = connection.execute(sa.select(things)).one()
        theirs = connection.execute(sa.text("SELECT at, severity, CAST(report AS text) AS report FROM thing")).one()
    return ours, theirs


def test_a_time_is_whole_microseconds_and_comes_back_in_utc(store):
    at = datetime(2026, 11, 24, 2, 7, 0, 123456, tzinfo=UTC)
    ours, theirs = stored(store, at=at)
    assert ours.at == at and ours.at.tzinfo is UTC
    assert theirs.at == 1795486020123456


def test_a_member_of_a_closed_set_is_its_word(store):
    ours, theirs = stored(store, severity=Severity.CRITICAL)
    assert ours.severity is Severity.CRITICAL
    assert theirs.severity == "critical"


def test_a_value_with_parts_is_json_that_may_hold_a_nul(store):
    report = Report("queue long", (Note("log: \x00"),))
    ours, theirs = stored(store, report=report)
    assert ours.report == report
    assert json.loads(theirs.report)["text"] == "queue long"


def test_what_is_not_known_stays_null(store):
    ours, theirs = stored(store)
    assert (ours.at, ours.severity, ours.report) == (None, None, None)
    assert tuple(theirs) == (None, None, None)
