from dataclasses import fields

import pytest

from bot.audit import AuditEntry
from bot.commands.request import Request
from bot.incidents.alert import Alert, Truncation
from bot.incidents.incident import Incident, Round, ThreadMessage
from bot.outbound.store import tables
from bot.remediation.proposal import Approval, Manual, Proposal

KEPT = [
    (tables.alert, Alert, set()),
    (tables.delivery, Alert, {"id"}),
    (tables.truncated_group, Truncation, {"id"}),
    (tables.request, Request, {"done"}),
    (tables.incident, Incident, set()),
    (tables.incident_alert, Alert, {"incident"}),
    (tables.round, Round, set()),
    (tables.proposal, Proposal, {"id"}),
    (tables.approval, Approval, {"id"}),
    (tables.manual, Manual, {"id"}),
    (tables.thread_message, ThreadMessage, {"id", "attempted_at", "ts"}),
    (tables.audit, AuditEntry, {"sequence", "previous", "hash"}),
]


@pytest.mark.parametrize(("table", "kind", "further"), KEPT, ids=lambda x: getattr(x, "name", None))
def test_a_table_has_a_column_for_each_field_and_none_by_chance(table, kind, further):
    assert {c.name for c in table.c} == {f.name for f in fields(kind)} | further


@pytest.mark.parametrize(("table", "kind", "further"), KEPT, ids=lambda x: getattr(x, "name", None))
def test_a_field_that_may_be_unknown_is_a_column_that_may_be_null(table, kind, further):
    optional = {f.name for f in fields(kind) if "None" in str(f.type)}
    assert {c.name for c in table.c if c.nullable} - further == optional
