import ctypes
import subprocess
import sys

import pytest

from bot.gpu_readings import Gpu, GpuNode
from sandbox.gpu_proof.__main__ import NOTHING_PROVED, Proof, _name, _spread
from tests.fakes import NOW


def has_gpu() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_gpu(), reason="there is an NVIDIA GPU here: run python -m sandbox.gpu_proof itself")
def test_without_a_gpu_nothing_is_proved_and_it_says_so(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "sandbox.gpu_proof", str(tmp_path / "out")], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == NOTHING_PROVED, ran.stderr
    assert ran.stdout == "skipped: there is no NVIDIA GPU here (no libcuda.so.1). Nothing was proved.\n"
    assert not (tmp_path / "out").exists()


def test_what_does_not_hold_is_kept(tmp_path, capsys):
    proof = Proof(tmp_path)
    proof.holds("the first", True, 3)
    proof.holds("the second", False, "seen")
    assert proof.wrong == ["the second: seen"]
    assert capsys.readouterr().out == "ok    the first: 3\nWRONG the second: seen\n"


def test_records_are_named_by_the_model_and_the_number_of_gpus():
    node = GpuNode("n", NOW, (Gpu(0, name="NVIDIA H100 80GB HBM3"), Gpu(1)))
    assert (_name(node), _name(GpuNode("n", NOW))) == ("h100-x2", "gpu-x0")


def test_times_are_told_in_milliseconds():
    assert _spread([0.002] * 50) == {"p50": 2.0, "p95": 2.0, "max": 2.0}
