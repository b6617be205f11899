from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from bot.outbound.store import SqlStore, migrations
from bot.outbound.store.engines import open_engines
from bot.outbound.store.migrations.versions import v0001_initial, v0002_reopened_at
from tests.fixtures_store import an_incident


def test_an_incident_of_the_first_version_is_kept_and_it_is_not_known_whether_it_was_reopened(database_url):
    old = open_engines(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with old.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, v0001_initial.revision)
        columns = "number, state, severity, title, target, channel, opened_at, began_at, alert_names, flaps, reminded"
        values = "1, 'open', 'critical', 't', '{\"service\": \"chat-70b\"}', 'C0', 0, 0, '[]', 2, 0"
        connection.exec_driver_sql(f"INSERT INTO incident ({columns}) VALUES ({values})")
    old.dispose()
    store = SqlStore.open(database_url)
    with store.read() as tx:
        (kept,) = tx.open_incidents()
    assert (kept.target.service, kept.flaps, kept.reopened_at) == ("chat-70b", 2, None)
    store.close()


def test_it_is_the_version_that_a_database_has(store):
    assert v0002_reopened_at.down_revision == v0001_initial.revision
    with store.engines.reader.connect() as connection:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
    assert version == v0002_reopened_at.revision
    again = an_incident(reopened_at=an_incident().opened_at)
    with store.write() as tx:
        tx.save_incident(again)
        assert tx.incident(1) == again
