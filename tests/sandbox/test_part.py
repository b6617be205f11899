import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox.addresses import free_pod_network
from sandbox.part import Part, PartError


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def eventually(question, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.02)
    return False


def sleeper(tmp_path: Path, **more) -> Part:
    return Part("sleeper", ["sleep", "60"], log=tmp_path / "sleeper.log", ready=lambda: True, **more)


def test_a_part_is_alive_until_it_is_stopped(tmp_path):
    with sleeper(tmp_path) as part:
        pid = part.pid
        assert part.alive
    assert gone(pid)


def test_a_part_that_ends_while_starting_shows_the_end_of_its_log(tmp_path):
    part = Part("liar", ["sh", "-c", "echo no such flag; exit 2"], log=tmp_path / "liar.log", ready=lambda: False)
    with pytest.raises(PartError, match="no such flag"):
        part.start()


def test_a_part_that_never_gets_ready_is_an_error(tmp_path):
    part = Part("slow", ["sleep", "60"], log=tmp_path / "slow.log", ready=lambda: False, ready_seconds=0.3)
    with pytest.raises(PartError, match="not ready after"):
        part.start()
    part.stop()


def grows(log: Path, seconds: float) -> bool:
    size = log.stat().st_size
    return eventually(lambda: log.stat().st_size > size, seconds)


def test_a_frozen_part_stands_still_as_soon_as_that_is_said(tmp_path):
    counts = "import time\nwhile True: print(time.monotonic(), flush=True)"
    with Part("busy", [sys.executable, "-c", counts], log=tmp_path / "busy.log", ready=lambda: True) as part:
        for _ in range(10):
            assert grows(part.log, seconds=5)
            part.freeze()
            assert not grows(part.log, seconds=0.05)
            part.thaw()


def test_a_frozen_part_can_still_be_stopped(tmp_path):
    part = sleeper(tmp_path).start()
    part.freeze()
    part.stop()
    assert not part.alive


def test_a_part_outlives_the_thread_that_started_it(tmp_path):
    part = sleeper(tmp_path)
    thread = threading.Thread(target=part.start)
    thread.start()
    thread.join()
    assert not eventually(lambda: not part.alive, seconds=0.5)
    part.stop()


def test_a_part_is_gone_when_its_parent_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from sandbox.part import Part\n"
        "part = Part('s', ['sleep', '60'], log=pathlib.Path(sys.argv[1]), ready=lambda: True).start()\n"
        "print(part.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s.log")], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert eventually(lambda: gone(pid))


def test_two_pod_networks_never_share_a_range():
    first, second = free_pod_network(), free_pod_network()
    assert first.cidr != second.cidr
    first.release()
    second.release()
