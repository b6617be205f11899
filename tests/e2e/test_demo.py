"""`make demo` without its set-up: it says where Slack is, stays, and leaves nothing behind at Ctrl-C. What its script
plays is what `test_stories.py` plays."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def children(pid: int) -> set[int]:
    """All processes that descend from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # gone meanwhile
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def commands(pids: set[int]) -> list[str]:
    """Of those that live still (a zombie has none)."""
    lines = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return [told for line in lines if line.exists() and (told := line.read_text().replace("\0", " ").strip())]


@pytest.mark.timeout(240)
def test_the_demo_shows_where_slack_is_and_leaves_nothing_behind() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "demo"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    impatient = threading.Timer(150, demo.kill)  # a line that never comes must not block the test
    impatient.start()
    try:
        told = ""
        assert demo.stdout is not None
        for line in demo.stdout:
            told += line
            if "Ctrl-C ends everything" in line:
                break
        assert re.search(r"Slack is open at +http://127\.0\.0\.1:\d+/\?as=alice", told), told
        assert len(re.findall(r"^ +[123]\. ", told, re.MULTILINE)) == 3, told
        started = children(demo.pid)
        assert len(started) > 8
        os.kill(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
        assert demo.returncode == 0, told + rest
        assert "Traceback" not in rest
        assert commands(started) == []
    finally:
        impatient.cancel()
        demo.kill()
