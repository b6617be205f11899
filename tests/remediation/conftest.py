from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.outbound.store import SqlStore
from tests.remediation.stage import Stage


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqlStore]:
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def stage(sqlite: SqlStore) -> Stage:
    return Stage(sqlite)
