"""What all rows share: a control plane, the simulated fleet on it (or not), Prometheus, and the bot's side."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from sandbox.controlplane.cluster import Cluster
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.fault_table.bot_side import BotSide
from sandbox.fleet.control import Fleet
from sandbox.prometheus import Job, Prometheus
from sandbox.started import Started


class Ground(Started):
    """`token_file`: of the bot's account. The control plane is somebody else's to start and stop."""

    def __init__(self, folder: Path, control_plane: ControlPlane, token_file: Path, *, simulate: bool = True) -> None:
        self.folder = folder
        self.control_plane = control_plane
        self.cluster = Cluster(control_plane)
        self.fleet = Fleet(folder / "fleet", control_plane.admin_kubeconfig) if simulate else None
        self._token_file = token_file
        self._stack = ExitStack()
        self.prometheus = Prometheus(folder / "prometheus", self.jobs())
        self._bot: BotSide | None = None
        # One at a time: a real server's target joins the jobs of the others.
        self.reloading = threading.Lock()

    def jobs(self, more: Mapping[str, Any] | None = None) -> list[Job]:
        """The scrape jobs for the fleet; `more` keys of each, as Prometheus spells them."""
        if self.fleet is None:
            return []
        given = dict(more or {})
        return [
            Job("vllm", http_sd_url=self.fleet.vllm_sd_url, more=given),
            Job("dcgm-exporter", http_sd_url=self.fleet.dcgm_sd_url, more={"honor_labels": True, **given}),
        ]

    @property
    def bot(self) -> BotSide:
        if self._bot is None:
            raise RuntimeError("the ground has not been started")
        return self._bot

    def start(self) -> Self:
        if self.fleet is not None:
            self._stack.enter_context(self.fleet)
        self._stack.enter_context(self.prometheus)
        self._bot = BotSide(
            self.folder / "bot",
            prometheus_url=self.prometheus.url,
            kubernetes_url=self.control_plane.url,
            ca=self.control_plane.ca,
            token_file=self._token_file,
        )
        self._stack.callback(self._bot.close)
        return self

    def stop(self) -> None:
        self._stack.close()
