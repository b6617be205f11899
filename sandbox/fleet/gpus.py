"""The GPUs of the nodes: who has them, how busy they are, and what their exporter may tell of them.

Utilisation is measured from the replica's steps; memory from its arguments. Temperature follows utilisation with a lag;
clocks, power and the profiling ratios follow it at once. A fault may replace any reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sandbox.fleet.contract import GpuFault, GpuReadings
from sandbox.fleet.pods import NodeFacts

IDLE_CELSIUS, BUSY_CELSIUS = 34.0, 66.0
IDLE_WATTS, BUSY_WATTS = 78.0, 640.0
IDLE_MHZ, BUSY_MHZ = 345, 1980
WARMING_SECONDS = 20.0
DRIVER_MIB = 4  # used on a GPU without a process


@dataclass(frozen=True)
class Owner:
    """The container that holds a GPU."""

    uid: str
    namespace: str
    pod: str
    container: str


@dataclass
class GpuState:
    node: NodeFacts
    index: int
    owner: Owner | None = None
    busy_ratio: float = 0.0
    used_mib: int = DRIVER_MIB
    celsius: float = IDLE_CELSIUS
    energy_millijoules: float = 0.0
    readings: GpuReadings = field(default_factory=GpuReadings)
    lost: bool = False

    @property
    def watts(self) -> float:
        return IDLE_WATTS + (BUSY_WATTS - IDLE_WATTS) * self.busy_ratio

    def advance(self, seconds: float) -> None:
        target = IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * self.busy_ratio
        self.celsius += (target - self.celsius) * min(1.0, seconds / WARMING_SECONDS)
        self.energy_millijoules += replaced(self.readings.power_watts, self.watts) * seconds * 1000


@dataclass(frozen=True)
class Exporter:
    """What one node's exporter tells of: `hidden` fields are left out, `extra` ones added to the default list."""

    gpus: tuple[GpuState, ...]
    hidden: frozenset[str]
    extra: frozenset[str]


def replaced(replacement: float | None, simulated: float) -> float:
    return simulated if replacement is None else replacement


class GpuPool:
    """All GPUs of the cluster. A pod keeps the ones it was given until it is gone, as with the device plugin."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[GpuState]] = {}
        self._faults: Sequence[GpuFault] = ()

    def set_nodes(self, nodes: Sequence[NodeFacts]) -> None:
        known = {node.name: node for node in nodes}
        for name in [name for name in self.nodes if name not in known]:
            del self.nodes[name]
        for node in nodes:
            states = self.nodes.get(node.name)
            if states is None or states[0].node != node:
                self.nodes[node.name] = [GpuState(node, index) for index in range(node.gpus)]
        self.set_faults(self._faults)

    def set_owners(self, wanted: Mapping[Owner, tuple[str, int]]) -> None:
        """Who must have how many GPUs of which node. Others lose theirs; newcomers get the lowest free ones."""
        for states in self.nodes.values():
            for state in states:
                if state.owner is not None and state.owner not in wanted:
                    state.owner = None
                    state.busy_ratio, state.used_mib = 0.0, DRIVER_MIB
        for owner, (node, count) in wanted.items():
            states = self.nodes.get(node, [])
            missing = count - sum(state.owner == owner for state in states)
            for state in [state for state in states if state.owner is None][: max(0, missing)]:
                state.owner = owner

    def of(self, node: str, uid: str) -> list[GpuState]:
        return [g for g in self.nodes.get(node, []) if g.owner is not None and g.owner.uid == uid]

    def set_faults(self, faults: Sequence[GpuFault]) -> None:
        self._faults = tuple(faults)
        for state in (state for states in self.nodes.values() for state in states):
            merged: dict[str, object] = {}
            meant = [fault for fault in self._of_node(state.node.name) if fault.gpu in (None, state.index)]
            for fault in meant:
                merged |= fault.readings.model_dump(exclude_none=True)
            state.lost = any(fault.lost for fault in meant)
            state.readings = GpuReadings.model_validate(merged)

    def advance(self, seconds: float) -> None:
        for states in self.nodes.values():
            for state in states:
                state.advance(seconds)

    def exporter(self, node: str) -> Exporter | None:
        """None if the node has no GPUs, or nobody who tells of them."""
        faults = self._of_node(node)
        if node not in self.nodes or any(fault.exporter_down for fault in faults):
            return None
        return Exporter(
            tuple(gpu for gpu in self.nodes[node] if not gpu.lost),
            hidden=frozenset(name for fault in faults for name in fault.hidden_fields),
            extra=frozenset(name for fault in faults for name in fault.extra_fields),
        )

    def _of_node(self, node: str) -> list[GpuFault]:
        return [fault for fault in self._faults if fnmatchcase(node, fault.node)]
