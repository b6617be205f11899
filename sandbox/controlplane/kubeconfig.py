"""Kubeconfig files: who somebody is, and where the API server is."""

import json
from pathlib import Path
from typing import Any


def write_kubeconfig(path: Path, *, server: str, ca: Path, user: dict[str, Any]) -> Path:
    """`user` as a kubeconfig spells it: {"token": …} or {"client-certificate": …, "client-key": …}."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
        "clusters": [{"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "sandbox", "user": user}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return path


def certificate_user(certificate: Path, key: Path) -> dict[str, Any]:
    return {"client-certificate": str(certificate), "client-key": str(key)}
