"""`python -m sandbox.fleet`: watch an API server, serve its pods, until SIGTERM."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from ruamel.yaml import YAML

from sandbox.fleet.contract import Config
from sandbox.fleet.control_server import ControlServer
from sandbox.fleet.listeners import Listeners
from sandbox.fleet.runtime import Runtime
from sandbox.fleet.watch import Inventory, watch_cluster

HOST = "127.0.0.1"


async def serve(kubeconfig: Path, port: int, config: Config) -> None:
    pods, nodes = Inventory(), Inventory()
    watch_cluster(kubeconfig, pods, nodes)
    runtime = Runtime(config, pods, nodes)
    listeners = Listeners(runtime)
    control = ControlServer(runtime, f"{HOST}:{port}")
    runner = web.AppRunner(control.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    playing = asyncio.ensure_future(runtime.run(listeners.follow))
    stopped = asyncio.ensure_future(_told_to_stop())
    await asyncio.wait([playing, stopped], return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        playing.result()  # it never ends but by a mistake: show it, and end
    playing.cancel()
    await listeners.close()
    await runner.cleanup()


async def _told_to_stop() -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.fleet", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--config", type=Path, help="YAML or JSON; see sandbox/fleet/contract.py")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    written: Mapping[str, Any] = (YAML(typ="safe").load(options.config) if options.config else None) or {}
    asyncio.run(serve(options.kubeconfig, options.control_port, Config.model_validate(written)))


if __name__ == "__main__":
    main()
