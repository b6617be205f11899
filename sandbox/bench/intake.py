"""How many webhooks, and alerts, a second are on disk.

The bot's own server, intake and store run in one process (one core), and the senders in this one. Every alert is a new
one, so nothing is dropped as a repeat; afterwards the rows are counted, and must be as many as were acknowledged.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from bot.inbound.intake import Intake
from bot.inbound.server import HttpServer, new_api
from bot.inbound.webhook import AlertmanagerWebhook
from bot.memory import be_frugal
from bot.outbound.store import SqlStore
from sandbox.bench.table import Row, Section, milliseconds

_TOKEN = "bench"
GOALS = {1: 2000, 50: 15_000}  # alerts a webhook -> alerts a second
CONNECTIONS = (16, 64)


@dataclass(frozen=True, slots=True)
class Measured:
    connections: int
    alerts_each: int
    webhooks_per_second: float
    p50_seconds: float
    p99_seconds: float
    acknowledged: int  # alerts

    @property
    def alerts_per_second(self) -> float:
        return self.webhooks_per_second * self.alerts_each


class Sender:
    """As Alertmanager posts, over kept connections; the next one goes when the last one was answered with 200."""

    def __init__(self, port: int, alerts_each: int) -> None:
        self._port = port
        self._each = alerts_each
        self._pieces = _template(alerts_each)
        self._next = 0
        self.seconds: list[float] = []  # of each webhook that was answered with 200

    @property
    def acknowledged(self) -> int:
        return len(self.seconds) * self._each

    async def run(self, connections: int, seconds: float) -> Measured:
        until = time.monotonic() + seconds
        started = time.monotonic()
        await asyncio.gather(*(self._one(until) for _ in range(connections)))
        took = time.monotonic() - started
        ordered = sorted(self.seconds)
        count = len(ordered)
        p50, p99 = ordered[count // 2], ordered[int(count * 0.99)]
        return Measured(connections, self._each, count / took, p50, p99, self.acknowledged)

    async def _one(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (now := time.monotonic()) < until:
            writer.write(self._request())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the intake answered {answer.splitlines()[0].decode()}")
            self.seconds.append(time.monotonic() - now)
        writer.close()

    def _request(self) -> bytes:
        first = self._next
        self._next += self._each
        numbers = (b"%016x" % n for n in range(first, first + self._each))
        body = b"".join([piece for pair in zip(self._pieces, numbers, strict=False) for piece in pair])
        body += self._pieces[-1]
        head = b"POST /alertmanager HTTP/1.1\r\nHost: bot\r\nAuthorization: Bearer bench\r\n"
        return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _template(alerts_each: int) -> list[bytes]:
    """The webhook as Alertmanager writes it, cut where each fingerprint stands."""
    labels = {"alertname": "VLLMQueueLong", "model_name": "chat-70b", "pod": "chat-70b-x2k", "severity": "critical"}
    alert = {
        "status": "firing",
        "labels": {**labels, "cluster": "prod", "instance": "10.0.3.7:8000", "job": "vllm", "team": "sre"},
        "annotations": {"runbook_url": "https://runbooks.invalid/queue", "summary": "138 wait on chat-70b-x2k"},
        "startsAt": "2026-11-23T17:00:15.143Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=vllm%3Anum_requests_waiting+%3E+100&g0.tab=1",
        "fingerprint": "@@",
    }
    body = {
        "receiver": "vllm-oncall",
        "status": "firing",
        "alerts": [alert] * alerts_each,
        "groupLabels": {"alertname": "VLLMQueueLong"},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": '{}:{alertname="VLLMQueueLong"}',
        "truncatedAlerts": 0,
    }
    return json.dumps(body).encode().split(b"@@")


def serve(url: str) -> None:
    """The measured process. Prints its port, and ends with SIGTERM."""
    be_frugal()  # both as the bot
    gc.freeze()
    store = SqlStore.open(url)
    intake = Intake(store.take_in_webhooks, lambda: None)
    intake.start()
    api = new_api()
    AlertmanagerWebhook(intake, token=SecretStr(_TOKEN), body_limit_bytes=4 * 1024 * 1024).add_to(api)
    server = HttpServer(api, host="127.0.0.1", port=0)
    server.start()
    print(server.port, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()
    intake.stop()
    store.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server's process used up."""

    cpu_seconds: float
    resident_bytes: int


def launch(url: str) -> tuple[subprocess.Popen[str], int]:
    """The server's process, and its port when it answers."""
    argv = [sys.executable, "-m", "sandbox.bench.intake", "--serve", url]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def measure(url: str, *, connections: int, alerts_each: int, seconds: float) -> tuple[Measured, Cost]:
    """On an empty database."""
    server, port = launch(url)
    try:
        before = _cpu_seconds(server.pid)
        measured = asyncio.run(Sender(port, alerts_each).run(connections, seconds))
        cost = Cost(_cpu_seconds(server.pid) - before, _resident_bytes(server.pid))
    finally:
        server.terminate()
        server.wait(30)
    if (stored := rows(url)) < measured.acknowledged:
        raise RuntimeError(f"{measured.acknowledged} alerts were acknowledged, but {stored} are in the database")
    return measured, cost


def rows(url: str) -> int:
    """Alerts that wait for triage."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        stored: int = connection.execute(sa.text("SELECT count(*) FROM delivery")).scalar_one()
    engine.dispose()
    return stored


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def section(folder: Path, seconds: float = 4) -> Section:
    """On SQLite, which is the default: each webhook is on disk before it is answered."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for each, goal in GOALS.items():
        for connections in CONNECTIONS:
            url = f"sqlite:///{folder / f'{each}-{connections}.sqlite'}"
            measured, cost = measure(url, connections=connections, alerts_each=each, seconds=seconds)
            rows.append(_row(measured, cost, goal))
    return Section(
        "Alerts taken in, on disk",
        "The bot's own server and store in one process, as many webhooks as they answer with 200 (which means: on "
        "disk); every alert is a new one, and the rows are counted afterwards. The senders use the same machine.",
        rows,
    )


def _row(measured: Measured, cost: Cost, goal: int) -> Row:
    each, rate = measured.alerts_each, measured.alerts_per_second
    what = f"{each} alert{'' if each == 1 else 's'} a webhook, {measured.connections} connections"
    alone = measured.acknowledged / cost.cpu_seconds
    told = f"{rate:,.0f} alerts/s (p99 {milliseconds(measured.p99_seconds)}; {alone:,.0f} for a second of CPU)"
    return Row(what, told, f">= {goal:,} alerts/s", rate >= goal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", metavar="DATABASE_URL", required=True)
    serve(parser.parse_args().serve)


if __name__ == "__main__":
    main()
