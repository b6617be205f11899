"""What alembic runs: our migrations on the connection that `migrate` opened, in its transaction."""

from typing import Any

from alembic import context

from bot.outbound.store.engines import lock_migration
from bot.outbound.store.tables import metadata


def ours(_thing: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    """The engine keeps checkpoints in tables of its own, in our database: they are not for us to migrate."""
    return not (kind == "table" and name in ("datasource_outputs", "dbos_datasource_migrations"))


def run() -> None:
    connection = context.config.attributes["connection"]
    lock_migration(connection)
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=ours,
        render_as_batch=True,  # SQLite changes a column by making the table anew
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
