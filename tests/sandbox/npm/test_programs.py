import json
import stat
from pathlib import Path

import pytest

from sandbox.npm import programs


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fake_npm(folder: Path, script: str) -> str:
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


MAKES_IT = (
    "mkdir -p node_modules/local-slack-linux-x64/bin; echo x > node_modules/local-slack-linux-x64/bin/local-slack"
)


def test_it_is_installed_once_and_found(cache: Path):
    said: list[str] = []
    programs.install(said.append, fake_npm(cache, MAKES_IT))
    programs.install(said.append, fake_npm(cache, "exit 1"))
    assert programs.local_slack().read_text() == "x\n"
    assert len(said) == 1


def test_before_it_is_installed_one_is_told_how(cache: Path):
    assert not programs.is_installed()
    with pytest.raises(programs.NpmError, match=r"python3 -m sandbox\.npm\.programs"):
        programs.local_slack()


def test_a_failed_install_leaves_nothing_and_shows_npms_words(cache: Path):
    with pytest.raises(programs.NpmError, match="no such package"):
        programs.install(lambda text: None, fake_npm(cache, "echo no such package >&2; exit 1"))
    assert not programs.is_installed()
    assert list((cache / "vllm-oncall").glob("npm-*")) == []


def test_the_lock_file_names_no_address():
    lock = json.loads((Path(programs.__file__).parent / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
    assert all(package.get("integrity") for name, package in lock["packages"].items() if name)
