"""Which addresses are open: one server for each replica that is up, opened and closed as the replicas change."""

import asyncio
import logging

from sandbox.fleet.replica_server import ReplicaServer
from sandbox.fleet.runtime import Runtime

log = logging.getLogger(__name__)


class Listeners:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._refused: dict[tuple[str, int], str] = {}  # tried again at every tick, but told once
        self._open: dict[tuple[str, int], ReplicaServer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Close what has ended, then open what is new: an address may pass from one pod to the next."""
        wanted = {
            (replica.facts.ip, replica.port): (replica, replica.process)
            for replica in self._runtime.simulation.replicas.values()
            if replica.process is not None and replica.facts.ip is not None
        }
        for address, server in list(self._open.items()):
            if address not in wanted or wanted[address][1] is not server.process:
                del self._open[address]
                await server.stop_listening()
                task = asyncio.ensure_future(server.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for address, (replica, process) in wanted.items():
            if address not in self._open and process is not None:
                await self._start(address, ReplicaServer(replica, process, self._runtime))

    async def _start(self, address: tuple[str, int], server: ReplicaServer) -> None:
        try:
            await server.open(*address)
        except OSError as error:
            if self._refused.get(address) != str(error):
                log.error("Cannot listen on %s:%d for %s: %s", *address, server.replica.facts.name, error)
            self._refused[address] = str(error)
            await server.close()
            return
        self._refused.pop(address, None)
        self._open[address] = server
        log.info("%s listens on %s:%d", server.replica.facts.name, *address)

    async def close(self) -> None:
        for server in self._open.values():
            await server.close()
