"""What vllm-doctor, a public tool for the same purpose, says about the same server. In an environment of its own."""

import json
import subprocess
from pathlib import Path

from sandbox.cache import cache_folder, from_pypi

REQUIREMENT = "vllm-doctor==0.6.0"
_NAME = "vllm-doctor"
_SECONDS = 30


def program() -> Path:
    """Installs it into the user's cache the first time (some 10 s). Raises RuntimeError with pip's own words."""
    from_pypi(_NAME, REQUIREMENT)
    return cache_folder() / _NAME / "bin" / _NAME


def asked(metrics_url: str) -> str:
    """Its findings by severity, in its own words for its rules; or why it has none."""
    try:
        answer = subprocess.run(
            [program(), "diagnose", metrics_url, "--output", "json"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_SECONDS} s"
    if answer.returncode != 0:
        return "cannot read the server"
    report = json.loads(answer.stdout)
    found = [f"{check['id']} ({check['finding']['severity']})" for check in report["checks"] if check["finding"]]
    return ", ".join(found) or "ok"
