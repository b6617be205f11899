"""Pods and nodes as the fleet sees them, without an API server; and a fleet that plays them on real addresses."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from sandbox.addresses import free_pod_network, free_port
from sandbox.fleet.contract import Config
from sandbox.fleet.control import FleetControl
from sandbox.fleet.control_server import ControlServer
from sandbox.fleet.listeners import Listeners
from sandbox.fleet.pods import NodeFacts, PodFacts, node_facts, pod_facts
from sandbox.fleet.runtime import Runtime
from sandbox.fleet.watch import Inventory

DEFAULT_ARGS = ("--max-num-seqs=32", "--max-model-len=32768", "--tensor-parallel-size=4")


def pod_json(
    name: str = "chat-0",
    *,
    ip: str | None = "127.9.0.1",
    node: str = "gpu-01",
    namespace: str = "llm",
    labels: Mapping[str, str] | None = None,
    image: str = "vllm/vllm-openai:v0.32.0",
    args: tuple[str, ...] = DEFAULT_ARGS,
    env: Mapping[str, str] | None = None,
    gpus: int = 4,
    ready: bool = True,
    running: bool = True,
    terminating: bool = False,
    restarts: int = 0,
) -> dict[str, Any]:
    """A pod as the API server writes it."""
    metadata = {"uid": f"uid-{name}", "name": name, "namespace": namespace, "labels": labels or {"app": "chat"}}
    if terminating:
        metadata["deletionTimestamp"] = "2026-11-24T02:00:00Z"
    state = {"running": {"startedAt": f"2026-11-24T01:0{restarts}:00Z"}} if running else {"waiting": {"reason": "X"}}
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "vllm",
                    "image": image,
                    "args": ["meta-llama/Llama-3.3-70B-Instruct", "--served-model-name=chat-70b", *args],
                    "env": [{"name": k, "value": v} for k, v in (env or {}).items()],
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "vllm", "ready": ready, "restartCount": restarts, "state": state}],
        },
    }


def pod(name: str = "chat-0", **more: Any) -> PodFacts:
    facts = pod_facts(pod_json(name, **more))
    assert facts is not None
    return facts


def node_json(name: str = "gpu-01", gpus: int = 8) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    return {
        "metadata": {"uid": f"uid-{name}", "name": name, "labels": labels},
        "status": {"capacity": {"nvidia.com/gpu": str(gpus)}},
    }


def node(name: str = "gpu-01", gpus: int = 8) -> NodeFacts:
    facts = node_facts(node_json(name, gpus))
    assert facts is not None
    return facts


@dataclass
class PlayedFleet:
    """A runtime with its servers in a thread, told of pods by the test instead of an API server."""

    prefix: str  # of free loopback addresses: f"{prefix}.{n}"
    control: FleetControl
    config: Config = field(default_factory=lambda: Config(tick_seconds=0.01))
    pods: Inventory = field(default_factory=Inventory)
    nodes: Inventory = field(default_factory=Inventory)

    def see(self, *pods: Mapping[str, Any]) -> None:
        self.pods.replace(list(pods))

    def listening(self, name: str) -> bool:
        return any(r["pod"] == name and r["listens"] for r in self.control.state()["replicas"])


def until(question: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.02)


@pytest.fixture
def played_fleet() -> Iterator[PlayedFleet]:
    """One node, no pods yet."""
    network = free_pod_network()
    port = free_port()
    fleet = PlayedFleet(f"127.{network.second_byte}.0", FleetControl(f"http://127.0.0.1:{port}"))
    fleet.nodes.replace([node_json()])
    fleet.see()
    loop = asyncio.new_event_loop()
    started: Future[None] = Future()
    stopped = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_play(fleet, port, started, stopped)))
    thread.start()
    started.result(10)
    until(lambda: bool(fleet.control.state()))
    yield fleet
    loop.call_soon_threadsafe(stopped.set)
    thread.join(10)
    loop.close()
    network.release()


async def _play(fleet: PlayedFleet, port: int, started: "Future[None]", stopped: asyncio.Event) -> None:
    runtime = Runtime(fleet.config, fleet.pods, fleet.nodes)
    listeners = Listeners(runtime)
    runner = web.AppRunner(ControlServer(runtime, f"127.0.0.1:{port}").app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    playing = asyncio.ensure_future(runtime.run(listeners.follow))
    started.set_result(None)
    await stopped.wait()
    playing.cancel()
    await listeners.close()
    await runner.cleanup()
