"""The whole fleet against one clock: replicas come and go with the pods, loads are played, GPUs are read. Pure."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from sandbox.fleet.capacity import Gpu, saturation_rps
from sandbox.fleet.contract import Config, Fault, GpuFault, Load, Match, ModelProfile
from sandbox.fleet.gpus import DRIVER_MIB, GpuPool, Owner
from sandbox.fleet.pods import DEFAULT_MEMORY_MIB, DEFAULT_PRODUCT, NodeFacts, PodFacts
from sandbox.fleet.replica import Key, Replica, key_of
from sandbox.fleet.traffic import Traffic

T = TypeVar("T")
GPU_READING_SECONDS = 1.0  # the exporter's own is 30; stories are told in seconds here


class Simulation:
    """`now` is in seconds and never goes back."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.replicas: dict[Key, Replica] = {}
        self.traffic = Traffic(config.seed)
        self.gpus = GpuPool()
        self.faults: dict[str, Fault] = dict(config.faults)
        self.gpu_faults: dict[str, GpuFault] = dict(config.gpu_faults)
        self._nodes: Mapping[str, NodeFacts] = {}
        self._ready: dict[str, list[Replica]] = {}
        self._gpus_read_at = 0.0
        self._busy_then: dict[Key, float] = {}
        for name, load in config.loads.items():
            self.traffic.set_load(name, load, 0.0)
        self.gpus.set_faults(list(self.gpu_faults.values()))

    # --- what the API server says

    def see(self, pods: Sequence[PodFacts], nodes: Sequence[NodeFacts], now: float) -> None:
        """All pods and GPU nodes that there are now."""
        self.advance(now)
        self._nodes = {node.name: node for node in nodes}
        self.gpus.set_nodes(nodes)
        seen = {key_of(pod): pod for pod in pods}
        for key in [key for key in self.replicas if key not in seen]:
            gone = self.replicas.pop(key)
            gone.stop(now)
            self.traffic.ended(gone.advance(now))
        for key, pod in seen.items():
            if key in self.replicas:
                self.replicas[key].update(pod, now)
            else:
                self.replicas[key] = Replica(pod, self._gpu_of(pod), self._profile_of, now)
        self.gpus.set_owners(
            {
                Owner(pod.uid, pod.namespace, pod.name, pod.container): (pod.node, pod.gpus)
                for pod in pods
                if pod.node is not None and pod.gpus
            }
        )
        self._apply_faults(now)
        self._find_ready()

    def _gpu_of(self, pod: PodFacts) -> Gpu:
        node = self._nodes.get(pod.node or "")
        return node.gpu if node else Gpu(DEFAULT_PRODUCT, DEFAULT_MEMORY_MIB)

    def _profile_of(self, model: str) -> ModelProfile:
        return self._config.models.get(model, self._config.default_model)

    # --- what the person at the controls says

    def set_load(self, name: str, load: Load, now: float) -> None:
        self.advance(now)
        self.traffic.set_load(name, load, now)
        self._find_ready()

    def drop_load(self, name: str, now: float) -> None:
        self.advance(now)
        self.traffic.drop_load(name)

    def set_fault(self, name: str, fault: Fault | None, now: float) -> None:
        """None ends it."""
        self.advance(now)
        _set(self.faults, name, fault)
        self._apply_faults(now)

    def set_gpu_fault(self, name: str, fault: GpuFault | None) -> None:
        _set(self.gpu_faults, name, fault)
        self.gpus.set_faults(list(self.gpu_faults.values()))

    def saturation_rps(self, load_name: str) -> float | None:
        """Requests/s that one ready replica of the load can do of its present mix; None if there is no ready one."""
        stream = self.traffic.streams[load_name]
        able = [r for r in self._ready.get(load_name, ()) if r.capacity is not None]
        if not able or able[0].capacity is None:
            return None
        capacity = able[0].capacity
        return saturation_rps(capacity.limits, capacity.cost, stream.load.mix, slowdown=able[0].effect.slowdown)

    # --- time

    def advance(self, now: float) -> None:
        self.traffic.advance(now, self._ready)
        for replica in self.replicas.values():
            self.traffic.ended(replica.advance(now))
        if now - self._gpus_read_at >= GPU_READING_SECONDS:
            self._read_gpus(now)

    def _read_gpus(self, now: float) -> None:
        seconds = now - self._gpus_read_at
        self._gpus_read_at = now
        busy_now: dict[Key, float] = {}
        for key, replica in self.replicas.items():
            ratio, used = 0.0, DRIVER_MIB
            if replica.process is not None and replica.capacity is not None:
                busy_now[key] = replica.process.measured.gpu_busy_seconds
                ratio = min(1.0, max(0.0, busy_now[key] - self._busy_then.get(key, 0.0)) / seconds)
                used = replica.capacity.gpu_memory_used_mib
            for gpu in self.gpus.of(replica.facts.node or "", replica.facts.uid):
                gpu.busy_ratio, gpu.used_mib = ratio, used
        self._busy_then = busy_now
        self.gpus.advance(seconds)

    # --- who is meant

    def _apply_faults(self, now: float) -> None:
        for replica in self.replicas.values():
            replica.apply([f.effect for f in self.faults.values() if matches(f.match, replica)], now)

    def _find_ready(self) -> None:
        self._ready = {
            name: [r for r in self.replicas.values() if r.takes_traffic and _selected(stream.load, r)]
            for name, stream in self.traffic.streams.items()
        }


def _set(entries: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        entries.pop(name, None)
    else:
        entries[name] = value


def _selected(load: Load, replica: Replica) -> bool:
    labels = replica.facts.labels
    return replica.facts.namespace == load.namespace and all(labels.get(k) == v for k, v in load.selector.items())


def matches(match: Match, replica: Replica) -> bool:
    facts = replica.facts
    patterns: list[tuple[str | None, str | None]] = [
        (match.namespace, facts.namespace),
        (match.pod, facts.name),
        (match.node, facts.node),
        (match.image, facts.image),
        *((pattern, facts.labels.get(name)) for name, pattern in match.labels.items()),
        *((pattern, replica.arguments.get(name)) for name, pattern in match.arguments.items()),
        *((pattern, facts.env.get(name)) for name, pattern in match.env.items()),
    ]
    return all(pattern is None or (value is not None and fnmatchcase(value, pattern)) for pattern, value in patterns)
