import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from bot.outbound.lock import FileLock, PostgresLock, lock_for
from sandbox.postgres import Postgres

ROOT = Path(__file__).parents[2]


def run(program: str, *arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", program, *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds)


def test_the_database_decides_which_lock_it_is(tmp_path):
    assert isinstance(lock_for(f"sqlite:///{tmp_path}/oncall.sqlite"), FileLock)
    assert isinstance(lock_for("postgresql://127.0.0.1/oncall"), PostgresLock)


def test_one_holds_it_until_it_is_released(database_url):
    first, second = lock_for(database_url), lock_for(database_url)
    assert first.acquire(threading.Event())
    first.check()
    got = threading.Event()
    stopped = threading.Event()
    waiting = threading.Thread(target=lambda: second.acquire(stopped) and got.set())
    waiting.start()
    assert not got.wait(0.5)
    first.release()
    assert got.wait(5)
    second.check()
    second.release()
    waiting.join(5)


def test_whoever_is_stopped_while_waiting_does_not_get_it(database_url):
    first, second = lock_for(database_url), lock_for(database_url)
    assert first.acquire(threading.Event())
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    started = time.monotonic()
    assert second.acquire(stopped) is False
    assert time.monotonic() - started < 3
    first.release()


def test_asking_without_leading_ends_the_process(database_url):
    program = "import sys; from bot.outbound.lock import lock_for; lock_for(sys.argv[1]).check(); print('went on')"
    done = run(program, database_url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "without leading" in done.stderr


def test_a_removed_lock_file_ends_the_process_before_its_next_change(tmp_path):
    program = """
import sys, threading
from pathlib import Path
from bot.outbound.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire(threading.Event())
lock.check()
Path(sys.argv[1]).unlink()
lock.check()
"""
    done = run(program, str(tmp_path / "lock"))
    assert done.returncode == 3
    assert "was removed" in done.stderr


HOLDER = """
import sys, threading, time
from bot.outbound.lock import lock_for
lock = lock_for(sys.argv[1])
lock.acquire(threading.Event())
print("leads", flush=True)
time.sleep(60)
"""


def holder(url: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLDER, url]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "leads\n"
    return process


def test_the_session_is_one_that_the_server_ends_when_it_is_silent(postgres_url):
    process = holder(postgres_url)
    with psycopg.connect(postgres_url) as admin:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7305 AND objid = 1"
        assert admin.execute(query).fetchone() == (1,)
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vllm-oncall leader'"
        admin.execute(ended)
    assert process.wait(5) == 3
    assert "its session with the database ended" in process.stderr.read()


def test_a_database_that_hangs_ends_the_process_before_the_lease_is_over(tmp_path):
    with Postgres(tmp_path) as server:
        process = holder(server.url)
        with psycopg.connect(server.url, autocommit=True) as admin:
            (backend,) = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'vllm-oncall leader'"
            ).fetchone()
        subprocess.run(["kill", "-STOP", str(backend)], check=True)
        frozen = time.monotonic()
        try:
            assert process.wait(9) == 3
            assert time.monotonic() - frozen < 8
        finally:
            subprocess.run(["kill", "-CONT", str(backend)], check=True)


def test_a_database_that_restarts_ends_the_leader_and_lets_the_next_lead(tmp_path):
    with Postgres(tmp_path) as server:
        process = holder(server.url)
        server.stop_immediate()
        assert process.wait(5) == 3
        lock = lock_for(server.url)
        led = threading.Event()
        threading.Thread(target=lambda: lock.acquire(threading.Event()) and led.set(), daemon=True).start()
        assert not led.wait(0.5)
        server.start()
        assert led.wait(10)
        lock.release()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_child_does_not_keep_its_parents_lock(database_url):
    program = """
import subprocess, sys, threading
from bot.outbound.lock import lock_for
lock_for(sys.argv[1]).acquire(threading.Event())
child = subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
"""
    done = run(program, database_url)
    next_lock = lock_for(database_url)
    stopped = threading.Event()
    threading.Timer(5, stopped.set).start()
    assert next_lock.acquire(stopped)
    subprocess.run(["kill", done.stdout.strip()], check=True)
