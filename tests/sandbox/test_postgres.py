import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from sandbox.postgres import Postgres


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM seen").fetchone()
        assert row is not None
        return int(row[0])


def insert(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS seen (id int)")
        connection.execute("INSERT INTO seen VALUES (1)")


def refusal(url: str) -> str:
    """What a client is told: nothing, if it gets in."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


@pytest.fixture
def server(tmp_path):
    with Postgres(tmp_path) as server:
        yield server


@pytest.mark.parametrize("end", ["stop", "stop_immediate", "kill"])
def test_what_was_committed_is_there_after(server: Postgres, end: str):
    url = server.create_database("bot")
    insert(url)
    getattr(server, end)()
    server.start()
    assert count(url) == 1


def test_stopping_does_not_wait_for_clients_to_leave(server: Postgres):
    with psycopg.connect(server.url) as connection:
        server.stop()
        assert not server.part.alive
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_wrong_password_is_refused(postgres: Postgres):
    host = postgres.url.partition("@")[2]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@{host}")


def test_each_test_gets_an_empty_database(postgres_url: str, postgres: Postgres):
    insert(postgres_url)
    assert count(postgres_url) == 1
    with pytest.raises(psycopg.errors.UndefinedTable):
        count(postgres.url)


def test_it_is_gone_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from sandbox.postgres import Postgres\n"
        "server = Postgres(pathlib.Path(sys.argv[1])).start()\n"
        "print(server.url, server.data, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    url, data = parent.stdout.readline().split()
    psycopg.connect(url).close()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while "refused" not in (said := refusal(url)):
        assert time.monotonic() < deadline, f"it still answers: {said or 'with a connection'}"
        time.sleep(0.05)
    shutil.rmtree(Path(data).parent)  # nobody was left to do it
