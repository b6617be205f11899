"""The bot, except that its process kills itself once, at a point between two of its own writes that nothing outside
can hold: `KILLED_AT=triage` when a delivery is committed and not triaged, `KILLED_AT=engine` when an approval is
committed and the engine knows nothing of it. `KILLED_ONCE` names the file that tells of it."""

import os
import signal
from datetime import datetime
from pathlib import Path

from bot.cli import main
from bot.incidents.triage import Triage
from bot.outbound.engine import DbosEngine

_start, _step = DbosEngine.start, Triage.step


def _kill(what: str) -> None:
    told = Path(os.environ["KILLED_ONCE"])
    if not told.exists():
        told.write_text(what)
        os.kill(os.getpid(), signal.SIGKILL)


def _killing_start(engine: DbosEngine, kind: str, row_id: str) -> None:
    _kill(row_id)
    _start(engine, kind, row_id)


def _killing_step(triage: Triage, now: datetime) -> bool:
    with triage._store.read() as tx:
        waiting = tx.deliveries(1)
    if waiting:
        _kill(waiting[0].alert.name)
    return _step(triage, now)


if os.environ["KILLED_AT"] == "engine":
    DbosEngine.start = _killing_start  # type: ignore[method-assign]
else:
    Triage.step = _killing_step  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
