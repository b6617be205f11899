import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bot.outbound.store import SqlStore
from bot.outbound.store.engines import open_engines
from bot.outbound.store.tables import metadata

ROOT = Path(__file__).parents[4]


def test_migrating_yields_exactly_the_tables_of_the_code(store):
    with store.engines.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_yields_the_same_schema_as_creating_the_tables_would(store, database_url, tmp_path, request):
    """Partial indexes, names and AUTOINCREMENT, which alembic does not compare."""
    if database_url.startswith("sqlite"):
        other = open_engines(f"sqlite:///{tmp_path}/created.sqlite")
    else:
        other = open_engines(request.getfixturevalue("postgres").create_database(f"created_{id(store)}"))
    with other.writer.begin() as connection:
        metadata.create_all(connection)
    assert schema(store.engines.reader) == schema(other.reader)
    other.dispose()


def schema(engine: sa.Engine) -> set[str]:
    if engine.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name != 'alembic_version'"
        with engine.connect() as connection:
            return {statement(sql) for sql in connection.execute(sa.text(query)).scalars()}
    query = """
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename != 'alembic_version'
        UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text != 'alembic_version'
        UNION ALL SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' ||
            coalesce(column_default, '') FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name != 'alembic_version'"""
    with engine.connect() as connection:
        return set(connection.execute(sa.text(query)).scalars())


def statement(sql: str) -> str:
    """A table's parts in one order: constraints may be declared before or after one another."""
    head, _, body = " ".join(sql.split()).partition(" (")
    return head + " (" + ", ".join(sorted(part.strip() for part in body.removesuffix(")").split(",")))


def test_replicas_that_start_together_migrate_once(database_url):
    program = "import sys; from bot.outbound.store import SqlStore; SqlStore.open(sys.argv[1]).close()"
    replicas = [subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT) for _ in range(3)]
    assert [replica.wait(60) for replica in replicas] == [0, 0, 0]


def test_a_second_start_finds_nothing_to_do_and_keeps_the_rows(database_url):
    first = SqlStore.open(database_url)
    with first.write() as tx:
        assert tx.new_incident_number() == 1
    first.close()
    second = SqlStore.open(database_url)
    with second.write() as tx:
        assert tx.new_incident_number() == 2
    second.close()
