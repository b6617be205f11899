"""Long work on DBOS, behind `ports.Engine`: executions survive the process, and run once.

Only the process that holds the leader's lock may `launch`: launching takes over what the last leader left running.
Its records are JSON (DBOS's default is pickle, which would run what somebody wrote into the database); its version and
executor are constants, since a changed one would strand whatever is running. The ids of rows are the workflows' ids.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID, SQLAlchemyDatasource
from dbos import error as dbos_error

from bot.outbound.store import SqlStore
from bot.outbound.store.engines import sqlite_file
from bot.ports import Json, SourceError, StepWork, TransactionWork, Workflow

_log = structlog.get_logger(__name__)

WorkflowFunction = Callable[[Workflow, str], None]

_DEAD = ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_FULL_RATIO = 0.8  # a workflow holds a thread for as long as it lives; beyond all slots new ones would wait silently


class DbosEngine:
    """One per process. `check` returns only while this process leads: it is asked before launching and every step."""

    def __init__(self, store: SqlStore, check: Callable[[], None], *, slots: int = 128) -> None:
        self._store = store
        self._check = check
        self.slots = slots
        self._functions: dict[str, Callable[[str], None]] = {}
        self._datasource: SQLAlchemyDatasource | None = None
        self._count = threading.Lock()
        self._active = 0

    @property
    def active(self) -> int:
        """Workflows that hold a slot now, asleep or not."""
        return self._active

    def register(self, kind: str, function: WorkflowFunction) -> None:
        """Before `launch`, which looks for the functions of what it takes over by their names."""

        @DBOS.workflow(name=kind)
        def run(row_id: str) -> None:
            with self._counted():
                try:
                    function(_DbosWorkflow(self), row_id)
                except Exception:
                    # Around an execution: DBOS records it as failed, and `dead` will tell.
                    _log.exception("a workflow failed", kind=kind, row=row_id)
                    raise

        self._functions[kind] = run

    def launch(self) -> None:
        self._check()
        # DBOS prints to stderr unless its logger has a handler; its lines go where ours go instead.
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        serializer = JsonSerializer()
        config: DBOSConfig = {
            "name": "vllm-oncall",
            "system_database_url": engine_url(self._store.url),
            "executor_id": "leader",
            "application_version": "1",
            "serializer": serializer,
            "max_executor_threads": self.slots,
            "sys_db_pool_size": 10,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 0.2,
        }
        DBOS(config=config)
        self._datasource = SQLAlchemyDatasource.create(
            self._store.url, engine=self._store.engines.writer, serializer=serializer
        )
        DBOS.launch()

    def stop(self, seconds: int = 5) -> None:
        """Waits for steps that are running. Workflows that sleep hold their threads on: the process must end by
        `os._exit`, and the next launch goes on where they were."""
        DBOS.destroy(workflow_completion_timeout_sec=seconds, destroy_registry=True)

    def start(self, kind: str, row_id: str) -> None:
        if self._active >= self.slots * _FULL_RATIO:
            why = f"{self._active} executions, rollouts and load tests are running, of {self.slots} at most"
            raise SourceError("Engine", why, "It begins when one of them ends.", retryable=True)
        with SetWorkflowID(f"{kind}:{row_id}"):
            DBOS.start_workflow(self._functions[kind], row_id)

    def send(self, kind: str, row_id: str, topic: str, message: Json, *, key: str) -> None:
        try:
            DBOS.send(f"{kind}:{row_id}", message, topic, idempotency_key=key)
        except dbos_error.DBOSNonExistentWorkflowError as unknown:
            raise SourceError("Engine", f"{kind} {row_id} was never started, so it cannot be told {topic}") from unknown

    def dead(self, kind: str, row_ids: Sequence[str]) -> tuple[str, ...]:
        if not row_ids:
            return ()
        ids = [f"{kind}:{row_id}" for row_id in row_ids]
        found = DBOS.list_workflows(workflow_ids=ids, status=_DEAD, load_input=False, load_output=False)
        return tuple(w.workflow_id.removeprefix(f"{kind}:") for w in found)

    def run_step(self, name: str, work: StepWork, args: Sequence[Json]) -> Json:
        def checked() -> Json:
            self._check()
            return as_recorded(work(*args))

        return DBOS.run_step({"name": name}, checked)

    def run_transaction(self, name: str, work: TransactionWork, args: Sequence[Json]) -> Json:
        datasource = self._datasource
        if datasource is None:
            raise RuntimeError("the engine is not launched")
        # SQLite's BEGIN IMMEDIATE and our writers' lock make both serial; on PostgreSQL, SERIALIZABLE would only add
        # conflicts, and run the body again for each.
        sqlite = self._store.engines.writer.dialect.name == "sqlite"

        def body() -> Json:
            tx = self._store.joined(datasource.sql_session().connection())
            return as_recorded(work(tx, *args))

        transaction = datasource.transaction(name=name, isolation_level="SERIALIZABLE" if sqlite else "READ COMMITTED")
        with self._store.in_turn():
            return transaction(body)()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._count:
            self._active += 1
        try:
            yield
        finally:
            with self._count:
                self._active -= 1


class _DbosWorkflow:
    """`ports.Workflow` inside a workflow of DBOS."""

    def __init__(self, engine: DbosEngine) -> None:
        self._engine = engine

    def step(self, name: str, work: StepWork, *args: Json) -> Json:
        return self._engine.run_step(name, work, args)

    def transaction(self, name: str, work: TransactionWork, *args: Json) -> Json:
        return self._engine.run_transaction(name, work, args)

    def wait(self, topic: str, seconds: float) -> Json | None:
        return DBOS.recv(topic, timeout_seconds=seconds)


class JsonSerializer(Serializer):
    """An exception that was recorded comes back as a RuntimeError that says which it was."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_exception)

    def deserialize(self, serialized_data: str) -> Any:
        value = json.loads(serialized_data)
        if isinstance(value, Mapping) and value.keys() == {"__exception__", "message"}:
            return RuntimeError(f"{value['__exception__']}: {value['message']}")
        return value

    def name(self) -> str:
        return "vllm_oncall_json"


def _exception(value: Any) -> Mapping[str, str]:
    if isinstance(value, BaseException):
        return {"__exception__": type(value).__name__, "message": str(value)}
    raise TypeError(f"a checkpoint is JSON, and cannot hold a {type(value).__name__}")


def as_recorded(value: Json) -> Json:
    """As a repetition would get it, so that the first run and the one after a crash go the same way."""
    return json.loads(json.dumps(value))


def engine_url(database_url: str) -> str:
    """SQLite: a file of its own beside ours, since DBOS's tables have no prefix. PostgreSQL: a schema of its own."""
    if not database_url.startswith("sqlite"):
        return sa.make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    file = sqlite_file(database_url)
    return f"sqlite:///{file.with_name(f'{file.stem}.engine{file.suffix}')}"
