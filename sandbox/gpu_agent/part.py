"""Starts a node's agent where the bot looks for it: at the address of a pod with the agent's labels, on that node."""

import sys
import time
from pathlib import Path

from pydantic import BaseModel

from bot.outbound.gpu_agents import LABELS
from bot.settings import AgentAccess
from sandbox.controlplane.cluster import Cluster
from sandbox.fleet.dcgm import pci_of, uuid_of
from sandbox.gpu_agent.kubelet import Held
from sandbox.part import Part, answers

NODE, KMSG, XIDS, SOCKET = "node.json", "kmsg", "xids", "kubelet.sock"
TOKEN = "sandbox-agent"
NAMESPACE = AgentAccess().namespace
PORT = int(AgentAccess().port)
_ADDRESS_SECONDS = 20.0


class NodeGpu(BaseModel):
    uuid: str
    pci: str  # 00000000:18:00.0, as NVML writes it

    @property
    def bus(self) -> int:
        return int(self.pci.split(":")[1], 16)

    @property
    def short_pci(self) -> str:
        """As the driver writes it into the kernel's log."""
        return self.pci.lower()[4:].partition(".")[0]


class Node(BaseModel):
    gpus: tuple[NodeGpu, ...]
    held: tuple[Held, ...]


class GpuAgent(Part):
    """The agent of one node. GPUs have the names that the node's exporter in the fleet gives them, and are their pods'
    in order. `stop` and `start` are a restart of its pod's container: its history stays."""

    def __init__(self, cluster: Cluster, node: str, folder: Path, *, gpus: int = 8, token: str = TOKEN) -> None:
        self.node = node
        self._cluster = cluster
        self._folder = folder
        self._gpus = gpus
        self.host = self._placed()
        self.url = f"http://{self.host}:{PORT}"
        environment = {
            "TOKEN": token,
            "NODE": node,
            "HOST": self.host,
            "PORT": str(PORT),
            "HISTORY": str(folder / "events.jsonl"),
            "POD_RESOURCES": str(folder / SOCKET),
            "KMSG": str(folder / KMSG),
        }
        super().__init__(
            f"agent-{node}",
            [sys.executable, "-m", "sandbox.gpu_agent", str(folder)],
            log=folder / "agent.log",
            ready=answers(f"{self.url}/healthz"),
            env={f"VLLM_ONCALL_AGENT__{key}": value for key, value in environment.items()},
            cwd=Path(__file__).parents[2],
        )

    def launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        uuids = [uuid_of(self.node, index) for index in range(self._gpus)]
        node = Node(
            gpus=tuple(NodeGpu(uuid=uuid, pci=pci_of(index)) for index, uuid in enumerate(uuids)),
            held=tuple(self._held(uuids)),
        )
        (self._folder / NODE).write_text(node.model_dump_json())
        super().launch()

    def gpus_of(self, namespace: str) -> list[int]:
        """The indices of the GPUs that pods of that namespace hold."""
        node = Node.model_validate_json((self._folder / NODE).read_bytes())
        mine = {uuid for held in node.held if held.namespace == namespace for uuid in held.uuids}
        return [index for index, gpu in enumerate(node.gpus) if gpu.uuid in mine]

    def xid(self, number: int, gpu: int = 0) -> float:
        """Lets it happen; returns when."""
        at = time.time()
        with (self._folder / XIDS).open("w") as told:
            told.write(f"{number} {gpu}\n")
        return at

    def remove(self) -> None:
        """The process, and the pod that it stands for."""
        self.stop()
        self._cluster.delete_pod(NAMESPACE, self._name)

    # ------------------------------------------------------------------------------------------------ the cluster

    @property
    def _name(self) -> str:
        return f"vllm-oncall-agent-{self.node}"

    def _placed(self) -> str:
        """The address of its pod, which is made if it is not there."""
        self._cluster.create_namespace(NAMESPACE)
        self._cluster.run_pod(NAMESPACE, self._name, node=self.node, labels=LABELS)
        deadline = time.monotonic() + _ADDRESS_SECONDS
        while not (address := self._cluster.pod_address(NAMESPACE, self._name)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} has no address after {_ADDRESS_SECONDS:g} s")
            time.sleep(0.05)
        return address

    def _held(self, uuids: list[str]) -> list[Held]:
        free = list(uuids)
        held = []
        for pod in self._cluster.pods_with_gpus(self.node):
            mine, free = free[: pod.gpus], free[pod.gpus :]
            held.append(Held(pod.namespace, pod.name, pod.container, tuple(mine)))
        return held
