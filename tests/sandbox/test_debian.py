from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox import debian

STATUS = """\
Package: prometheus
Status: install ok installed
Version: 2.42.0

Package: chromium
Status: deinstall ok config-files
Version: 156

Package: postgresql
Essential: no
Status: install ok installed
"""


def test_a_removed_package_is_missing_and_an_installed_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text(STATUS)
    monkeypatch.setattr(debian, "_STATUS", status)
    absent = debian.missing()
    assert "chromium" in absent and "prometheus-alertmanager" in absent
    assert "prometheus" not in absent and "postgresql" not in absent


def test_another_system_is_told_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_STATUS", tmp_path / "none")
    with pytest.raises(debian.DebianError, match=r"not Debian.*prometheus-alertmanager"):
        debian.missing()


def test_without_root_nothing_runs_and_the_command_to_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    ran: list[Sequence[str]] = []
    with pytest.raises(debian.DebianError, match="apt-get install -y --no-install-recommends chromium postgresql"):
        debian.install(["chromium", "postgresql"], ran.append)
    assert ran == []


def test_daemons_are_forbidden_while_packages_are_installed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "_POLICY", policy)
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    seen: list[tuple[str, bool]] = []
    debian.install(["prometheus"], lambda command: seen.append((command[-1], policy.exists())))
    assert seen[:2] == [("update", False), ("prometheus", True)]
    assert not policy.exists()


def test_a_policy_of_the_machine_s_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    monkeypatch.setattr(debian, "_POLICY", policy)
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    debian.install(["prometheus"], lambda command: None)
    assert policy.read_text() == "theirs"
