import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox import debian, install
from sandbox.install import Step, StepError

ROOT = Path(__file__).parents[2]


def test_when_all_is_there_it_says_nothing_and_takes_no_time() -> None:
    assert [step.name for step in install.steps() if not step.is_done()] == [], "run `make setup` first"
    took = []
    for _ in range(3):
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.install"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        took.append(time.monotonic() - begin)
    assert min(took) < 1, took  # 0.1 s alone on a machine; the quickest, as a busy one adds to the others


def test_it_needs_nothing_but_the_standard_library() -> None:
    listing = "import sys, sandbox.install; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    modules = subprocess.run(
        [sys.executable, "-S", "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(modules) - set(sys.stdlib_module_names) - {"__main__", "sandbox"} == set()


def test_steps_run_side_by_side() -> None:
    together = threading.Barrier(2)
    steps = [_step("a", lambda _: _wait(together)), _step("b", lambda _: _wait(together))]
    assert install.run(steps, lambda name, line: None) == []


def test_a_failed_step_shows_its_reason_and_stops_no_other() -> None:
    said: list[str] = []
    ran: list[str] = []

    def fails(_: object) -> None:
        raise StepError("no network")

    steps = [_step("a", fails), _step("b", lambda _: ran.append("b"))]
    assert install.run(steps, lambda name, line: said.append(f"{name}: {line}")) == ["a"]
    assert "a: FAILED: no network" in said
    assert ran == ["b"]


def test_a_step_that_needs_debian_s_packages_begins_after_them_and_not_without_them() -> None:
    order: list[str] = []

    def installs(_: object) -> None:
        time.sleep(0.1)  # long enough for the other to begin, if it did not wait
        order.append("debian")

    steps = [_step("python", lambda _: order.append("python"), needs_debian=True), _step("debian", installs)]
    assert install.run(steps, lambda name, line: None) == []
    assert order == ["debian", "python"]

    def fails(_: object) -> None:
        raise debian.DebianError("no mirror")

    order.clear()
    steps = [steps[0], _step("debian", fails)]
    assert install.run(steps, lambda name, line: None) == ["python", "debian"]
    assert order == []


def test_a_failed_command_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOGS", tmp_path / "logs")
    command = [sys.executable, "-c", "print('first'); print('the reason'); raise SystemExit(3)"]
    with pytest.raises(StepError, match=r"(?s)ended with 3.*logs/x\.log.*the reason"):
        install._logged("x", command)


def test_without_root_it_names_what_is_missing_and_the_command_and_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian, "missing", lambda: ["chromium"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install, "steps", lambda: pytest.fail("no step may begin"))
    assert install.main() == 1
    said = capsys.readouterr().err
    assert "Missing Debian packages: chromium." in said
    assert "apt-get install -y --no-install-recommends chromium" in said


def _step(name: str, run: install.Callable[[install.Say], None], *, needs_debian: bool = False) -> Step:
    return Step(name, "1 s", lambda: False, run, needs_debian)


def _wait(barrier: threading.Barrier) -> None:
    barrier.wait(timeout=5)
