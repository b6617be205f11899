"""The processes of a server, played by shells: the real ones are in `make faults`."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from sandbox.part import PartError
from sandbox.real_vllm import install
from sandbox.real_vllm.server import VllmServer

# An API process that starts an engine that starts a worker, named as vLLM names them.
FAMILY = """#!{python}
import subprocess, sys, time
role = sys.argv[-1]
if role != "worker":
    child = "worker" if role == "engine" else "engine"
    name = "VLLM::Worker" if child == "worker" else "VLLM::EngineCore"
    subprocess.Popen([name, __file__, child], executable="{python}")
time.sleep(300)
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(FAMILY.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(install, "python", lambda: program)
    made = VllmServer(tmp_path, ["model"], host="127.0.0.1", port=1)
    made.launch()
    yield made
    made.stop()


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def eventually(question):
    deadline = time.monotonic() + 10
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_worker_alone_is_frozen_and_thawed(server):
    worker = server._worker()
    server.freeze_worker()
    eventually(lambda: state(worker) == "T")
    assert state(server.part.pid) != "T"
    server.thaw_worker()
    eventually(lambda: state(worker) == "S")


def test_no_process_is_left_behind_not_even_a_frozen_one(server):
    worker = server._worker()
    server.freeze_worker()
    server.stop()
    eventually(lambda: state(worker) in ("gone", "Z"))


def test_children_do_not_outlive_whoever_started_the_server(server):
    """As when the whole run is killed: the pipe to the guard is closed, and the API process dies with its parent."""
    worker = server._worker()
    server.freeze_worker()
    os.kill(server.part.pid, signal.SIGKILL)
    eventually(lambda: not server.part.alive)
    assert state(worker) == "T"
    server._guard.stdin.close()
    eventually(lambda: state(worker) in ("gone", "Z"))


def test_a_killed_worker_is_gone_and_the_others_live(server):
    worker = server._worker()
    server.kill_worker()
    eventually(lambda: state(worker) in ("gone", "Z"))
    assert server.part.alive


def test_a_server_that_ended_has_no_worker_to_hurt(server):
    os.kill(server.part.pid, signal.SIGKILL)
    eventually(lambda: not server.part.alive)
    with pytest.raises(PartError, match="has no process VLLM::Worker"):
        server.freeze_worker()
