"""Where what is built or downloaded for the sandbox is kept, once for all clones of a user. Standard library only."""

import os
import subprocess
import venv
from pathlib import Path


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vllm-oncall"


def from_pypi(name: str, requirement: str) -> Path:
    """The site-packages of a virtual environment in the cache that holds one package: a toolchain the machine lacks.

    Raises RuntimeError with pip's own words.
    """
    folder = cache_folder() / name
    done = folder / f".{requirement}"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        if pip.returncode != 0:
            raise RuntimeError(f"pip could not install {requirement}:\n{pip.stderr[-2000:]}")
        done.touch()
    (packages,) = folder.glob("lib/python3*/site-packages")
    return packages
