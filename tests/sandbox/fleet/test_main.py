"""The command line of the process; what it does once it runs is in test_control."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_wrong_configuration_ends_it_at_once_and_names_the_word(tmp_path: Path):
    config = tmp_path / "fleet.yaml"
    config.write_text("faults:\n  slow:\n    match: {}\n    effect: {slowdwon: 4}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox.fleet", "--kubeconfig", "none", "--control-port", "1", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "faults.slow.effect.slowdwon" in ended.stderr
