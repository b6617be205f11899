"""Plays the simulation in real time, in one event loop: ticks, what the API server said meanwhile, listeners."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from sandbox.fleet.contract import Config
from sandbox.fleet.engine import Request
from sandbox.fleet.pods import NodeFacts, PodFacts, node_facts, pod_facts
from sandbox.fleet.replica import Replica
from sandbox.fleet.simulation import Simulation
from sandbox.fleet.watch import Inventory, Object

log = logging.getLogger(__name__)


class Clock:
    """Simulated seconds are real seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._epoch = time.time()

    def now(self) -> float:
        return time.monotonic() - self._start

    def epoch(self, seconds: float) -> float:
        return self._epoch + seconds


class Runtime:
    def __init__(self, config: Config, pods: Inventory, nodes: Inventory) -> None:
        self.clock = Clock()
        self.simulation = Simulation(config)
        self.ticked = asyncio.Event()  # set and replaced at every tick
        self._pods = pods
        self._nodes = nodes
        self._seen = (-1, -1)
        self._tick_seconds = config.tick_seconds

    @property
    def synced(self) -> bool:
        """Has the API server said what there is?"""
        return self._pods.synced and self._nodes.synced and self._seen != (-1, -1)

    async def run(self, listeners_follow: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._look()
            await listeners_follow()
            self.simulation.advance(self.clock.now())
            self.ticked.set()
            self.ticked = asyncio.Event()
            await asyncio.sleep(self._tick_seconds)

    def _look(self) -> None:
        """Take over what the API server said since the last tick."""
        versions = (self._pods.version, self._nodes.version)
        if versions == self._seen or not (self._pods.synced and self._nodes.synced):
            return
        self._seen = versions
        pods = [facts for pod in self._pods.objects() if (facts := _pod(pod)) is not None]
        nodes = [found for node in self._nodes.objects() if (found := node_facts(node)) is not None]
        self._see(pods, nodes)

    def _see(self, pods: list[PodFacts], nodes: list[NodeFacts]) -> None:
        before = set(self.simulation.replicas)
        self.simulation.see(pods, nodes, self.clock.now())
        for key, replica in self.simulation.replicas.items():
            if key not in before and replica.refusal:
                log.error("%s/%s does not start: %s", replica.facts.namespace, replica.facts.name, replica.refusal)

    def submit(self, replica: Replica, request: Request) -> int:
        """A real request, now. The status it gets at once; 200 means that it is in the queue."""
        now = self.clock.now()
        self.simulation.advance(now)
        request.arrived_at = now
        return replica.submit(request, now)


def _pod(pod: Object) -> PodFacts | None:
    """A pod that cannot be read must not end the fleet for all others."""
    try:
        return pod_facts(pod)
    except (KeyError, TypeError, ValueError) as error:
        log.error("Pod %s cannot be read: %r", pod.get("metadata", {}).get("name"), error)
        return None
