"""What the bot reads of Kubernetes: objects looked up, lists selected, owners followed. Nothing here changes anything.

Pods are told apart by who controls them, never by a name prefix, which would catch the canary's too.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bot.fleet import WorkloadRef
from bot.outbound import kubernetes_objects as objects
from bot.outbound.kubernetes_http import SOURCE, KubernetesHttp, name
from bot.ports import Autoscaler, Budget, ConfigMap, Event, Node, Pod, Revision, SourceError, Workload

_PLURAL = {"Deployment": "deployments", "StatefulSet": "statefulsets"}
_LOG_LIMIT_BYTES = 1024 * 1024


def workload_path(ref: WorkloadRef) -> str:
    return f"/apis/apps/v1/namespaces/{name(ref.namespace)}/{_PLURAL[ref.kind]}/{name(ref.name)}"


class KubernetesReader:
    """Implements ports.ClusterReader."""

    def __init__(self, http: KubernetesHttp) -> None:
        self._http = http

    # ------------------------------------------------------------------------------------------------ pods

    def pod(self, namespace: str, name_: str) -> Pod | None:
        raw = self._http.find(f"/api/v1/namespaces/{name(namespace)}/pods/{name(name_)}")
        return None if raw is None else objects.pod(raw)

    def pods_of(self, ref: WorkloadRef) -> tuple[Pod, ...]:
        """Empty as well if there is no such workload."""
        raw = self._http.find(workload_path(ref))
        if raw is None:
            return ()
        controllers = {objects.owned(raw).uid}
        if ref.kind == "Deployment":
            controllers = {objects.owned(replica_set).uid for replica_set in self._replica_sets(ref, raw)}
        query = [("labelSelector", objects.label_selector(raw))]
        return tuple(
            objects.pod(pod)
            for pod in self._http.items(f"/api/v1/namespaces/{name(ref.namespace)}/pods", query)
            if (controller := objects.owned(pod).controller) and controller.uid in controllers
        )

    def pods_on_node(self, node: str) -> tuple[Pod, ...]:
        found = self._http.items("/api/v1/pods", [("fieldSelector", f"spec.nodeName={name(node)}")])
        return tuple(objects.pod(raw) for raw in found)

    def pods_labelled(self, namespace: str, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        query = [("labelSelector", ",".join(f"{key}={value}" for key, value in labels.items()))]
        return tuple(objects.pod(raw) for raw in self._http.items(f"/api/v1/namespaces/{name(namespace)}/pods", query))

    def pod_logs(self, namespace: str, pod: str, container: str, *, tail: int, previous: bool = False) -> str:
        """The last lines, a megabyte at most. SourceError if the container has not started, or keeps no log."""
        query = [("container", container), ("tailLines", str(tail)), ("limitBytes", str(_LOG_LIMIT_BYTES))]
        query += [("previous", "true")] if previous else []
        return self._http.text(f"/api/v1/namespaces/{name(namespace)}/pods/{name(pod)}/log", query)

    # ------------------------------------------------------------------------------------------------ workloads

    def workload(self, ref: WorkloadRef) -> Workload | None:
        raw = self._http.find(workload_path(ref))
        return None if raw is None else objects.workload(ref, raw)

    def workload_of(self, pod: Pod) -> WorkloadRef | None:
        """None: nobody controls the pod. A controller that the bot cannot work with is a SourceError that names it,
        since an owner must not be overlooked."""
        if pod.owner is None or pod.owner_kind is None:
            return None
        if pod.owner_kind not in ("ReplicaSet", "StatefulSet"):
            raise _foreign(pod, f"{pod.owner_kind} {pod.owner}")
        plural = "replicasets" if pod.owner_kind == "ReplicaSet" else "statefulsets"
        raw = self._http.find(f"/apis/apps/v1/namespaces/{name(pod.namespace)}/{plural}/{name(pod.owner)}")
        if raw is None:
            why = f"{pod.owner_kind} {pod.owner}, which controls pod {pod.namespace}/{pod.name}, is gone"
            raise SourceError(SOURCE, why, "The pod is probably going too.", retryable=True)
        above = objects.owned(raw).controller
        if pod.owner_kind == "ReplicaSet" and above is not None and above.kind == "Deployment":
            return WorkloadRef(namespace=pod.namespace, kind="Deployment", name=above.name)
        if pod.owner_kind == "StatefulSet" and above is None:
            return WorkloadRef(namespace=pod.namespace, kind="StatefulSet", name=pod.owner)
        raise _foreign(pod, f"{above.kind} {above.name}" if above else f"ReplicaSet {pod.owner} without a Deployment")

    def revisions(self, ref: WorkloadRef) -> tuple[Revision, ...]:
        """`created_at` is the ReplicaSet's: a rollback takes an old one up again under a new number."""
        if ref.kind != "Deployment":
            return ()
        raw = self._http.find(workload_path(ref))
        if raw is None:
            return ()
        found = [objects.revision(replica_set) for replica_set in self._replica_sets(ref, raw)]
        return tuple(sorted(found, key=lambda revision: revision.number, reverse=True))

    def autoscaler_of(self, ref: WorkloadRef) -> Autoscaler | None:
        path = f"/apis/autoscaling/v2/namespaces/{name(ref.namespace)}/horizontalpodautoscalers"
        for raw in self._http.items(path):
            kind, target, autoscaler = objects.autoscaler(raw)
            if (kind, target) == (ref.kind, ref.name):
                return autoscaler
        return None

    def budgets(self, namespace: str) -> tuple[Budget, ...]:
        path = f"/apis/policy/v1/namespaces/{name(namespace)}/poddisruptionbudgets"
        return tuple(objects.budget(raw) for raw in self._http.items(path))

    def config_map(self, namespace: str, name_: str) -> ConfigMap | None:
        raw = self._http.find(f"/api/v1/namespaces/{name(namespace)}/configmaps/{name(name_)}")
        return None if raw is None else objects.config_map(raw)

    def _replica_sets(self, ref: WorkloadRef, deployment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        uid = objects.owned(deployment).uid
        query = [("labelSelector", objects.label_selector(deployment))]
        for raw in self._http.items(f"/apis/apps/v1/namespaces/{name(ref.namespace)}/replicasets", query):
            controller = objects.owned(raw).controller
            if controller is not None and controller.uid == uid:
                yield raw

    # ------------------------------------------------------------------------------------------------ nodes, events

    def node(self, name_: str) -> Node | None:
        raw = self._http.find(f"/api/v1/nodes/{name(name_)}")
        return None if raw is None else objects.node(raw)

    def nodes(self) -> tuple[Node, ...]:
        return tuple(objects.node(raw) for raw in self._http.items("/api/v1/nodes"))

    def free_gpus(self) -> Mapping[str, int]:
        """Whole GPUs (`nvidia.com/gpu`). Whether a pod tolerates the node's taints is the scheduler's to say."""
        free = {node.name: node.gpus for node in self.nodes() if node.ready and node.schedulable and node.gpus}
        living = "status.phase!=Succeeded,status.phase!=Failed"
        for raw in self._http.items("/api/v1/pods", [("fieldSelector", living)]):
            node = objects.node_of(raw)
            if node in free:
                free[node] -= objects.requested_gpus(raw)
        return free

    def events(self, namespace: str, kind: str, name_: str) -> tuple[Event, ...]:
        """Newest first. The API server keeps them for an hour. Those about nodes are in namespace `default`."""
        if not re.fullmatch(r"[A-Za-z]+", kind):
            raise SourceError(SOURCE, f"{kind!r} is not a kind, so it was not asked for")
        about = f"involvedObject.kind={kind},involvedObject.name={name(name_)}"
        found = self._http.items(f"/api/v1/namespaces/{name(namespace)}/events", [("fieldSelector", about)])
        return objects.by_time([objects.event(raw) for raw in found])


def _foreign(pod: Pod, owner: str) -> SourceError:
    why = f"pod {pod.namespace}/{pod.name} belongs to {owner}, which this bot does not know how to look at or change"
    return SourceError(SOURCE, why, "It knows Deployments and StatefulSets.")
