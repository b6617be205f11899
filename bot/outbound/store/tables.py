"""The tables. One that keeps a dataclass has a column per field, of the same name; `tests/.../test_tables.py` compares.

Ids are never given out twice (AUTOINCREMENT on SQLite): they are the markers by which messages are found in Slack.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from bot.commands.request import RequestKind
from bot.incidents.alert import AlertStatus
from bot.incidents.incident import IncidentState, RoundReason, SignalReading, Target
from bot.incidents.judge import Finding, Observation
from bot.outbound.store.columns import Json, Moment, RowId, Word
from bot.ports import Risk
from bot.remediation.proposal import Applied, DiffLine, Helped, ProposalState
from bot.report import Report
from bot.runbook.schema import Severity

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Texts = Mapping[str, str]


def _id() -> sa.Column[int]:
    return sa.Column("id", RowId, primary_key=True, autoincrement=True)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _moment(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Moment, nullable=null)


def _of_incident(*, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column("incident", sa.ForeignKey("incident.number"), primary_key=primary_key, nullable=False)


def _alert_columns() -> tuple[sa.Column[Any], ...]:
    """An Alert but for its fingerprint, whose part in the key differs from table to table."""
    return (
        sa.Column("status", Word(AlertStatus), nullable=False),
        sa.Column("labels", Json(Texts), nullable=False),
        sa.Column("annotations", Json(Texts), nullable=False),
        _text("starts_at"),
        _text("ends_at"),
        _text("generator_url"),
        _moment("received_at"),
    )


def _index_where(table: sa.Table, condition: str, *columns: str) -> None:
    """An index over the few rows that are still due, however many are past."""
    name = f"ix_{table.name}_due"
    sa.Index(name, *(table.c[c] for c in columns), sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


# ------------------------------------------------------------------------------------------------------- what came in

# What was last told of every alert; `received_at` is the last time it was told, be it a repeat.
alert = sa.Table("alert", metadata, sa.Column("fingerprint", sa.Text, primary_key=True), *_alert_columns())
_index_where(alert, "status = 'firing'", "fingerprint")

# Rows leave when they are triaged, and when their group was asked for.
delivery = sa.Table("delivery", metadata, _id(), _text("fingerprint"), *_alert_columns(), sqlite_autoincrement=True)
truncated_group = sa.Table(
    "truncated_group",
    metadata,
    _id(),
    _text("group_key"),
    _text("receiver"),
    sa.Column("truncated", sa.Integer, nullable=False),
    _moment("received_at"),
    sqlite_autoincrement=True,
)

request = sa.Table(
    "request",
    metadata,
    _id(),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("kind", Word(RequestKind), nullable=False),
    _text("user"),
    _text("channel"),
    sa.Column("payload", Json(Mapping[str, Any]), nullable=False),
    _moment("received_at"),
    sa.Column("done", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)
REQUEST_IS_DUE = "NOT done"  # in these words: SQLite would not see that its index serves "done = 0"
_index_where(request, REQUEST_IS_DUE, "id")

# ---------------------------------------------------------------------------------------------------------- incidents

# One row: the last number given out.
incident_number = sa.Table("incident_number", metadata, sa.Column("last", sa.Integer, nullable=False))

incident = sa.Table(
    "incident",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", Word(IncidentState), nullable=False),
    sa.Column("severity", Word(Severity), nullable=False),
    _text("title"),
    sa.Column("target", Json(Target), nullable=False),
    _text("runbook", null=True),
    _text("channel"),
    _moment("opened_at"),
    _moment("began_at"),
    sa.Column("alert_names", Json(tuple[str, ...]), nullable=False),
    _moment("resolved_at", null=True),
    _text("resolution", null=True),
    _text("acked_by", null=True),
    _moment("acked_at", null=True),
    sa.Column("flaps", sa.Integer, nullable=False),
    sa.Column("reminded", sa.Integer, nullable=False),
    _moment("reopened_at", null=True),
    sa.Index("ix_incident_state_resolved_at", "state", "resolved_at"),
)

incident_alert = sa.Table(
    "incident_alert",
    metadata,
    _of_incident(primary_key=True),
    sa.Column("fingerprint", sa.Text, primary_key=True),
    *_alert_columns(),
    sa.Index("ix_incident_alert_fingerprint", "fingerprint"),
)

round = sa.Table(
    "round",
    metadata,
    _of_incident(primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    _text("runbook"),
    sa.Column("reason", Word(RoundReason), nullable=False),
    _moment("due_at"),
    _moment("started_at", null=True),
    _moment("ended_at", null=True),
    _moment("as_of", null=True),
    _text("asked_by", null=True),
    sa.Column("signal", Json(SignalReading), nullable=True),
    sa.Column("observations", Json(tuple[Observation, ...]), nullable=False),
    sa.Column("findings", Json(tuple[Finding, ...]), nullable=False),
    _text("error", null=True),
    _text("for_execution", null=True),
)
_index_where(round, "ended_at IS NULL", "due_at")

# -------------------------------------------------------------------------------------------------------- remediation

proposal = sa.Table(
    "proposal",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _of_incident(),
    sa.Column("number", sa.Integer, nullable=False),
    _text("action"),
    sa.Column("params", Json(Mapping[str, Any]), nullable=False),
    sa.Column("risk", Word(Risk), nullable=False),
    _text("description"),
    _text("button"),
    _text("why"),
    sa.Column("state", Word(ProposalState), nullable=False),
    _moment("created_at"),
    _moment("expires_at"),
    _text("service", null=True),
    _text("rule", null=True),
    _text("proposed_by"),
    sa.Column("diff", Json(tuple[DiffLine, ...]), nullable=False),
    sa.Column("before", Json(Mapping[str, Any]), nullable=True),
    sa.Column("objections", Json(tuple[str, ...]), nullable=False),
    _text("blast_radius"),
    _text("undoes", null=True),
    _text("aborts", null=True),
    _moment("pinned_until", null=True),
    _text("decided_by", null=True),
    _moment("decided_at", null=True),
    _text("refusal", null=True),
    _moment("started_at", null=True),
    _moment("ended_at", null=True),
    _text("progress", null=True),
    sa.Column("applied", Word(Applied), nullable=True),
    sa.Column("helped", Word(Helped), nullable=True),
    _text("outcome", null=True),
    sa.UniqueConstraint("incident", "number"),
    sa.Index("ix_proposal_state", "state"),
    sa.Index("ix_proposal_started_at", "started_at"),
)

approval = sa.Table(
    "approval",
    metadata,
    _id(),
    sa.Column("proposal", sa.ForeignKey("proposal.id"), nullable=False),
    _text("user"),
    _moment("at"),
    _text("break_glass_reason", null=True),
    sa.UniqueConstraint("proposal", "user"),
)

manual = sa.Table(
    "manual",
    metadata,
    _id(),
    _of_incident(),
    _text("rule"),
    _text("action"),
    _text("text"),
    _text("command", null=True),
    _text("reason"),
    sa.Index("ix_manual_incident", "incident"),
)

change_freeze = sa.Table(
    "change_freeze",
    metadata,
    _id(),
    _text("user"),
    _text("reason"),
    _moment("at"),
    _moment("lifted_at", null=True),
    _text("lifted_by", null=True),
)

# ----------------------------------------------------------------------------------------------------------- announce

card = sa.Table(
    "card",
    metadata,
    _of_incident(primary_key=True),
    _text("channel"),
    _text("ts", null=True),
    _text("shown", null=True),
    _moment("attempted_at", null=True),
    sa.Column("mark", sa.Integer, nullable=False),
    _moment("stale_since", null=True),  # the oldest mark that Slack does not show
)
_index_where(card, "stale_since IS NOT NULL", "stale_since")

thread_message = sa.Table(
    "thread_message",
    metadata,
    _id(),
    _of_incident(),
    _text("key"),
    sa.Column("report", Json(Report), nullable=False),
    _text("mention", null=True),
    _text("picture", null=True),
    sa.Column("broadcast", sa.Boolean, nullable=False),
    _moment("attempted_at", null=True),
    _text("ts", null=True),
    sa.UniqueConstraint("incident", "key"),
    sqlite_autoincrement=True,
)
_index_where(thread_message, "ts IS NULL", "incident", "id")

# Rows leave when they are sent.
whisper = sa.Table(
    "whisper",
    metadata,
    _id(),
    _text("channel"),
    _text("user"),
    sa.Column("report", Json(Report), nullable=False),
    _moment("created_at"),
    _moment("attempted_at", null=True),
    sqlite_autoincrement=True,
)

# -------------------------------------------------------------------------------------------------------------- audit

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("sequence", RowId, primary_key=True, autoincrement=False),
    _text("previous"),
    _text("hash"),
    _moment("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    sa.Column("detail", Json(Mapping[str, Any]), nullable=False),
    sa.Index("ix_audit_subject", "subject"),
)
