"""The contract of the Kubernetes ports is tried in two worlds: the fake that unit tests use, and a real control plane.

A world is what happens around the bot: people deploy, controllers run, somebody cordons a node.
"""

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ruamel.yaml import YAML

from bot.fleet import WorkloadRef
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.ports import Autoscaler, ClusterReader, ClusterWriter, ConfigMap, Pod
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from tests.fakes import NOW, FakeCluster

ROLES = Path(__file__).parents[2] / "deploy" / "base" / "rbac-read.yaml"


class World(Protocol):
    namespace: str
    reader: ClusterReader
    writer: ClusterWriter
    writer_of_a_follower: ClusterWriter

    def deploy(self, name: str, *, replicas: int = 2, flag: str = "v=1", gpus: int = 1) -> WorkloadRef:
        """A Deployment whose container has the argument `--flag`, settled."""
        ...

    def deploy_stateful(self, name: str) -> WorkloadRef:
        """Two replicas, settled."""
        ...

    def roll_out(self, ref: WorkloadRef, *, flag: str, cause: str) -> None:
        """Somebody's new revision, settled."""
        ...

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Somebody else scales. Not waited for."""
        ...

    def settle(self, ref: WorkloadRef) -> None:
        """Until the controllers have done what the workload says."""
        ...

    def add_pod_of(self, kind: str | None) -> Pod:
        """A pod that a `kind` controls; None: nobody does."""
        ...

    def cordon(self, node: str) -> None: ...
    def budget(self, ref: WorkloadRef, minimum: int, name: str | None = None) -> None:
        """So many of the settled workload's pods must stay. Counted when it returns."""
        ...

    def event(self, pod: Pod, reason: str, message: str, *, minutes_ago: int) -> None: ...
    def autoscale(self, ref: WorkloadRef, minimum: int, maximum: int) -> None: ...
    def print(self, pod: Pod, lines: Sequence[str]) -> None: ...
    def add_config_map(self, name: str, data: Mapping[str, str]) -> None: ...
    def allow_config_map(self, name: str) -> None:
        """As deploy/base/rbac-read.yaml says how."""
        ...


class FakeWorld:
    namespace = "llm"

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.reader = self.writer = self.cluster
        self._config_maps: dict[tuple[str, str], ConfigMap] = {}
        for number in range(1, 5):
            self.cluster.add_node(f"gpu-{number:02}")

    @property
    def writer_of_a_follower(self) -> ClusterWriter:
        self.cluster.leads = False
        return self.cluster

    def deploy(self, name: str, *, replicas: int = 2, flag: str = "v=1", gpus: int = 1) -> WorkloadRef:
        node = "gpu-01" if gpus <= 8 else None
        ref = self.cluster.add_workload(name=name, replicas=0, args=[f"--{flag}"], gpus=gpus)
        self.scale(ref, replicas)
        for _ in range(replicas):
            words = None if node else "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
            self.cluster.add_pod(ref, args=[f"--{flag}"], gpus=gpus, node=node, unschedulable=words)
        if node:
            self.settle(ref)
        return ref

    def deploy_stateful(self, name: str) -> WorkloadRef:
        return self.cluster.add_workload(name=name, kind="StatefulSet", replicas=2, gpus=1)

    def roll_out(self, ref: WorkloadRef, *, flag: str, cause: str) -> None:
        before = self.cluster.workloads[ref].template
        after = with_flag(before, flag)
        self.cluster.set_template(ref, before=before, after=after, cause=cause)
        self.settle(ref)

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        there = self.cluster.workloads[ref]
        self.cluster.workloads[ref] = replace(there, desired=replicas, generation=there.generation + 1)

    def settle(self, ref: WorkloadRef) -> None:
        self.cluster.settle(ref)

    def add_pod_of(self, kind: str | None) -> Pod:
        ref = self.cluster.add_workload(name="odd", replicas=1)
        pod = replace(self.cluster.pods.pop(), owner="nightly" if kind else None, owner_kind=kind)
        del self.cluster.workloads[ref], self.cluster.history[ref]
        self.cluster.pods.append(pod)
        return pod

    def cordon(self, node: str) -> None:
        self.cluster.machines[node] = replace(self.cluster.machines[node], schedulable=False)

    def budget(self, ref: WorkloadRef, minimum: int, name: str | None = None) -> None:
        self.cluster.limits = [b for b in self.cluster.limits if b.name != (name or ref.name)]
        self.cluster.add_budget(ref, minimum=minimum, name=name)

    def event(self, pod: Pod, reason: str, message: str, *, minutes_ago: int) -> None:
        at = NOW.replace(minute=NOW.minute - minutes_ago)
        self.cluster.add_event(pod.namespace, "Pod", pod.name, reason, message, at=at)

    def autoscale(self, ref: WorkloadRef, minimum: int, maximum: int) -> None:
        self.cluster.autoscalers[ref] = Autoscaler(ref.name, minimum, maximum, 0, 0, keda=False)

    def add_config_map(self, name: str, data: Mapping[str, str]) -> None:
        self._config_maps[self.namespace, name] = ConfigMap(data, NOW)

    def allow_config_map(self, name: str) -> None:
        self.cluster.config_maps = self._config_maps

    def print(self, pod: Pod, lines: Sequence[str]) -> None:
        self.cluster.logs[pod.namespace, pod.name, "vllm", False] = "".join(f"{line}\n" for line in lines)


@dataclass
class RealWorld:
    """The bot's side asks with the ServiceAccount and the roles of deploy/, everything else is the administrator."""

    plane: ControlPlane
    cluster: Cluster
    namespace: str
    http: KubernetesHttp

    def __post_init__(self) -> None:
        self.reader = KubernetesReader(self.http)
        self.writer = KubernetesWriter(self.http, still_leader=lambda: True)
        self.writer_of_a_follower = KubernetesWriter(self.http, still_leader=lambda: False)

    def deploy(self, name: str, *, replicas: int = 2, flag: str = "v=1", gpus: int = 1) -> WorkloadRef:
        deployment = self._deployment(name, replicas, flag, gpus)
        self.cluster.deploy(deployment)
        ref = WorkloadRef(namespace=self.namespace, name=name)
        if gpus <= 8:
            self.settle(ref)
        return ref

    def deploy_stateful(self, name: str) -> WorkloadRef:
        manifest = self._deployment(name, 2, "v=1", 1).manifests()[0]
        manifest["kind"] = "StatefulSet"
        spec = {key: manifest["spec"][key] for key in ("replicas", "selector", "template")}
        self.plane.api.apply({**manifest, "spec": {**spec, "serviceName": name}})
        ref = WorkloadRef(namespace=self.namespace, kind="StatefulSet", name=name)
        self.settle(ref)
        return ref

    def _deployment(self, name: str, replicas: int, flag: str, gpus: int) -> VllmDeployment:
        key, _, value = flag.partition("=")
        return VllmDeployment(
            self.namespace, name, replicas, gpus, flags={key: value}, cold_start_seconds=0.1, minimum_available=0
        )

    def roll_out(self, ref: WorkloadRef, *, flag: str, cause: str) -> None:
        there = self.cluster.deployment(ref.namespace, ref.name)["spec"]["template"]
        arguments = with_flag(there, flag)["spec"]["containers"][0]["args"]
        self.cluster.roll_out(ref.namespace, ref.name, cause=cause, arguments=arguments)
        self.settle(ref)

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        self.cluster.scale(ref.namespace, ref.name, replicas)

    def settle(self, ref: WorkloadRef) -> None:
        if ref.kind == "Deployment":
            self.cluster.wait_until_rolled_out(ref.namespace, ref.name)
            return
        path = f"/apis/apps/v1/namespaces/{ref.namespace}/statefulsets/{ref.name}"
        until(lambda: self.plane.api.get(path).get("status", {}).get("availableReplicas") == 2)

    def add_pod_of(self, kind: str | None) -> Pod:
        pod: dict[str, Any] = {"containers": [{"name": "vllm", "image": "busybox"}], "restartPolicy": "Never"}
        about = {"name": "nightly", "namespace": self.namespace}
        if kind is None:
            self.plane.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod})
            found = self.reader.pod(self.namespace, "nightly")
            assert found is not None
            return found
        assert kind == "Job"
        job = {"template": {"spec": pod}}
        self.plane.api.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": job})
        path, query = f"/api/v1/namespaces/{self.namespace}/pods", "batch.kubernetes.io/job-name=nightly"
        until(lambda: bool(self.plane.api.items(path, labelSelector=query)))
        name = self.plane.api.items(path, labelSelector=query)[0]["metadata"]["name"]
        found = self.reader.pod(self.namespace, name)
        assert found is not None
        return found

    def add_config_map(self, name: str, data: Mapping[str, str]) -> None:
        about = {"name": name, "namespace": self.namespace}
        self.plane.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": dict(data)})

    def allow_config_map(self, name: str) -> None:
        marked = ROLES.read_text().split("#\n# apiVersion")[1]
        text = "apiVersion" + re.sub(r"(?m)^# ", "", marked)
        text = text.replace("namespace: llm}", f"namespace: {self.namespace}}}").replace("chat-70b-options", name)
        for manifest in YAML(typ="safe").load_all(text):
            self.plane.api.apply(manifest)

    def cordon(self, node: str) -> None:
        self.cluster.set_schedulable(node, False)

    def budget(self, ref: WorkloadRef, minimum: int, name: str | None = None) -> None:
        about = {"name": name or ref.name, "namespace": ref.namespace}
        spec = {"minAvailable": minimum, "selector": {"matchLabels": {"app": ref.name}}}
        made = self.plane.api.apply(
            {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": spec}
        )
        path = f"/apis/policy/v1/namespaces/{ref.namespace}/poddisruptionbudgets/{about['name']}"
        generation, pods = made["metadata"]["generation"], len(self.reader.pods_of(ref))

        def counted() -> bool:
            status = self.plane.api.get(path).get("status", {})
            return status.get("observedGeneration") == generation and status.get("currentHealthy") == pods

        until(counted)

    def event(self, pod: Pod, reason: str, message: str, *, minutes_ago: int) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60 * minutes_ago))
        self.plane.api.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{pod.name}.{uuid.uuid4().hex[:8]}", "namespace": pod.namespace},
                "involvedObject": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "firstTimestamp": at,
                "lastTimestamp": at,
                "count": 1,
            }
        )

    def autoscale(self, ref: WorkloadRef, minimum: int, maximum: int) -> None:
        self.plane.api.apply(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": ref.name, "namespace": ref.namespace},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": ref.kind, "name": ref.name},
                    "minReplicas": minimum,
                    "maxReplicas": maximum,
                },
            }
        )

    def print(self, pod: Pod, lines: Sequence[str]) -> None:
        self.plane.kubelet.set_logs(pod.namespace, pod.name, lines)
        # kwok hears of it by a watch
        until(lambda: lines[-1] in self.reader.pod_logs(pod.namespace, pod.name, "vllm", tail=10))


def with_flag(template: Any, flag: str) -> Any:
    """The template with its last argument replaced."""
    first, *others = template["spec"]["containers"]
    changed = {**first, "args": [*first["args"][:-1], f"--{flag}"]}
    return {**template, "spec": {**template["spec"], "containers": [changed, *others]}}


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not there after {seconds} s"
        time.sleep(0.05)
