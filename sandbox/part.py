"""One child process of the sandbox: started, awaited, logged, ended by its pid, and gone when its parent dies."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import requests

from sandbox.started import Started

# PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process. So one thread, which lives as long as the
# interpreter, forks every child; a pool's worker that starts a part and ends would otherwise take the part with it.
_launcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-launcher")

_STANDSTILL_SECONDS = 10.0  # the signal is on its way for longer where the cores are busy


class PartError(RuntimeError):
    """A part did not start, or ended by itself. The text carries the end of its log."""


class Part(Started):
    """A process with a log file. `ready` is polled until it returns true; exceptions in it mean "not yet"."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        ready: Callable[[], bool],
        ready_seconds: float = 90,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._ready = ready
        self._ready_seconds = ready_seconds
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise PartError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it."""
        if self.alive:
            raise PartError(f"{self.name} runs already (pid {self.pid})")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = _launcher.submit(self._fork).result()

    def _fork(self) -> subprocess.Popen[bytes]:
        wrapper = ["setpriv", "--pdeathsig", "KILL"]
        if self._user is not None:
            wrapper += [f"--reuid={self._user}", f"--regid={self._user}", "--init-groups"]
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [*wrapper, "--", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C in the terminal is for the demo, which ends its parts in order
            )

    def wait_ready(self) -> None:
        """Block until ready. Raises PartError with the end of the log if the process ends or time runs out."""
        deadline = time.monotonic() + self._ready_seconds
        while True:
            if not self.alive:
                raise PartError(f"{self.name} ended while starting.\n{self.tail()}")
            try:
                if self._ready():
                    return
            except (OSError, requests.RequestException, ValueError):
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise PartError(f"{self.name} was not ready after {self._ready_seconds:.0f} s.\n{self.tail()}")
            time.sleep(0.05)

    def start(self) -> Self:
        self.launch()
        self.wait_ready()
        return self

    def stop(self) -> None:
        """End it politely, and after `stop_seconds` for good. Does nothing if it is not running."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)  # a frozen process would not hear the polite signal
        process.send_signal(self._stop_signal)
        try:
            process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its sockets and answers nothing. Returns when each of its threads stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + _STANDSTILL_SECONDS
        while not _stands_still(self.pid):
            if time.monotonic() > deadline:
                raise PartError(f"{self.name} still runs {_STANDSTILL_SECONDS:.0f} s after SIGSTOP")
            time.sleep(0.001)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, seconds: float) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        if self._process is None:
            raise PartError(f"{self.name} has not been started")
        return self._process.wait(seconds)

    def tail(self, lines: int = 30) -> str:
        """The end of the log, for a person."""
        if not self.log.exists():
            return f"(no log at {self.log})"
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- last lines of {self.log} ---", *text[-lines:]])


def answers(url: str, *, status: int = 200, verify: bool | str = True) -> Callable[[], bool]:
    """A readiness question: does GET `url` answer with `status`?"""
    return lambda: requests.get(url, timeout=2, verify=verify).status_code == status


def _stands_still(pid: int) -> bool:
    """Do all of the process's threads? The first may hear the signal while another still answers."""
    return all(_state(task) in ("T", "") for task in Path(f"/proc/{pid}/task").iterdir())


def _state(task: Path) -> str:
    """One letter; none if the thread is gone."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
