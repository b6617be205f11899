import subprocess
import sys

from sandbox.bench.__main__ import MEASURES


def test_a_measure_that_is_not_there_is_named_beside_those_that_are():
    asked = [sys.executable, "-m", "sandbox.bench", "round", "lunch"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 2
    assert f"no measure lunch; there are {', '.join(MEASURES)}" in told.stderr
    assert not told.stdout, "it began to measure"
