"""The agent's process: `python -m sandbox.gpu_agent FOLDER`, with the agent's own settings in its environment.

FOLDER/node.json says what its GPUs are and whose. A line `<xid> <gpu>` written to FOLDER/xids lets that Xid happen: the
driver's lines appear in the kernel's log, and 18 ms later, as on the H100 that was measured, NVML tells of it.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from bot.agent import Agent
from bot.settings import AgentSettings
from sandbox.gpu_agent import kubelet
from sandbox.gpu_agent.nvml import FakeGpu, FakeNvml
from sandbox.gpu_agent.part import KMSG, NODE, SOCKET, XIDS, Node

_NVML_SECONDS = 0.018
# As the drivers wrote them.
_SAID = {
    31: "pid=612, name=python3, channel 0x0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS GPC0 GPCCLIENT_T1_8 "
    "faulted @ 0xdead_00000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_WRITE",
    79: "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
}


class Driver:
    """What happens on the node: lines of the kernel's log, and NVML's events."""

    def __init__(self, node: Node, kmsg: int) -> None:
        self._node = node
        self._kmsg = kmsg
        self.gpus = [
            FakeGpu(gpu.uuid, nvmlDeviceGetPciInfo_v3={"busId": gpu.pci, "domain": 0, "bus": gpu.bus, "device": 0})
            for gpu in node.gpus
        ]

    def xid(self, number: int, index: int) -> None:
        gpu = self._node.gpus[index]
        self._log(f"NVRM: GPU at PCI:{gpu.short_pci}: {gpu.uuid}")
        self._log(f"NVRM: Xid (PCI:{gpu.short_pci}): {number}, {_SAID.get(number, 'pid=612, name=python3')}")
        time.sleep(_NVML_SECONDS)
        self.gpus[index].xid(number)

    def _log(self, text: str) -> None:
        """A record as /dev/kmsg gives it: priority and facility, number, microseconds since boot."""
        usec = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
        os.write(self._kmsg, f"4,1,{usec},-;{text}\n".encode())
        time.sleep(0.002)  # a pipe has no records: the next line would be read with this one


def main(folder: Path) -> None:
    node = Node.model_validate_json((folder / NODE).read_bytes())
    for name in (KMSG, XIDS):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    # Held open for both directions: a pipe that nobody writes to is at its end, and the kernel's log has none.
    kmsg, xids = (os.open(folder / name, os.O_RDWR) for name in (KMSG, XIDS))
    driver = Driver(node, kmsg)
    socket = kubelet.serve(folder / SOCKET, node.held)
    agent = Agent(AgentSettings(), nvml=FakeNvml(*driver.gpus))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    agent.start()
    threading.Thread(target=_told, args=(driver, xids), daemon=True).start()
    try:
        threading.Event().wait()
    finally:
        agent.stop()
        socket.stop(None)


def _told(driver: Driver, xids: int) -> None:
    with os.fdopen(xids, "r") as lines:
        for line in lines:
            number, index = line.split()
            driver.xid(int(number), int(index))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
