import threading
import time

import pytest
import sqlalchemy as sa

from bot.outbound.store.engines import lock_intake, lock_writers, open_engines, sqlite_file


def test_a_url_of_another_database_is_refused_in_words():
    with pytest.raises(ValueError, match="must begin with sqlite:/// or postgresql://"):
        open_engines("mysql://root@127.0.0.1/oncall")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(url):
    with pytest.raises(ValueError, match="must name a file"):
        sqlite_file(url)


def test_the_folder_of_the_file_is_made(tmp_path):
    engines = open_engines(f"sqlite:///{tmp_path}/var/lib/oncall.sqlite")
    with engines.writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
    engines.dispose()
    assert (tmp_path / "var/lib/oncall.sqlite").exists()


@pytest.mark.parametrize("which", ["writer", "reader"])
def test_sqlite_syncs_every_commit_and_keeps_readers_apart_from_the_writer(tmp_path, which):
    engine = getattr(open_engines(f"sqlite:///{tmp_path}/oncall.sqlite"), which)
    with engine.connect() as connection:
        asked = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar_one() for p in ("journal_mode", "synchronous")}
    engine.dispose()
    assert asked == {"journal_mode": "wal", "synchronous": 2}


def test_reading_never_writes(store):
    with store.engines.reader.connect() as connection, pytest.raises(sa.exc.DBAPIError, match=r"read-?only"):
        connection.execute(sa.text("DELETE FROM incident"))


def test_a_reader_does_not_wait_for_the_writer_and_sees_one_snapshot(store):
    with store.engines.writer.begin() as writing:
        lock_writers(writing)
        writing.execute(sa.text("INSERT INTO incident_number VALUES (7)"))
        started = time.monotonic()
        with store.engines.reader.connect() as reading:
            assert reading.execute(sa.text("SELECT count(*) FROM incident_number")).scalar_one() == 0
        assert time.monotonic() - started < 1
    with store.engines.reader.connect() as reading:
        assert reading.execute(sa.text("SELECT last FROM incident_number")).scalar_one() == 7
        with store.engines.writer.begin() as writing:
            writing.execute(sa.text("UPDATE incident_number SET last = 8"))
        assert reading.execute(sa.text("SELECT last FROM incident_number")).scalar_one() == 7


def test_writers_follow_one_another(store):
    order: list[str] = []
    first_is_in = threading.Event()

    def second() -> None:
        first_is_in.wait(5)
        with store.engines.writer.begin() as connection:
            lock_writers(connection)
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.engines.writer.begin() as connection:
        lock_writers(connection)
        first_is_in.set()
        thread.join(0.3)  # it must still be waiting
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_the_intake_does_not_wait_for_a_writer_on_postgresql(postgres_url):
    engines = open_engines(postgres_url)
    with engines.writer.begin() as writing, engines.writer.begin() as taking_in:
        lock_writers(writing)
        started = time.monotonic()
        lock_intake(taking_in)
        assert time.monotonic() - started < 1
    engines.dispose()


def test_postgresql_ends_a_writer_that_froze_in_its_transaction(postgres_url):
    engines = open_engines(postgres_url)
    with engines.writer.connect() as connection:
        limit = connection.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar_one()
    engines.dispose()
    assert limit == "8s"
