"""One real vLLM server: an API process, an engine process and its worker, found by their names, hurt one by one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import requests

from sandbox.part import Part, PartError, answers
from sandbox.real_vllm import install
from sandbox.started import Started

READY_SECONDS = 240.0  # some 30 s on an idle machine of two cores
# Nothing is fetched, nothing is reported, nothing is bound but loopback.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "TOKENIZERS_PARALLELISM": "false",
}

# Engine and worker outlive an API process that was killed, and hold a gigabyte each. They are of its process group, and
# this ends the group when the pipe is closed: by `stop`, or because whoever started it is gone, however that happened.
_GUARD = """
import os, signal, sys
sys.stdin.buffer.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class VllmServer(Started):
    """`arguments` are what follows `vllm serve`, as a pod would give them; where it listens is added."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        host: str,
        port: int,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.url = f"http://{host}:{port}"
        command = [str(install.python()), "-m", "vllm.entrypoints.cli.main", "serve", *arguments]
        self.part = Part(
            "vllm",
            [*command, "--host", host, "--port", str(port)],
            log=folder / "vllm.log",
            ready=answers(f"{self.url}/health"),
            ready_seconds=READY_SECONDS,
            env={**_OFFLINE, **(env or {})},
            stop_seconds=15,
        )
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def log_lines(self) -> list[str]:
        """What `kubectl logs` would show."""
        return self.part.log.read_text(errors="replace").splitlines() if self.part.log.exists() else []

    def start(self) -> Self:
        self.launch()
        self.part.wait_ready()
        return self

    def launch(self) -> None:
        """Without waiting for it: it may refuse its arguments, which is what is asked then."""
        self.part.launch()
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(self.part.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )

    def stop(self) -> None:
        """Its children too, frozen ones first thawed."""
        with suppress(PartError):
            for pid in (self.part.pid, *_descendants(self.part.pid)):
                _send(pid, signal.SIGCONT)
            self.part.stop()
        if self._guard is not None:
            self._guard.communicate()  # closes its pipe, and waits until it has done its work
            self._guard = None

    def wait_until_it_ends(self, seconds: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self.part.wait(seconds)

    # ------------------------------------------------------------------------------------------- hurting it

    def freeze_worker(self) -> None:
        """SIGSTOP: as a worker that hangs in a kernel or a collective."""
        _send(self._worker(), signal.SIGSTOP)

    def thaw_worker(self) -> None:
        _send(self._worker(), signal.SIGCONT)

    def kill_worker(self) -> None:
        """SIGKILL, as the kernel's OOM killer does."""
        _send(self._worker(), signal.SIGKILL)

    def freeze_core(self) -> None:
        """SIGSTOP to the process that schedules: worker and API live, and have nothing to say to each other."""
        _send(self._core(), signal.SIGSTOP)

    def thaw_core(self) -> None:
        _send(self._core(), signal.SIGCONT)

    def kill_core(self) -> None:
        _send(self._core(), signal.SIGKILL)

    def freeze_api(self) -> None:
        """SIGSTOP to the process that listens: connections are accepted by the kernel, and nobody answers."""
        _send(self.part.pid, signal.SIGSTOP)

    def thaw_api(self) -> None:
        _send(self.part.pid, signal.SIGCONT)

    def sleep(self, level: int = 1) -> None:
        """vLLM's sleep mode; the server must run with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode."""
        requests.post(f"{self.url}/sleep", params={"level": str(level)}, timeout=30).raise_for_status()

    def pause(self) -> None:
        """No request is worked on any more, and every page goes on answering. Needs VLLM_SERVER_DEV_MODE=1."""
        requests.post(f"{self.url}/pause", timeout=30).raise_for_status()

    def wake(self) -> None:
        for path in ("wake_up", "resume"):
            requests.post(f"{self.url}/{path}", timeout=60).raise_for_status()

    def _worker(self) -> int:
        return self._named("VLLM::Worker")

    def _core(self) -> int:
        return self._named("VLLM::EngineCore")

    def _named(self, name: str) -> int:
        deadline = time.monotonic() + 10
        while True:
            found = [pid for pid in _descendants(self.part.pid) if _title(pid).startswith(name)]
            if found:
                return found[0]
            if time.monotonic() > deadline:
                titles = [_title(pid) for pid in _descendants(self.part.pid)]
                raise PartError(f"the vLLM server has no process {name}, only {titles}")
            time.sleep(0.05)


def _descendants(pid: int) -> Iterator[int]:
    """Children, their children and so on; frozen ones too."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _title(pid: int) -> str:
    """What `ps` shows: vLLM's processes give themselves names."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
