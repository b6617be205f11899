"""No Docker engine is needed: the Dockerfile's steps are replayed in a clean folder, and the image's user runs it."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def instructions() -> list[Instruction]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [Instruction(*line.split(" ", 1)) for line in lines]


class Image:
    """A folder that plays the image's root: absolute paths of the steps are moved below it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment: dict[str, str] = {}
        self.workdir = root
        self.user: str | None = None
        self.entrypoint: list[str] = []

    def inside(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(app|opt)(?=[/\s]|$)", rf"{self.root}/\1", text)

    def replay(self, step: Instruction) -> None:
        match step.word:
            case "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(step.rest))
            case "WORKDIR":
                self.workdir = Path(self.inside(step.rest))
                self.workdir.mkdir(parents=True)
            case "COPY":
                source, target = step.rest.split()
                put = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                put(ROOT / source, self.workdir / target)
            case "RUN":
                # The cache is a build's own business; here pip's usual one serves.
                command = re.sub(r"--(mount|cache-dir)=\S+ ?", "", step.rest)
                self.run(["sh", "-ec", self.inside(command)])
            case "USER":
                self.user = step.rest
            case "ENTRYPOINT":
                self.entrypoint = [self.inside(word.strip('" ')) for word in step.rest.strip("[]").split(",")]
            case "FROM" | "CMD":
                pass
            case other:
                raise AssertionError(f"this test does not know how to replay {other}")

    def run(self, argv: list[str], *, as_user: bool = False) -> str:
        if as_user and os.getuid() == 0:
            assert self.user is not None
            uid, gid = self.user.split(":")
            argv = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--", *argv]
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **self.environment}
        environment |= {
            k: v for k, v in os.environ.items() if k.lower().startswith(("pip_", "https_", "ssl_", "requests_"))
        }
        done = subprocess.run(argv, cwd=self.workdir, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def image():
    with tempfile.TemporaryDirectory(prefix="vllm-oncall-image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        image = Image(root)
        for step in instructions():
            image.replay(step)
        yield image


@pytest.mark.timeout(600)
def test_the_image_runs_as_a_user_without_rights(image):
    assert image.user is not None and not image.user.startswith(("0", "root"))
    told = image.run([*image.entrypoint, "--help"], as_user=True)
    assert "diagnose" in told and "check" in told


@pytest.mark.timeout(600)
def test_the_image_holds_the_locked_versions(image):
    python = image.entrypoint[0]
    there = dict(
        line.split("==")
        for line in image.run([python, "-m", "pip", "freeze"]).lower().replace("_", "-").splitlines()
        if "==" in line
    )
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for package in ("slack-bolt", "kubernetes", "dbos", "sqlalchemy"):
        assert there[package] == locked[package]


@pytest.mark.timeout(600)
def test_the_images_runbooks_have_no_mistake(image):
    assert "no mistakes" in image.run([*image.entrypoint, "check"], as_user=True)
