import sqlalchemy as sa

from bot.outbound.store.migrations.versions import v0001_initial


def test_it_is_the_first_and_makes_the_tables(store):
    assert v0001_initial.down_revision is None
    with store.engines.reader.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
    assert {"alert", "delivery", "incident", "round", "proposal", "card", "thread_message", "audit"} <= tables
