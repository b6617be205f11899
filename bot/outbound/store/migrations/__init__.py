"""Brings the tables of a database up to date, from whatever version it is at; several replicas may do it at once."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def migrate(engine: sa.Engine) -> None:
    """On our writer: SQLite's write lock (or the lock taken in env.py) makes the second replica find nothing to do."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
