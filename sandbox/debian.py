"""The programs that come from Debian: which are missing, and how they are installed. Standard library only."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PACKAGES = (
    "prometheus",
    "prometheus-alertmanager",
    "postgresql",
    "chromium",
    "fonts-noto-color-emoji",  # without it every emoji of a screenshot is a box
    "fonts-dejavu-core",
    "python3-venv",
    "util-linux",  # setpriv: a part dies with its parent
)
_STATUS = Path("/var/lib/dpkg/status")
_POLICY = Path("/usr/sbin/policy-rc.d")
Run = Callable[[Sequence[str]], None]


class DebianError(RuntimeError):
    """What is missing cannot be installed from here; the text says what to do by hand."""


def missing() -> list[str]:
    """Packages that are not installed. Raises DebianError on another system."""
    if not _STATUS.exists():
        raise DebianError(
            f"This is not Debian. The sandbox uses Debian's builds of {', '.join(PACKAGES[:4])}: run it in Debian 12."
        )
    # The file itself, since starting dpkg-query takes longer than all the rest of a set-up that has nothing to do.
    installed = set()
    for paragraph in _STATUS.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        name, _, rest = paragraph.removeprefix("Package: ").partition("\n")
        if rest.startswith("Status: install ok installed") or "\nStatus: install ok installed" in rest:
            installed.add(name)
    return [package for package in PACKAGES if package not in installed]


def by_hand(packages: Sequence[str]) -> str:
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"


def install(packages: Sequence[str], run: Run) -> None:
    """Install them without starting what they bring along; `run` runs one command and raises if it fails."""
    if os.geteuid() != 0:
        raise DebianError(f"Only root can install Debian packages. Run this, then try again:\n  {by_hand(packages)}")
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
    apt = [*quiet, "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"])
    with _no_daemon_starts():
        run([*apt, "install", "-y", "--no-install-recommends", *packages])
    if Path("/run/systemd/system").exists():
        daemons = [package for package in packages if package.startswith(("prometheus", "postgresql"))]
        if daemons:
            # Nor at the next boot: the sandbox starts its own, on free ports.
            run(["systemctl", "disable", "--quiet", *daemons])


@contextmanager
def _no_daemon_starts() -> Iterator[None]:
    """Debian's packages start their daemons unless this file forbids it. One that is there already is left alone."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
