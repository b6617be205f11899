"""A replica with the real engine and one workflow, for tests that kill it. `python -m tests.outbound.engine_child`.

    URL JOURNAL [CRASH]    CRASH: the point at which it kills itself, once (the journal then says so)

The journal is the outside world: every effect is a line in it. Orders come by files beside the journal (`abort`).
"""

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from bot.audit import AuditEntry
from bot.outbound.engine import DbosEngine
from bot.outbound.lock import lock_for
from bot.outbound.store import SqlStore
from bot.ports import Workflow

KIND = "story"
ROW = "inc-1-p1"


class Story:
    def __init__(self, journal: Path, crash: str) -> None:
        self.journal = journal
        self.crash = crash

    def write(self, line: str) -> None:
        with self.journal.open("a") as out:
            out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())

    def maybe_die(self, point: str) -> None:
        if point == self.crash:
            self.write(f"killed {point}")
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(10)

    def run(self, workflow: Workflow, row_id: str) -> None:
        first = workflow.step("first", self.first, row_id)
        moved = workflow.transaction("second", self.second, row_id, first)
        workflow.step("third", self.third, moved)
        self.maybe_die("between steps")
        message = workflow.wait("abort", 60)
        workflow.transaction("close", self.close, row_id, message)

    def first(self, row_id: str) -> object:
        self.write("first begins")
        self.maybe_die("in a step")
        self.write("first ends")
        return {"row": row_id, "pair": (1, 2)}

    def second(self, tx: object, row_id: str, first: dict) -> object:
        assert first == {"row": row_id, "pair": [1, 2]}  # as a checkpoint has it, also without a crash
        self.write("second")
        tx.audit(AuditEntry(datetime.now(UTC), "bot", "story.second", row_id, {}))  # type: ignore[attr-defined]
        self.maybe_die("in a transaction")
        return "moved"

    def third(self, moved: str) -> object:
        assert moved == "moved"
        self.write("third")
        return None

    def close(self, tx: object, row_id: str, message: object) -> object:
        self.write(f"close {message}")
        tx.audit(AuditEntry(datetime.now(UTC), "bot", "story.closed", row_id, {"message": message}))  # type: ignore[attr-defined]
        return None


def main() -> None:
    url, journal = sys.argv[1], Path(sys.argv[2])
    story = Story(journal, sys.argv[3] if len(sys.argv) > 3 else "")
    lock = lock_for(url)
    lock.acquire(threading.Event())
    store = SqlStore.open(url)
    engine = DbosEngine(store, lock.check)
    engine.register(KIND, story.run)

    @sa.event.listens_for(Session, "after_commit")
    def committed(_session: Session) -> None:
        # The body of `second` is in the database, and DBOS has not written its own record of the step.
        if story.journal.exists() and "second" in story.journal.read_text().splitlines():
            story.maybe_die("after the commit")

    engine.launch()
    engine.start(KIND, ROW)
    story.write("up")
    while True:
        if (order := journal.with_name("abort")).exists():
            engine.send(KIND, ROW, "abort", {"by": order.read_text()}, key="abort-1")
            engine.send(KIND, ROW, "abort", {"by": "a second press"}, key="abort-1")
            order.unlink()
        if journal.with_name("stop").exists():
            engine.stop(1)
            os._exit(0)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
