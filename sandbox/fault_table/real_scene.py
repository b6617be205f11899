"""Rows on a real vLLM. The server listens on the address of a pod of the real API server, and the kubelet says of that
pod what is true of the process: ready when it answers, ended when it has ended, with its own exit code and log."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import requests

from sandbox.controlplane.api import ApiError
from sandbox.controlplane.cluster import VllmDeployment
from sandbox.fault_table.ground import Ground
from sandbox.fault_table.outcome import NotShownError, Outcome
from sandbox.fault_table.rows import Requests as WantedRequests
from sandbox.fault_table.rows import Row, Server
from sandbox.fault_table.scene import SERVICE, PinnedDeployment, Scene
from sandbox.part import PartError
from sandbox.prometheus import Job
from sandbox.real_vllm import model
from sandbox.real_vllm.load import Requests
from sandbox.real_vllm.server import VllmServer

_PORT = 8000
_COLD_START_SECONDS = 86_400.0  # readiness is what the process shows, not what kwok thinks
_END_SECONDS = 240.0  # of a start that fails, on a busy machine
_NODE_SECONDS = 20.0
_CALM_SECONDS = 12
_CALM_WAIT_SECONDS = 90.0
IMAGE = "vllm/vllm-openai-cpu:v0.32.0"


class RealServer:
    """A deployment of one pod and the process that is this pod."""

    def __init__(self, ground: Ground, name: str, wanted: Server) -> None:
        self.ground = ground
        self.name = name
        self.wanted = wanted
        self.namespace = f"real-{name}"
        self.node = f"cpu-{name}"
        self.folder = ground.folder / "real" / name
        self.vllm: VllmServer | None = None
        self._stack = ExitStack()
        size = model.Size(hidden=wanted.hidden, layers=wanted.layers, context=wanted.context)
        self.model = str(model.write(self.folder / "model", size))

    @property
    def process(self) -> VllmServer:
        if self.vllm is None:
            raise LookupError(f"no vLLM runs as {self.name}")
        return self.vllm

    def start(self) -> None:
        """Ready and scraped; or ended, where it is meant to."""
        api, cluster = self.ground.control_plane.api, self.ground.cluster
        api.create(_cpu_node(self.node, self.name))
        self._stack.callback(cluster.remove_node, self.node)
        deployment = self._deployment()
        cluster.deploy(deployment)
        self._stack.callback(cluster.delete_namespace, self.namespace)
        pod = self._scheduled()
        self.vllm = VllmServer(
            self.folder, deployment.arguments, host=pod["status"]["podIP"], port=_PORT, env=self.wanted.env
        )
        self._stack.callback(self.process.stop)
        self._scrape(pod)
        if self.wanted.fails:
            self.process.launch()
            self.report_end()
        else:
            self.process.start()
            self.report_ready()

    def stop(self) -> None:
        self._stack.close()

    @property
    def alive(self) -> bool:
        return self.process.part.alive

    def report_ready(self) -> None:
        """The readiness probe succeeds."""
        pod = self._scheduled()["metadata"]["name"]
        self.ground.control_plane.kubelet.set_ready(self.namespace, pod, True)
        self.ground.prometheus.wait_for(
            f'up{{namespace="{self.namespace}"}}', lambda found: bool(found) and found[0].value == 1, 30
        )
        self.ground.cluster.wait_until_rolled_out(self.namespace, SERVICE, 30)

    def report_end(self) -> None:
        """Waits for the process, and tells its exit code and its log. Raises NotShownError if it lives on."""
        try:
            code = self.process.wait_until_it_ends(_END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NotShownError(f"vLLM did not end within {_END_SECONDS:.0f} s") from error
        kubelet, pod = self.ground.control_plane.kubelet, self._scheduled()["metadata"]["name"]
        lines = self.process.log_lines
        if self.wanted.fails:
            kubelet.crash(self.namespace, pod, exit_code=code, reason="Error", restarts=4)
            kubelet.set_logs(self.namespace, pod, lines, previous=lines)
        else:
            # What follows a death in production: it is started again, and loads.
            kubelet.restart(self.namespace, pod, exit_code=code, reason="Completed" if code == 0 else "Error")
            kubelet.set_logs(self.namespace, pod, [], previous=lines)

    def _deployment(self) -> VllmDeployment:
        flags = {"load-format": "dummy", "enforce-eager": None, **self.wanted.flags}
        return _CpuDeployment(
            namespace=self.namespace,
            name=SERVICE,
            replicas=1,
            image=IMAGE,
            model=self.model,
            flags=flags,
            gpus=0,
            cold_start_seconds=_COLD_START_SECONDS,
            pinned_to=self.name,
            env=self.wanted.env,
        )

    def _scheduled(self) -> dict[str, Any]:
        deadline = time.monotonic() + _NODE_SECONDS
        while True:
            pods = self.ground.cluster.pods(self.namespace, SERVICE)
            states = pods[0]["status"].get("containerStatuses", []) if pods else []
            if states and all("waiting" not in s["state"] or s["restartCount"] for s in states):
                return pods[0]
            if time.monotonic() > deadline:
                raise NotShownError(f"the pod of {self.namespace} was not started: {pods}")
            time.sleep(0.1)

    def _scrape(self, pod: Mapping[str, Any]) -> None:
        labels = {"namespace": self.namespace, "pod": pod["metadata"]["name"], "container": "vllm", "node": self.node}
        job = Job(f"vllm-{self.name}", [f"{pod['status']['podIP']}:{_PORT}"], labels)
        with self.ground.reloading:
            self.ground.prometheus.reload(jobs=[*self.ground.jobs(), job])


class RealScene(Scene):
    """One row on a server that is there already, and stays."""

    def __init__(self, server: RealServer, row: Row, *, ask_doctor: bool = False) -> None:
        super().__init__(server.ground, row, ask_doctor=ask_doctor)
        self.server = server
        self.namespace = server.namespace

    @property
    def nodes(self) -> list[str]:
        return [self.server.node]

    def set_up(self) -> None:
        if not self.server.wanted.fails and not self.server.alive:
            raise NotShownError("the server has ended in a row before this one: order the rows so that it is the last")
        # Nothing of the row before is left in a window.
        steps = f'sum(rate(vllm:iteration_tokens_total_count{{namespace="{self.namespace}"}}[{_CALM_SECONDS}s]))'
        self.prometheus.wait_for(steps, lambda found: not found or found[0].value == 0, _CALM_WAIT_SECONDS)

    def metrics_url(self) -> str:
        return f"{self.server.process.url}/metrics"

    def _do_requests(self, wanted: WantedRequests) -> None:
        offered = Requests(
            self.server.folder,
            self.server.process.url,
            SERVICE,
            clients=wanted.clients,
            per_second=wanted.per_second,
            prompt_tokens=wanted.prompt_tokens,
            output_tokens=wanted.output_tokens,
            every_seconds=wanted.every_seconds,
        )
        self._stack.enter_context(offered)

    def _do_worker(self, what: str) -> None:
        if what == "killed":
            self.server.process.kill_worker()
            return
        self.server.process.freeze_worker()
        self._stack.callback(self.server.process.thaw_worker)

    def _do_core(self, what: str) -> None:
        if what == "killed":
            self.server.process.kill_core()
            return
        self.server.process.freeze_core()
        self._stack.callback(self.server.process.thaw_core)

    def _do_api(self, what: str) -> None:
        self.server.process.freeze_api()
        self._stack.callback(self._thaw_api)

    def _thaw_api(self) -> None:
        """Returns when it answers again, its readiness probe, too, which the next row takes for granted."""
        self.server.process.thaw_api()
        own = f'up{{namespace="{self.namespace}"}}'
        self.prometheus.wait_for(own, lambda found: bool(found) and found[0].value == 1, _CALM_WAIT_SECONDS)
        self.server.report_ready()

    def _do_engine(self, what: str) -> None:
        if what != "paused":
            self.server.process.sleep(2 if what == "deeply asleep" else 1)
        else:
            self.server.process.pause()
        self._stack.callback(self.server.process.wake)

    def _do_ends(self, ends: bool) -> None:
        self.server.report_end()


@dataclass(frozen=True)
class _CpuDeployment(PinnedDeployment):
    """As one writes it for a node without GPUs."""

    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        return [word for word in super().arguments if not word.startswith("--tensor-parallel-size")]

    def manifests(self) -> list[dict[str, Any]]:
        made = super().manifests()
        (container,) = made[0]["spec"]["template"]["spec"]["containers"]
        container["resources"] = {"requests": {"cpu": "2", "memory": "4Gi"}}
        container["env"] = [{"name": name, "value": value} for name, value in self.env.items()]
        return made


def play(ground: Ground, servers: Mapping[str, Server], rows: Sequence[Row], *, ask_doctor: bool) -> Iterator[Outcome]:
    """All rows of real servers, one server after the other: each needs both cores and 2 GB."""
    for name, wanted in servers.items():
        own = [row for row in rows if row.server == name]
        if not own:
            continue
        server = RealServer(ground, name, wanted)
        try:
            server.start()
            for row in own:
                yield RealScene(server, row, ask_doctor=ask_doctor).play()
        except (NotShownError, PartError, TimeoutError, requests.RequestException, ApiError) as error:
            yield from (Outcome(row, None, None, 0.0, error=f"{type(error).__name__}: {error}") for row in own)
        finally:
            server.stop()


def _cpu_node(name: str, row: str) -> dict[str, Any]:
    resources = {"cpu": "64", "memory": "256Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "vllm-oncall.sandbox/row": row,
            },
        },
        "status": {"capacity": resources, "allocatable": resources},
    }
