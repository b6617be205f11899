"""The bot as its users run it: a process of its own, told everything by its environment, with its own account."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sandbox.addresses import free_port
from sandbox.part import Part, answers

INTAKE_TOKEN = "sandbox-intake"
# Seconds where production has minutes: a story has to fit into a test. Nothing else differs.
QUICK = {
    "PROMETHEUS__WINDOW_SECONDS": "10",
    "TIMING__HOLD_DOWN_SECONDS": "20",
    "TIMING__JOIN_WINDOW_SECONDS": "120",
    "TIMING__BURN_INTERVAL_SECONDS": "10",
    "TIMING__SILENT_SECONDS": "30",
    "REMEDIATION__POLL_SECONDS": "0.5",
}


class Bot(Part):
    """`webhook_url` takes alerts as soon as it is ready; ready means that it leads, or stands by."""

    def __init__(
        self,
        folder: Path,
        fleet: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        database_url: str | None = None,
        port: int | None = None,
        name: str = "bot",
        program: Sequence[str] = ("-m", "bot"),
    ) -> None:
        """`program`: how Python is told to run it. A test may wrap the bot in a program of its own."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.webhook_url = f"{self.url}/alertmanager"
        self.folder = folder
        self._environment = dict(environment)
        self._database_url = database_url
        self._program = program
        self._fleet = fleet
        self._fleet_file = folder / "fleet.yaml"
        given = {
            "FLEET": str(self._fleet_file),
            "DATABASE_URL": database_url or f"sqlite:///{folder / 'oncall.sqlite'}",
            "INTAKE__HOST": "127.0.0.1",
            "INTAKE__PORT": str(self.port),
            "INTAKE__TOKEN": INTAKE_TOKEN,
            "NODE": "outside",  # it runs on none of the cluster's nodes, so it may change each of them
            **QUICK,
            **environment,
        }
        super().__init__(
            name,
            [sys.executable, *program, "run"],
            log=folder / f"{name}.log",
            ready=answers(f"{self.url}/readyz"),
            env={f"VLLM_ONCALL_{key}": value for key, value in given.items()},
            cwd=Path(__file__).parent.parent,
        )

    def twin(self, name: str) -> "Bot":
        """A second replica: the same settings and database (which must not be SQLite's default), another port."""
        url = self._database_url
        return Bot(self.folder, self._fleet, self._environment, database_url=url, name=name, program=self._program)

    def command(self, *words: str) -> str:
        """What `vllm-oncall …` says in a terminal with the same settings, mistakes included."""
        done = subprocess.run(
            [sys.executable, *self._program, *words],
            env=self._env,
            cwd=self._cwd,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._fleet_file.open("w") as file:
            YAML().dump(self._fleet, file)
        super().launch()
