import sqlalchemy as sa

from bot.outbound.store import tables
from bot.outbound.store.rows import in_chunks, insert_unless_there, row_of, upsert, value_of
from bot.remediation.proposal import Manual
from tests.fixtures_store import NOW

MANUAL = Manual(1, "rule", "drain_node", "Drain gpu-03", None, "not a button yet")


def test_a_value_is_its_fields_and_the_other_way_round():
    assert value_of(Manual, {**row_of(MANUAL), "id": 3}) == MANUAL


def test_chunks_leave_nothing_out():
    assert [list(c) for c in in_chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([], 2)) == []


def test_a_row_with_a_known_key_is_left_as_it_is(store):
    row = {"group_key": "g", "receiver": "r", "truncated": 1, "received_at": NOW, "id": 1}
    with store.engines.writer.begin() as connection:
        assert insert_unless_there(connection, tables.truncated_group, row, ["id"]) is True
        assert insert_unless_there(connection, tables.truncated_group, {**row, "truncated": 2}, ["id"]) is False
        assert connection.execute(sa.select(tables.truncated_group.c.truncated)).scalar_one() == 1


def test_an_upsert_replaces_all_but_the_key(store):
    row = {"group_key": "g", "receiver": "r", "truncated": 1, "received_at": NOW, "id": 1}
    with store.engines.writer.begin() as connection:
        for truncated in (1, 2):
            statement = upsert(connection, tables.truncated_group, ["id"])
            connection.execute(statement, {**row, "truncated": truncated})
        assert connection.execute(sa.select(tables.truncated_group.c.truncated)).scalars().all() == [2]
