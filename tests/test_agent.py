import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pynvml
import pytest
import requests

from bot.agent import Agent
from bot.gpu_readings import Holder
from bot.outbound.kernel_log import KernelLine
from bot.settings import AgentSettings
from sandbox.gpu_agent.nvml import LOST, FakeGpu, FakeNvml, error

TOKEN = {"Authorization": "Bearer secret"}
XID = "NVRM: Xid (PCI:0000:00:06): 31, pid=440, name=python3, MMU Fault: ENGINE GRAPHICS"
UID = "0a1b2c3d-1111-2222-3333-444455556666"


def settings(folder: Path, **more) -> AgentSettings:
    given = {
        "token": "secret",
        "node": "gpu-01",
        "host": "127.0.0.1",
        "port": 0,
        "history": folder / "events.jsonl",
        "pod_resources": None,
        "kmsg": folder / "no-kmsg",
        "patience_seconds": 0.5,
    }
    return AgentSettings(**{**given, **more})


@contextmanager
def running(folder: Path, *gpus: FakeGpu, **more) -> Iterator[Agent]:
    agent = Agent(settings(folder, **more), nvml=FakeNvml(*gpus))
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def ask(agent: Agent, path: str) -> dict:
    answer = requests.get(f"http://127.0.0.1:{agent.port}{path}", headers=TOKEN, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def line(text: str, *, usec: int = 88_000_000, live: bool = True, at: datetime | None = None) -> KernelLine:
    return KernelLine(text, usec, at or datetime.now(UTC), live)


def test_it_tells_its_gpus_over_http(tmp_path):
    with running(tmp_path, FakeGpu("GPU-a"), FakeGpu("GPU-b")) as agent:
        told = ask(agent, "/v1/gpus")
    assert (told["node"], told["driver"], told["problem"]) == ("gpu-01", "580.159.04", None)
    assert [(gpu["uuid"], gpu["state"], gpu["recovery_action"]) for gpu in told["gpus"]] == [
        ("GPU-a", "ok", "none"),
        ("GPU-b", "ok", "none"),
    ]


def test_an_xid_of_nvml_is_told_to_who_waits(tmp_path):
    gpu = FakeGpu("GPU-a")
    with running(tmp_path, gpu) as agent:
        until(lambda: ask(agent, "/v1/gpus")["watching"]["nvml"])
        gpu.xid(79)
        page = ask(agent, "/v1/events?after=0&wait=10")
    (event,) = page["events"]
    assert (event["xid"], event["gpu_uuid"], event["pci"], event["live"]) == (79, "GPU-a", "0000:00:06", True)


def test_a_line_of_the_kernel_joins_nvmls_event_and_adds_the_program(tmp_path):
    gpu = FakeGpu("GPU-a")
    with running(tmp_path, gpu) as agent:
        until(lambda: ask(agent, "/v1/gpus")["watching"]["nvml"])
        gpu.xid(31)
        until(lambda: bool(agent.events().events))
        agent._kernel_line(line(XID))
        (event,) = agent.events().events
    assert (event.pid, event.process, event.seen_by) == (440, "python3", ("kernel_log", "nvml"))


def test_without_nvml_the_kernels_own_word_names_the_gpu(tmp_path):
    with running(tmp_path) as agent:
        agent._kernel_line(line("NVRM: GPU at PCI:0000:00:06: GPU-8128e920-19ed-f13e-6774-229cb9ff00df"))
        agent._kernel_line(line(XID))
        (event,) = agent.events().events
        assert agent.snapshot().problem == "the driver sees no GPU"
    assert event.gpu_uuid == "GPU-8128e920-19ed-f13e-6774-229cb9ff00df"


def test_lines_of_before_are_history_and_belong_to_no_running_process(tmp_path):
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        agent._kernel_line(line(XID, live=False, at=datetime.now(UTC) - timedelta(hours=3)))
        (event,) = agent.events().events
    assert (event.live, event.holders) == (False, ())


def test_events_survive_a_restart_and_old_lines_are_not_told_twice(tmp_path):
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        agent._kernel_line(line(XID))
        before = agent.events()
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        assert [event.id for event in agent.events().events] == [event.id for event in before.events]
        assert agent._kernel_log._after_usec == 88_000_000


def test_a_hanging_gpu_is_an_answer_in_time(tmp_path):
    gpu = FakeGpu("GPU-a")
    with running(tmp_path, gpu, FakeGpu("GPU-b")) as agent:
        release = threading.Event()
        gpu.hangs(release)
        began = time.monotonic()
        told = ask(agent, "/v1/gpus")
        assert time.monotonic() - began < 2
        assert requests.get(f"http://127.0.0.1:{agent.port}/healthz", timeout=1).status_code == 200
        release.set()
    assert [gpu["state"] for gpu in told["gpus"]] == ["silent", "ok"]
    assert told["gpus"][0]["problem"].startswith("NVML did not answer for")


def test_a_lost_gpu_is_an_answer_and_an_event(tmp_path):
    gpu = FakeGpu("GPU-a")
    with running(tmp_path, gpu) as agent:
        until(lambda: ask(agent, "/v1/gpus")["watching"]["nvml"])
        gpu.fails(LOST)
        until(lambda: bool(agent.events().events))
        told = ask(agent, "/v1/gpus")
        (event,) = agent.events().events
    assert (told["gpus"][0]["state"], told["gpus"][0]["uuid"]) == ("lost", "GPU-a")
    assert (event.kind, event.gpu_uuid, event.xid) == ("gpu_lost", "GPU-a", None)


def test_processes_say_whose_a_gpu_is_where_the_kubelet_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr("bot.agent.holder_of_process", lambda pid: Holder(pod_uid=UID) if pid == 663 else None)
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        node = agent.snapshot()
    assert node.holders_by == "processes"
    assert node.holders_problem == "the kubelet is not asked"
    assert node.gpus[0].holders == (Holder(pod_uid=UID),)


def test_how_far_back_it_knows_is_told(tmp_path):
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        watching = agent.snapshot().watching
    assert watching is not None
    assert watching.since <= datetime.now(UTC)
    assert watching.history_problem is None


def test_metrics_are_served(tmp_path):
    with running(tmp_path, FakeGpu("GPU-a")) as agent:
        agent._kernel_line(line(XID))
        answer = requests.get(f"http://127.0.0.1:{agent.port}/metrics", headers=TOKEN, timeout=5)
    assert 'vllm_oncall_gpu_temperature_celsius{gpu="0",model="NVIDIA H100 80GB HBM3"' in answer.text
    assert 'xid="31"' in answer.text


def test_no_driver_is_an_answer(tmp_path):
    def init() -> None:
        raise error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    agent = Agent(settings(tmp_path), nvml=FakeNvml(init=init))
    agent.start()
    try:
        told = ask(agent, "/v1/gpus")
    finally:
        agent.stop()
    assert (told["gpus"], told["watching"]["nvml"]) == ([], False)
    assert told["problem"].startswith("no NVIDIA driver here")


def test_as_a_process_it_starts_answers_and_ends(tmp_path):
    """On whatever machine this is: with a driver or, as most often, without."""
    environment = {
        **os.environ,
        "VLLM_ONCALL_AGENT__TOKEN": "secret",
        "VLLM_ONCALL_AGENT__NODE": "here",
        "VLLM_ONCALL_AGENT__HOST": "127.0.0.1",
        "VLLM_ONCALL_AGENT__PORT": "0",
        "VLLM_ONCALL_AGENT__HISTORY": str(tmp_path / "events.jsonl"),
    }
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "bot.agent"], env=environment, stdout=out, stderr=out)
    try:
        until(lambda: '"event": "ready"' in log.read_text(), 30)
        ready = next(json.loads(one) for one in log.read_text().splitlines() if '"event": "ready"' in one)
        url = f"http://127.0.0.1:{ready['port']}/v1/gpus"
        assert requests.get(url, headers=TOKEN, timeout=10).json()["node"] == "here"
        assert requests.get(url, timeout=10).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_node_must_be_named(monkeypatch):
    monkeypatch.delenv("VLLM_ONCALL_AGENT__NODE", raising=False)
    with pytest.raises(ValueError, match="node"):
        AgentSettings()
