"""The tables as the first version had them. Written down here once more: a migration must not change with the code."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
AUTOINCREMENT = {"sqlite_autoincrement": True}


def upgrade() -> None:
    _what_came_in()
    _incidents()
    _remediation()
    _announce()
    _audit()


def downgrade() -> None:
    raise NotImplementedError("There is nothing before the first version: drop the database instead.")


def _what_came_in() -> None:
    op.create_table("alert", _text("fingerprint"), *_alert(), _key("alert", "fingerprint"))
    _index_due("alert", "status = 'firing'", "fingerprint")
    op.create_table("delivery", _id(), _text("fingerprint"), *_alert(), _key("delivery", "id"), **AUTOINCREMENT)
    op.create_table(
        "truncated_group",
        _id(),
        _text("group_key"),
        _text("receiver"),
        _integer("truncated"),
        _big("received_at"),
        _key("truncated_group", "id"),
        **AUTOINCREMENT,
    )
    op.create_table(
        "request",
        _id(),
        _text("key"),
        _text("kind"),
        _text("user"),
        _text("channel"),
        _json("payload"),
        _big("received_at"),
        _flag("done"),
        _key("request", "id"),
        sa.UniqueConstraint("key", name="uq_request_key"),
        **AUTOINCREMENT,
    )
    _index_due("request", "NOT done", "id")


def _incidents() -> None:
    op.create_table("incident_number", _integer("last"))
    op.create_table(
        "incident",
        _integer("number"),
        _text("state"),
        _text("severity"),
        _text("title"),
        _json("target"),
        _text("runbook", null=True),
        _text("channel"),
        _big("opened_at"),
        _big("began_at"),
        _json("alert_names"),
        _big("resolved_at", null=True),
        _text("resolution", null=True),
        _text("acked_by", null=True),
        _big("acked_at", null=True),
        _integer("flaps"),
        _integer("reminded"),
        _key("incident", "number"),
    )
    op.create_index("ix_incident_state_resolved_at", "incident", ["state", "resolved_at"])
    op.create_table(
        "incident_alert",
        _integer("incident"),
        _text("fingerprint"),
        *_alert(),
        _key("incident_alert", "incident", "fingerprint"),
        _of_incident("incident_alert"),
    )
    op.create_index("ix_incident_alert_fingerprint", "incident_alert", ["fingerprint"])
    op.create_table(
        "round",
        _integer("incident"),
        _integer("number"),
        _text("runbook"),
        _text("reason"),
        _big("due_at"),
        _big("started_at", null=True),
        _big("ended_at", null=True),
        _big("as_of", null=True),
        _text("asked_by", null=True),
        _json("signal", null=True),
        _json("observations"),
        _json("findings"),
        _text("error", null=True),
        _text("for_execution", null=True),
        _key("round", "incident", "number"),
        _of_incident("round"),
    )
    _index_due("round", "ended_at IS NULL", "due_at")


def _remediation() -> None:
    op.create_table(
        "proposal",
        _text("id"),
        _integer("incident"),
        _integer("number"),
        _text("action"),
        _json("params"),
        _text("risk"),
        _text("description"),
        _text("button"),
        _text("why"),
        _text("state"),
        _big("created_at"),
        _big("expires_at"),
        _text("service", null=True),
        _text("rule", null=True),
        _text("proposed_by"),
        _json("diff"),
        _json("before", null=True),
        _json("objections"),
        _text("blast_radius"),
        _text("undoes", null=True),
        _text("aborts", null=True),
        _big("pinned_until", null=True),
        _text("decided_by", null=True),
        _big("decided_at", null=True),
        _text("refusal", null=True),
        _big("started_at", null=True),
        _big("ended_at", null=True),
        _text("progress", null=True),
        _text("applied", null=True),
        _text("helped", null=True),
        _text("outcome", null=True),
        _key("proposal", "id"),
        _of_incident("proposal"),
        sa.UniqueConstraint("incident", "number", name="uq_proposal_incident_number"),
    )
    op.create_index("ix_proposal_state", "proposal", ["state"])
    op.create_index("ix_proposal_started_at", "proposal", ["started_at"])
    op.create_table(
        "approval",
        _id(),
        _text("proposal"),
        _text("user"),
        _big("at"),
        _text("break_glass_reason", null=True),
        _key("approval", "id"),
        sa.ForeignKeyConstraint(["proposal"], ["proposal.id"], name="fk_approval_proposal"),
        sa.UniqueConstraint("proposal", "user", name="uq_approval_proposal_user"),
    )
    op.create_table(
        "manual",
        _id(),
        _integer("incident"),
        _text("rule"),
        _text("action"),
        _text("text"),
        _text("command", null=True),
        _text("reason"),
        _key("manual", "id"),
        _of_incident("manual"),
    )
    op.create_index("ix_manual_incident", "manual", ["incident"])
    op.create_table(
        "change_freeze",
        _id(),
        _text("user"),
        _text("reason"),
        _big("at"),
        _big("lifted_at", null=True),
        _text("lifted_by", null=True),
        _key("change_freeze", "id"),
    )


def _announce() -> None:
    op.create_table(
        "card",
        _integer("incident"),
        _text("channel"),
        _text("ts", null=True),
        _text("shown", null=True),
        _big("attempted_at", null=True),
        _integer("mark"),
        _big("stale_since", null=True),
        _key("card", "incident"),
        _of_incident("card"),
    )
    _index_due("card", "stale_since IS NOT NULL", "stale_since")
    op.create_table(
        "thread_message",
        _id(),
        _integer("incident"),
        _text("key"),
        _json("report"),
        _text("mention", null=True),
        _text("picture", null=True),
        _flag("broadcast"),
        _big("attempted_at", null=True),
        _text("ts", null=True),
        _key("thread_message", "id"),
        _of_incident("thread_message"),
        sa.UniqueConstraint("incident", "key", name="uq_thread_message_incident_key"),
        **AUTOINCREMENT,
    )
    _index_due("thread_message", "ts IS NULL", "incident", "id")
    op.create_table(
        "whisper",
        _id(),
        _text("channel"),
        _text("user"),
        _json("report"),
        _big("created_at"),
        _big("attempted_at", null=True),
        _key("whisper", "id"),
        **AUTOINCREMENT,
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", ROW_ID, nullable=False, autoincrement=False),
        _text("previous"),
        _text("hash"),
        _big("at"),
        _text("actor"),
        _text("action"),
        _text("subject"),
        _json("detail"),
        _key("audit", "sequence"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])


def _alert() -> tuple[sa.Column[Any], ...]:
    return (
        _text("status"),
        _json("labels"),
        _json("annotations"),
        _text("starts_at"),
        _text("ends_at"),
        _text("generator_url"),
        _big("received_at"),
    )


def _id() -> sa.Column[Any]:
    return sa.Column("id", ROW_ID, nullable=False, autoincrement=True)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False, autoincrement=False)


def _big(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=null)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _of_incident(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["incident"], ["incident.number"], name=f"fk_{table}_incident")


def _index_due(table: str, condition: str, *columns: str) -> None:
    where = sa.text(condition)
    op.create_index(f"ix_{table}_due", table, list(columns), sqlite_where=where, postgresql_where=where)
