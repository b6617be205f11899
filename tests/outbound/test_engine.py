import json
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
from bot.outbound.engine import DbosEngine, JsonSerializer, as_recorded, engine_url
from bot.ports import SourceError
from tests.fixtures_store import NOW, an_incident

ROOT = Path(__file__).parents[2]


def wait_until(true, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------- in this process


@pytest.fixture
def engine(store):
    """DBOS is one per process: a test's engine is gone before the next one's comes."""
    made = DbosEngine(store, lambda: None, slots=5)
    yield made
    wait_until(lambda: made.active == 0)  # a sleeping workflow's thread would keep the test run from ending
    made.stop(0)


def audited(store, action):
    with store.read() as tx:
        return [e.entry.detail for e in reversed(tx.audited(None, 1000)) if e.entry.action == action]


def record(tx, action, detail):
    tx.audit(AuditEntry(NOW, "bot", action, "inc-1-p1", detail))
    return detail


def test_steps_transactions_and_messages_make_a_story(engine, store):
    def run(workflow, row_id):
        seen = workflow.step("look", lambda row: {"row": row, "replicas": (3, 4)}, row_id)
        kept = workflow.transaction("begin", record, "begun", seen)
        message = workflow.wait("abort", 30)
        workflow.transaction("close", record, "closed", {"kept": kept, "message": message})

    engine.register("execution", run)
    engine.launch()
    engine.start("execution", "inc-1-p1")
    wait_until(lambda: audited(store, "begun"))
    engine.send("execution", "inc-1-p1", "abort", {"by": "U1"}, key="k")
    wait_until(lambda: audited(store, "closed"))
    seen = {"row": "inc-1-p1", "replicas": [3, 4]}
    assert audited(store, "closed") == [{"kept": seen, "message": {"by": "U1"}}]
    with store.read() as tx:
        assert broken_link(tx.audit_chain()) is None
    wait_until(lambda: engine.active == 0)


def test_a_wait_without_a_message_ends_with_its_time(engine, store):
    def run(workflow, row_id):
        workflow.transaction("close", record, "closed", {"message": workflow.wait("abort", 0.2)})

    engine.register("execution", run)
    engine.launch()
    engine.start("execution", "a")
    wait_until(lambda: audited(store, "closed") == [{"message": None}])


def test_asking_for_the_same_row_again_starts_nothing(engine, store):
    def run(workflow, row_id):
        workflow.transaction("close", record, "closed", {"row": row_id})

    engine.register("execution", run)
    engine.launch()
    for _ in range(3):
        engine.start("execution", "a")
    wait_until(lambda: audited(store, "closed"))
    engine.start("execution", "a")
    engine.start("execution", "b")
    wait_until(lambda: len(audited(store, "closed")) == 2)
    assert audited(store, "closed") == [{"row": "a"}, {"row": "b"}]


def test_a_workflow_that_raised_is_dead_and_one_that_waits_or_ended_is_not(engine, store):
    def run(workflow, row_id):
        if row_id == "fails":
            workflow.step("break", lambda: 1 / 0)
        if row_id == "waits":
            workflow.wait("abort", 60)

    engine.register("execution", run)
    engine.launch()
    for row in ("fails", "waits", "ends"):
        engine.start("execution", row)
    wait_until(lambda: engine.dead("execution", ["ends", "waits", "fails", "never started"]) == ("fails",))
    assert engine.dead("execution", []) == ()
    assert engine.dead("rollout", ["fails"]) == ()
    engine.send("execution", "waits", "abort", None, key="end")


def test_a_transaction_that_raises_leaves_no_row(engine, store):
    def refuse(tx):
        tx.save_incident(an_incident())
        raise ValueError("no")

    def run(workflow, row_id):
        try:
            workflow.transaction("refuse", refuse)
        except ValueError as error:
            workflow.transaction("close", record, "closed", {"why": str(error)})

    engine.register("execution", run)
    engine.launch()
    engine.start("execution", "a")
    wait_until(lambda: audited(store, "closed"))
    with store.read() as tx:
        assert tx.incident(1) is None


def test_a_message_for_a_workflow_that_never_was_is_refused_in_words(engine):
    engine.register("execution", lambda workflow, row_id: None)
    engine.launch()
    with pytest.raises(SourceError, match="inc-1-p9 was never started"):
        engine.send("execution", "inc-1-p9", "abort", {}, key="k")


def test_what_would_wait_for_a_slot_without_a_word_is_refused(engine, store):
    engine.register("rollout", lambda workflow, row_id: workflow.wait("abort", 60))
    engine.launch()
    for n in range(4):
        engine.start("rollout", str(n))
    wait_until(lambda: engine.active == 4)
    with pytest.raises(SourceError, match="4 executions, rollouts and load tests are running, of 5"):
        engine.start("rollout", "5")
    for n in range(4):
        engine.send("rollout", str(n), "abort", {}, key=str(n))
    wait_until(lambda: engine.active == 0)
    engine.start("rollout", "5")
    engine.send("rollout", "5", "abort", {}, key="5")


def test_every_step_asks_first_whether_this_process_leads(store):
    asked = []
    engine = DbosEngine(store, lambda: asked.append(1))
    engine.register("execution", lambda workflow, row_id: workflow.step("act", lambda: None))
    engine.launch()
    assert len(asked) == 1
    engine.start("execution", "a")
    wait_until(lambda: len(asked) == 2)
    engine.stop(1)


def test_updates_of_workflows_and_of_ours_do_not_lose_one_another(store):
    engine = DbosEngine(store, lambda: None)
    with store.write() as tx:
        tx.save_incident(an_incident())

    def bump(tx):
        tx.save_incident(an_incident(flaps=tx.incident(1).flaps + 1))

    def run(workflow, row_id):
        for n in range(5):
            workflow.transaction(f"bump {n}", bump)

    engine.register("execution", run)
    engine.launch()

    def ours(_):
        with store.write() as tx:
            bump(tx)

    for n in range(16):
        engine.start("execution", str(n))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ours, range(100)))

    def flaps():
        with store.read() as tx:
            return tx.incident(1).flaps

    wait_until(lambda: flaps() == 180 and engine.active == 0, 60)
    engine.stop(1)


def test_the_engines_records_stay_out_of_our_tables(engine, store, database_url):
    engine.register("execution", lambda workflow, row_id: None)
    engine.launch()
    with store.engines.reader.connect() as connection:
        ours = set(sa.inspect(connection).get_table_names())
    assert "workflow_status" not in ours
    if database_url.startswith("sqlite"):
        assert engine_url(database_url).endswith("/oncall.engine.sqlite")
        assert Path(engine_url(database_url).removeprefix("sqlite:///")).exists()


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_are_json_and_exceptions_come_back_as_words():
    serializer = JsonSerializer()
    assert json.loads(serializer.serialize({"a": [1, None, "x"]})) == {"a": [1, None, "x"]}
    back = serializer.deserialize(serializer.serialize(KeyError("node")))
    assert isinstance(back, RuntimeError)
    assert str(back) == "KeyError: 'node'"


def test_what_is_not_json_is_refused_when_it_is_written():
    with pytest.raises(TypeError, match="cannot hold a datetime"):
        JsonSerializer().serialize({"at": NOW})
    with pytest.raises(TypeError):
        as_recorded({"at": NOW})


def test_an_answer_is_from_the_first_as_a_repetition_would_get_it():
    assert as_recorded({"pair": (1, 2)}) == {"pair": [1, 2]}


# --------------------------------------------------------------------------------------------------- kill -9 and stop


class World:
    """What a killed process leaves: its journal and the store."""

    def __init__(self, store, url: str, folder: Path) -> None:
        self.store = store
        self.url = url
        self.journal = folder / "journal"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, crash: str = "") -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "tests.outbound.engine_child", self.url, str(self.journal), crash]
        self.processes.append(subprocess.Popen(argv, cwd=ROOT))
        return self.processes[-1]

    def order(self, name: str, text: str = "") -> None:
        self.journal.with_name(name).write_text(text)

    def lines(self) -> list[str]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [line for line in text.splitlines() if line != "up"]

    def closed(self) -> list:
        return audited(self.store, "story.closed")

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def world(store, database_url, tmp_path):
    made = World(store, database_url, tmp_path)
    yield made
    made.end()


CRASHES = {
    "in a step": ["first begins", "killed in a step", "first begins", "first ends", "second", "third"],
    "in a transaction": ["first begins", "first ends", "second", "killed in a transaction", "second", "third"],
    "after the commit": ["first begins", "first ends", "second", "killed after the commit", "third"],
    "between steps": ["first begins", "first ends", "second", "third", "killed between steps"],
}


@pytest.mark.parametrize("point", CRASHES)
def test_after_kill_9_it_goes_on_where_it_was(world, point):
    assert world.start(crash=point).wait(30) == -signal.SIGKILL
    assert f"killed {point}" in world.lines()
    world.start()
    wait_until(lambda: world.lines() == CRASHES[point])
    world.order("abort", "U1")
    wait_until(world.closed)
    assert world.lines() == [*CRASHES[point], "close {'by': 'U1'}"]
    assert audited(world.store, "story.second") == [{}]  # its rows are there once
    assert world.closed() == [{"message": {"by": "U1"}}]
    with world.store.read() as tx:
        assert broken_link(tx.audit_chain()) is None


def test_killed_while_it_waits_it_waits_on_and_hears_its_message(world):
    first = world.start()
    wait_until(lambda: "third" in world.lines())
    time.sleep(0.3)  # into the wait
    os.kill(first.pid, signal.SIGKILL)
    first.wait(5)
    world.start()
    world.order("abort", "U2")
    wait_until(world.closed)
    assert world.closed() == [{"message": {"by": "U2"}}]
    assert world.lines().count("third") == 1


def test_a_stop_does_not_wait_for_what_sleeps_and_the_next_goes_on(world):
    first = world.start()
    wait_until(lambda: "third" in world.lines())
    stopped = time.monotonic()
    world.order("stop")
    assert first.wait(10) == 0
    assert time.monotonic() - stopped < 5
    world.journal.with_name("stop").unlink()
    world.start()
    world.order("abort", "U3")
    wait_until(world.closed)
    assert world.lines().count("third") == 1


def test_without_the_lock_nothing_is_launched(world):
    first = world.start()
    wait_until(lambda: "third" in world.lines())
    second = world.start()
    time.sleep(1.5)
    assert second.poll() is None  # it waits
    assert world.lines().count("first begins") == 1
    os.kill(first.pid, signal.SIGKILL)
    world.order("abort", "U4")
    wait_until(world.closed)
    assert world.lines() == ["first begins", "first ends", "second", "third", "close {'by': 'U4'}"]


def test_launching_without_leading_ends_the_process(database_url):
    program = """
import sys
from bot.outbound.engine import DbosEngine
from bot.outbound.lock import lock_for
from bot.outbound.store import SqlStore
DbosEngine(SqlStore.open(sys.argv[1]), lock_for(sys.argv[1]).check).launch()
print("launched")
"""
    argv = [sys.executable, "-c", program, database_url]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (3, "")


def test_threads_of_one_engine_do_not_wait_for_one_another(engine, store):
    together = threading.Barrier(3, timeout=10)
    engine.register("execution", lambda workflow, row_id: workflow.step("meet", lambda: together.wait() and None))
    engine.launch()
    for n in range(3):
        engine.start("execution", str(n))
    wait_until(lambda: engine.active == 0 and together.broken is False and together.n_waiting == 0)
    assert engine.dead("execution", ["0", "1", "2"]) == ()
