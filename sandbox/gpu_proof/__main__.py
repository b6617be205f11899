"""Runs the proof, prints what it found, and leaves the agent's answers in a folder: `python -m sandbox.gpu_proof DIR`.

Exit code 0: all of it holds; 1: something does not, and is named; 77: no NVIDIA GPU here, so nothing was proved.
"""

import ctypes
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bot.gpu_readings import EventPage, Gpu, GpuEvent, GpuNode
from sandbox.gpu_proof.compare import NOT_COMPARED, Compared, compare, compare_links

NOTHING_PROVED = 77
SWEEPS = 200
LONGEST_SWEEP_SECONDS = 0.005  # a GPU, warm
LONGEST_XID_SECONDS = 2.0
_TOKEN = "proof"
_NODE = TypeAdapter(GpuNode)
_PAGE = TypeAdapter(EventPage)


class Agent:
    """The agent as its own process, as it runs on a node."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.log = folder / "agent.log"
        environment = {
            "TOKEN": _TOKEN,
            "NODE": "gpu-proof",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "HISTORY": str(folder / "events.jsonl"),
            **settings,
        }
        given = {f"VLLM_ONCALL_AGENT__{name}": value for name, value in environment.items()}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bot.agent"], env={**os.environ, **given}, stdout=log, stderr=subprocess.STDOUT
            )
        self.url = f"http://127.0.0.1:{self._port()}"

    def _port(self) -> int:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if '"event": "ready"' in line:
                    return int(json.loads(line)["port"])
            time.sleep(0.05)
        raise SystemExit(f"the agent did not start:\n{self.log.read_text()}")

    def ask(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {_TOKEN}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def node(self) -> GpuNode:
        return _NODE.validate_json(self.ask("/v1/gpus"))

    def events(self, after: int = 0, wait: float = 0) -> EventPage:
        return _PAGE.validate_json(self.ask(f"/v1/events?after={after}&wait={wait}"))

    def end(self, with_signal: int = signal.SIGTERM) -> None:
        self.process.send_signal(with_signal)
        self.process.wait(20)


class Proof:
    def __init__(self, out: Path) -> None:
        self.out = out
        self.wrong: list[str] = []
        self.numbers: dict[str, Any] = {}

    def holds(self, what: str, so: bool, seen: Any = "") -> None:
        print(f"{'ok   ' if so else 'WRONG'} {what}" + (f": {seen}" if seen != "" else ""), flush=True)
        if not so:
            self.wrong.append(f"{what}: {seen}")

    def save(self, name: str, value: Any) -> None:
        (self.out / name).write_text(json.dumps(value, indent=1, default=str) + "\n")


def main(out: Path) -> int:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        print("skipped: there is no NVIDIA GPU here (no libcuda.so.1). Nothing was proved.")
        return NOTHING_PROVED
    out.mkdir(parents=True, exist_ok=True)
    proof = Proof(out)
    with tempfile.TemporaryDirectory() as folder, _agent(Path(folder)) as agent:
        name = _name(agent.node())
        _fields(proof, agent, name)
        _speed(proof, agent)
        _xid(proof, agent, name)
        _all_at_once(proof, agent)
        _restart(proof, agent, Path(folder))
    with tempfile.TemporaryDirectory() as folder, _agent(Path(folder), KMSG="/nowhere") as agent:
        _without_kmsg(proof, agent)
    proof.save("report.json", {"numbers": proof.numbers, "wrong": proof.wrong})
    print(json.dumps(proof.numbers, indent=1))
    print(f"{len(proof.wrong)} things do not hold" if proof.wrong else "all of it holds")
    return 1 if proof.wrong else 0


@contextmanager
def _agent(folder: Path, **settings: str) -> Iterator[Agent]:
    agent = Agent(folder, **settings)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.end()
        print("".join(f"  agent: {line}\n" for line in agent.log.read_text().splitlines()[-12:]), end="")


def _name(node: GpuNode) -> str:
    first = node.gpus[0].name or "gpu" if node.gpus else "gpu"
    model = next((word for word in first.split() if any(c.isdigit() for c in word)), "gpu").lower()
    return f"{model}-x{len(node.gpus)}"


# ---------------------------------------------------------------------------------------------- the fields


def _fields(proof: Proof, agent: Agent, name: str) -> None:
    _until_links_are_read(agent)
    with _program() as program:
        rows, saved, smi = _beside_smi(agent)
        proof.save(f"agent-{name}-gpus.json", json.loads(saved))
        for gpu in smi.findall("gpu"):
            for clocks in gpu.findall("supported_clocks"):  # thousands of lines
                gpu.remove(clocks)
        ElementTree.ElementTree(smi).write(proof.out / f"agent-{name}-smi.xml", encoding="utf-8")
        ours = [p for gpu in agent.node().gpus for p in gpu.processes or () if p.pid == program.pid]
        proof.holds("a running program is told with its memory", bool(ours and ours[0].memory_bytes), ours)
    different = [row for row in rows if row.outcome == "differs"]
    counts = {kind: sum(row.outcome == kind for row in rows) for kind in ("same", "within", "both unknown", "differs")}
    proof.numbers["fields"] = {**counts, "not compared": NOT_COMPARED}
    proof.save("fields.json", [dataclasses.asdict(row) for row in rows])
    proof.holds("every field is nvidia-smi's", not different, different or counts)
    node = agent.node()
    proof.holds("every GPU answers", all(gpu.state == "ok" for gpu in node.gpus), [gpu.problem for gpu in node.gpus])
    proof.holds("Xids are listened to", node.watching is not None and node.watching.nvml, node.watching)
    proof.numbers["missing"] = {gpu.index: gpu.missing for gpu in node.gpus}


def _until_links_are_read(agent: Agent) -> None:
    deadline = time.monotonic() + 90
    while any("nvlinks.errors" in gpu.missing for gpu in agent.node().gpus) and time.monotonic() < deadline:
        time.sleep(1)


def _beside_smi(agent: Agent) -> tuple[list[Compared], bytes, ElementTree.Element]:
    """Values change between two readings: a field that differs is looked at again, three times in all. With the
    agent's answer and nvidia-smi's of the last time."""
    rows: dict[tuple[int, str], Compared] = {}
    saved, smi = b"{}", ElementTree.Element("nvidia_smi_log")
    for _ in range(3):
        before = agent.node()
        smi = ElementTree.fromstring(_run("nvidia-smi", "-q", "-x"))
        links = _run("nvidia-smi", "nvlink", "-s"), _run("nvidia-smi", "nvlink", "-e")
        saved = agent.ask("/v1/gpus")
        after = _NODE.validate_json(saved)
        for row in _pairs(before, smi, links, after):
            if rows.get(row[0], row[1]).outcome == "differs" or row[0] not in rows:
                rows[row[0]] = row[1]
        if not any(row.outcome == "differs" for row in rows.values()):
            break
    return list(rows.values()), saved, smi


def _pairs(
    before: GpuNode, smi: ElementTree.Element, links: tuple[str, str], after: GpuNode
) -> Iterator[tuple[tuple[int, str], Compared]]:
    told: Mapping[str | None, ElementTree.Element] = {one.findtext("uuid"): one for one in smi.findall("gpu")}
    for first, last in zip(before.gpus, after.gpus, strict=True):
        for row in (*compare(first, told[first.uuid], last), *compare_links(last, *links)):
            yield (first.index, row.field), row


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


# ---------------------------------------------------------------------------------------------- the speed


def _speed(proof: Proof, agent: Agent) -> None:
    sweeps, answers = [], []
    gpus: tuple[Gpu, ...] = ()
    for _ in range(SWEEPS):
        began = time.perf_counter()
        body = agent.ask("/v1/gpus")
        answers.append(time.perf_counter() - began)
        node = _NODE.validate_json(body)
        sweeps.append(node.sweep_seconds or 0)
        gpus = node.gpus
    warm = sweeps[10:]
    proof.numbers["sweep_ms"] = _spread(warm)
    proof.numbers["sweep_ms_per_gpu"] = _spread([one / len(gpus) for one in warm])
    proof.numbers["http_answer_ms"] = _spread(answers[10:])
    median = statistics.median(warm)
    proof.holds(
        "a warm sweep takes 5 ms a GPU at most", median / len(gpus) <= LONGEST_SWEEP_SECONDS, f"{median * 1e3:.2f} ms"
    )


def _spread(seconds: list[float]) -> dict[str, float]:
    points = statistics.quantiles(seconds, n=100)
    return {"p50": round(points[49] * 1e3, 3), "p95": round(points[94] * 1e3, 3), "max": round(max(seconds) * 1e3, 3)}


# ---------------------------------------------------------------------------------------------- the Xid


@contextmanager
def _program(ordinal: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The faulty program, ready and waiting."""
    command = [sys.executable, "-m", "sandbox.gpu_proof.fault", str(ordinal)]
    # CUDA's own order is by speed.
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert program.stdout is not None
        line = program.stdout.readline()
        if line.strip() != "ready":
            raise SystemExit(f"the faulty program did not get ready: {line!r}")
        yield program
    finally:
        if program.poll() is None:
            program.kill()
        program.wait()


def _commit(program: "subprocess.Popen[str]") -> tuple[float, float]:
    """When the kernel was launched, and when the program learnt of its error."""
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    launched, told, _ = program.stdout.readline().split()
    return float(launched), float(told)


def _raised(proof: Proof, agent: Agent, *, ordinal: int = 0) -> tuple[GpuEvent | None, int]:
    """Raises an Xid while somebody waits for it. The event, and the program's pid."""
    heard: list[tuple[float, EventPage]] = []
    after = agent.events().last_seq

    def wait() -> None:
        page = agent.events(after, wait=30)
        heard.append((time.time(), page))

    with _program(ordinal) as program:
        listener = threading.Thread(target=wait)
        listener.start()
        time.sleep(0.5)  # until the listener's question has arrived: the first answer must be one that waited
        launched, told = _commit(program)
        listener.join(35)
        pid = program.pid
    if not heard or not heard[0][1].events:
        return None, pid
    at, page = heard[0]
    latencies = proof.numbers.setdefault("xid_seconds_from_launch_to_answer", [])
    latencies.append(round(at - launched, 3))
    proof.numbers.setdefault("xid_seconds_until_the_program_knew", []).append(round(told - launched, 3))
    proof.numbers.setdefault("xid_seconds_from_first_sight_to_answer", []).append(
        round(at - page.events[0].at.timestamp(), 4)
    )
    return page.events[0], pid


def _xid(proof: Proof, agent: Agent, name: str) -> None:
    for _ in range(3):
        event, pid = _raised(proof, agent)
        proof.holds("an Xid 31 is answered", event is not None and event.xid == 31, event)
    worst = max(proof.numbers.get("xid_seconds_from_launch_to_answer", [99.0]))
    proof.holds("within 2 s", worst <= LONGEST_XID_SECONDS, worst)
    time.sleep(0.5)
    page = agent.events()
    kept = page.events[-1]
    uuid = agent.node().gpus[0].uuid
    proof.holds("with the GPU's UUID", kept.gpu_uuid == uuid, kept.gpu_uuid)
    proof.holds("by NVML and the kernel's log, as one event", kept.seen_by == ("kernel_log", "nvml"), kept.seen_by)
    proof.holds(
        "with the program's pid and the driver's words", kept.pid == pid and "MMU Fault" in (kept.message or ""), kept
    )
    proof.holds("three faults are three events", [e.xid for e in page.events].count(31) >= 3, len(page.events))
    proof.save(f"agent-{name}-events.json", json.loads(agent.ask("/v1/events?after=0")))
    (proof.out / f"agent-{name}-metrics.txt").write_bytes(agent.ask("/metrics"))
    proof.save(f"kernel-lines-{name}.json", [line for line in _run("dmesg").splitlines() if "NVRM" in line])


def _all_at_once(proof: Proof, agent: Agent) -> None:
    """A fault on each GPU: each is told with its own UUID."""
    gpus = agent.node().gpus
    seen: dict[str | None, str | None] = {}
    for gpu in gpus:
        event, _ = _raised(proof, agent, ordinal=gpu.index)
        seen[gpu.uuid] = event.gpu_uuid if event else None
    proof.holds("each GPU's Xid names that GPU", all(key == value for key, value in seen.items()), seen)


def _restart(proof: Proof, agent: Agent, folder: Path) -> None:
    before = agent.events()
    agent.end(signal.SIGKILL)
    with _agent(folder) as again:
        after = again.events()
        same = [e.id for e in after.events] == [e.id for e in before.events]
        proof.holds("after kill -9 the events are there, once each", same, (len(before.events), len(after.events)))
        event, _ = _raised(proof, again)
        proof.holds("and numbers go on", event is not None and event.seq == before.last_seq + 1, event and event.seq)
        proof.holds("in the same ring", after.ring == before.ring, after.ring)


def _without_kmsg(proof: Proof, agent: Agent) -> None:
    node = agent.node()
    by = node.watching.kernel_log if node.watching else None
    proof.holds("without /dev/kmsg the kernel's log is read by syslog(2)", by == "syslog(2)", node.watching)
    older = agent.events()
    proof.holds("Xids of before the agent are found in it", any(not e.live for e in older.events), len(older.events))
    event, pid = _raised(proof, agent)
    time.sleep(1)
    kept = agent.events().events[-1]
    proof.holds("and a new one is joined to NVML's", kept.seen_by == ("kernel_log", "nvml") and kept.pid == pid, kept)
    proof.holds("that was told first by whichever came first", event is not None, event and event.seen_by)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("var/gpu-proof")))
