"""What must hold across subjects, on both databases: nothing is lost, nothing is half there, nobody waits for ever."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.audit import AuditEntry, broken_link
from bot.outbound.store import SqlStore, StoreError
from bot.ports import SourceError
from bot.remediation.proposal import ProposalState
from sandbox.postgres import Postgres
from tests.fixtures_store import NOW, a_proposal, an_alert, an_incident

ROOT = Path(__file__).parents[3]


def bump(store: SqlStore) -> None:
    """Read, think, write: an update is lost if somebody else writes in between."""
    with store.write() as tx:
        incident = tx.incident(1)
        assert incident is not None
        tx.save_incident(an_incident(flaps=incident.flaps + 1))
        tx.audit(AuditEntry(NOW, "bot", "flapped", incident.id, {"flaps": incident.flaps + 1}))


def test_of_360_updates_by_24_threads_360_are_there(store):
    with store.write() as tx:
        tx.save_incident(an_incident())
    with ThreadPoolExecutor(24) as pool:
        for done in [pool.submit(bump, store) for _ in range(360)]:
            done.result()
    with store.read() as tx:
        assert tx.incident(1).flaps == 360
        assert broken_link(tx.audit_chain()) is None
        assert len(tx.audited("inc-1", 1000)) == 360


def test_two_processes_that_write_at_once_lose_nothing(store, database_url):
    with store.write() as tx:
        tx.save_incident(an_incident())
    program = """
import sys
from bot.outbound.store import SqlStore
from tests.outbound.store.test_contract import bump
store = SqlStore.open(sys.argv[1])
for _ in range(60):
    bump(store)
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with store.read() as tx:
        assert tx.incident(1).flaps == 120
        assert broken_link(tx.audit_chain()) is None


def test_two_that_check_and_then_act_cannot_both_find_the_way_free(store):
    """The guard's pattern: nothing runs yet, so I may."""
    with store.write() as tx:
        tx.save_incident(an_incident())
        for number in range(1, 9):
            tx.save_proposal(a_proposal(number, state=ProposalState.APPROVED))

    def run(number: int) -> None:
        with store.write() as tx:
            if not tx.proposals_in(ProposalState.RUNNING):
                time.sleep(0.01)  # widens the gap in which the other could slip through
                tx.save_proposal(a_proposal(number, state=ProposalState.RUNNING))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(1, 9)))
    with store.read() as tx:
        assert len(tx.proposals_in(ProposalState.RUNNING)) == 1


def test_a_block_that_raises_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.write() as tx:
        tx.save_incident(an_incident())
        tx.show(1)
        tx.take_in([an_alert()])
        tx.audit(AuditEntry(NOW, "bot", "incident.opened", "inc-1", {}))
        _ = 1 / 0
    with store.read() as tx:
        assert (tx.incident(1), tx.card(1), tx.deliveries(1), tx.firing()) == (None, None, (), ())
        assert tx.audited(None, 1) == ()


def test_a_process_killed_in_its_transaction_leaves_nothing_and_blocks_nobody(store, database_url):
    program = """
import sys, time
from bot.outbound.store import SqlStore
from tests.fixtures_store import an_alert, an_incident
with SqlStore.open(sys.argv[1]).write() as tx:
    tx.save_incident(an_incident())
    tx.take_in([an_alert()])
    print("written", flush=True)
    time.sleep(60)
"""
    victim = subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"written\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(10)
    with store.write() as tx:
        assert (tx.incident(1), tx.deliveries(1)) == (None, ())
        assert tx.take_in([an_alert()]) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_replica_that_froze_in_its_transaction_does_not_block_the_others_for_long(store, database_url):
    program = """
import sys, time
from bot.outbound.store import SqlStore
with SqlStore.open(sys.argv[1]).write() as tx:
    tx.new_incident_number()
    print("written", flush=True)
    time.sleep(60)
"""
    frozen = subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == b"written\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        started = time.monotonic()
        with store.write() as tx:
            assert tx.new_incident_number() == 1  # the frozen one's was rolled back
        assert time.monotonic() - started < 11
    finally:
        frozen.kill()
        frozen.wait(10)


DUE = {
    "requests": ("ix_request_due", lambda tx: tx.requests(10)),
    "due_rounds": ("ix_round_due", lambda tx: tx.due_rounds(NOW)),
    "stale_cards": ("ix_card_due", lambda tx: tx.stale_cards()),
    "waiting_messages": ("ix_thread_message_due", lambda tx: tx.waiting_messages(10)),
    "firing": ("ix_alert_due", lambda tx: tx.firing()),
    "open_tallies": ("ix_incident_state_resolved_at", lambda tx: tx.open_tallies()),
    "open_diagnosed_at": ("ix_incident_state_resolved_at", lambda tx: tx.open_diagnosed_at()),
    "open_incidents": ("ix_incident_state_resolved_at", lambda tx: tx.open_incidents()),
    "proposals_in": ("ix_proposal_state", lambda tx: tx.proposals_in(ProposalState.RUNNING)),
    "started_since": ("ix_proposal_started_at", lambda tx: tx.started_since(NOW)),
}


@pytest.mark.parametrize("question", DUE)
def test_what_is_asked_five_times_a_second_reads_only_what_is_due(tmp_path, question):
    """However long the bot has lived. SQLite tells its plan without needing many rows."""
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    index, ask = DUE[question]
    asked: list[tuple[str, object]] = []

    @sa.event.listens_for(store.engines.reader, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    with store.read() as tx:
        ask(tx)
    ((statement, parameters),) = asked
    with store.engines.reader.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    store.close()
    assert any(index in line for line in plan), plan


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="Is the volume mounted"):
        SqlStore.open(f"sqlite:///{tmp_path}/file/oncall.sqlite")


def test_a_second_transaction_in_a_thread_that_writes_is_refused_not_waited_for(store):
    with pytest.raises(RuntimeError, match="hand its tx on"), store.write(), store.write():
        pass
    with store.write() as tx:  # and the thread may write again afterwards
        tx.save_incident(an_incident())


def test_a_thread_that_writes_may_look_from_outside(store):
    with store.write() as writing, store.read() as reading:
        writing.save_incident(an_incident())
        assert reading.incident(1) is None


def test_threads_read_while_one_writes(store):
    with store.write() as tx, ThreadPoolExecutor(4) as pool:
        tx.save_incident(an_incident())

        def look() -> bool:
            with store.read() as reading:
                return reading.incident(1) is None

        assert all(pool.submit(look).result(5) for _ in range(4))


def test_a_change_in_a_reading_transaction_is_refused(store):
    with pytest.raises(StoreError, match=r"read-?only"), store.read() as tx:
        tx.save_incident(an_incident())


def test_a_database_error_is_a_source_error_that_shows_no_password(store):
    with pytest.raises(SourceError) as caught, store.write() as tx:
        tx.save_incident(an_incident())
        tx._connection.execute(sa.text("SELECT * FROM no_such_table"))
    assert caught.value.source == "Database"
    assert "no_such_table" in caught.value.why
    assert caught.value.retryable is False
    password = sa.make_url(store.url).password
    assert password is None or password not in str(caught.value)
    with store.read() as tx:
        assert tx.incident(1) is None


def test_a_locked_database_is_a_retryable_error(tmp_path):
    store = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with store.engines.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    other = SqlStore.open(store.url)
    with other.write(), pytest.raises(StoreError, match="locked") as caught, store.write():
        pass
    assert caught.value.retryable is True
    store.close()
    other.close()


def test_a_database_that_is_away_is_a_retryable_error_and_is_found_again(tmp_path):

    with Postgres(tmp_path) as own:
        store = SqlStore.open(own.url)
        own.stop_immediate()
        with pytest.raises(StoreError) as caught, store.write():
            pass
        assert caught.value.retryable is True
        own.start()
        with store.write() as tx:
            tx.save_incident(an_incident())
        store.close()


def test_writers_take_their_turns(store):
    """Nobody starves: of 200 short transactions in 16 threads each waits for some 16, and never for half of them."""
    with store.write() as tx:
        tx.save_incident(an_incident())
    slowest = [0.0]
    lock = threading.Lock()

    def once(_: int) -> None:
        started = time.monotonic()
        bump(store)
        with lock:
            slowest[0] = max(slowest[0], time.monotonic() - started)

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(once, range(200)))
    assert slowest[0] < (time.monotonic() - began) / 2
