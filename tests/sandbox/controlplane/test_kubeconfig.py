import json
from pathlib import Path

from sandbox.controlplane.kubeconfig import certificate_user, write_kubeconfig


def test_only_its_owner_reads_the_file_and_it_names_server_and_user(tmp_path: Path) -> None:
    path = write_kubeconfig(
        tmp_path / "config", server="https://127.0.0.1:1", ca=tmp_path / "ca.crt", user={"token": "secret"}
    )
    assert path.stat().st_mode & 0o077 == 0
    config = json.loads(path.read_text())
    assert config["users"][0]["user"] == {"token": "secret"}
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"


def test_a_certificate_is_named_by_its_files() -> None:
    assert certificate_user(Path("/a.crt"), Path("/a.key")) == {
        "client-certificate": "/a.crt",
        "client-key": "/a.key",
    }
