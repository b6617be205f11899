"""What is an alert about? Labels -> service, workload, pod, node, through the API server.

Alerts of vLLM, dcgm-exporter and kube-state-metrics name the same things under different labels; and a `pod` label
may be the exporter's own pod. So a label counts only if what it names exists, and belongs to a service of ours.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from bot.fleet import NAME, Fleet, Service, WorkloadRef
from bot.incidents.incident import Target
from bot.ports import ClusterReader, Pod, SourceError

# With honor_labels off, Prometheus renames the exporter's own claims to exported_*: these are the workload's.
POD_LABELS = (("exported_namespace", "exported_pod"), ("namespace", "pod"), ("namespace", "exported_pod"))
NODE_LABELS = ("node", "Hostname", "hostname", "kubernetes_node", "exported_node", "instance")
SERVICE_LABELS = ("vllm_service", "service", "app", "inference_service")
AUTOSCALER_LABEL = "horizontalpodautoscaler"  # of kube-prometheus' alerts about one
WORKLOAD_LABELS = {"deployment": "Deployment", "statefulset": "StatefulSet"}
MODEL_LABELS = ("model_name", "model")


def key_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The labels that decide the target: alerts that agree in them are about the same thing."""
    names = {*NODE_LABELS, *SERVICE_LABELS, *WORKLOAD_LABELS, *MODEL_LABELS, AUTOSCALER_LABEL, "namespace", "pod"}
    names |= {"exported_namespace", "exported_pod"}
    return tuple(sorted((k, v) for k, v in labels.items() if k in names))


def resolve(labels: Mapping[str, str], cluster: ClusterReader, fleet: Fleet) -> Target:
    """Never raises: without the API server the target is what labels alone can say, and `unresolved` says so."""
    declared = by_labels(labels, fleet)
    try:
        found = _by_pod(labels, cluster, fleet) or _by_autoscaler(labels, cluster, fleet)
        return found or _by_node(labels, cluster, fleet, declared) or declared
    except SourceError as error:
        return replace(declared, unresolved=f"{error.source} could not be asked: {error.why}")


def by_labels(labels: Mapping[str, str], fleet: Fleet) -> Target:
    """What the labels and fleet.yaml say, without asking the cluster."""
    service = _declared_service(labels, fleet)
    namespace = labels.get("namespace")
    if service is None:
        seen = ", ".join(f"{k}={v}" for k, v in key_labels(labels)) or "none that name a pod, node, service or model"
        return Target(namespace=namespace, unresolved=f"no service of fleet.yaml matches its labels ({seen})")
    ref = _declared_workload(labels, service)
    return Target(service=service.name, workload=ref, namespace=ref.namespace)


def merged(old: Target, new: Target, *, leads: bool) -> Target:
    """What was known stays, what was not known may be now, and no service is lost.

    leads: from now on it is the new alert's runbook that is asked, so it is asked about what this alert names. Else a
    node's incident over several services stays that, whichever of them has trouble of its own, too.
    """
    if new.service is None and new.node is None:
        return old
    was_vague = old.service is None and not old.also and (new.service is not None or old.node is None)
    base = _about(new, old) if leads or was_vague else old
    services = (old.service, *old.also, new.service, *new.also)
    also = dict.fromkeys(name for name in services if name is not None and name != base.service)
    return replace(base, also=tuple(also))


def _about(new: Target, old: Target) -> Target:
    """What `new` names; where it leaves the service, the node or the pod open, the old one's."""
    node = new.node or old.node
    pod_there = old.pod if node == old.node else None
    if new.service is None and old.service is not None:
        return replace(old, node=node, pod=pod_there)
    return replace(new, node=node, pod=new.pod or (pod_there if new.service == old.service else None))


def _declared_service(labels: Mapping[str, str], fleet: Fleet) -> Service | None:
    for label in SERVICE_LABELS:
        if (service := fleet.service(labels.get(label, ""))) is not None:
            return service
    for label, kind in WORKLOAD_LABELS.items():
        if label in labels:
            for service in fleet.services:
                if any(_names(ref, kind, labels[label], labels.get("namespace")) for ref in service.workloads):
                    return service
    for label in MODEL_LABELS:
        served = [s for s in fleet.services if s.model is not None and s.model == labels.get(label)]
        if len(served) == 1:
            return served[0]
    return None


def _names(ref: WorkloadRef, kind: str, name: str, namespace: str | None) -> bool:
    return ref.kind == kind and ref.name == name and namespace in (None, ref.namespace)


def _declared_workload(labels: Mapping[str, str], service: Service) -> WorkloadRef:
    for label, kind in WORKLOAD_LABELS.items():
        for ref in service.workloads:
            if _names(ref, kind, labels.get(label, ""), labels.get("namespace")):
                return ref
    return service.workloads[0]  # the first declared is the main one; a canary comes after it


def _by_pod(labels: Mapping[str, str], cluster: ClusterReader, fleet: Fleet) -> Target | None:
    for namespace_label, pod_label in POD_LABELS:
        namespace, name = labels.get(namespace_label), labels.get(pod_label)
        if namespace is None or name is None or not (_is_name(namespace) and _is_name(name)):
            continue
        pod = cluster.pod(namespace, name)
        ref = _owner(pod, cluster) if pod is not None else _owner_of_gone_pod(namespace, name, cluster, fleet)
        service = fleet.service_of(ref) if ref is not None else None
        if service is not None:
            return Target(service.name, ref, name, namespace, pod.node if pod is not None else None)
    return None


def _owner(pod: Pod, cluster: ClusterReader) -> WorkloadRef | None:
    """None for what can be no service of ours: an exporter's DaemonSet, a Job, a bare pod."""
    return cluster.workload_of(pod) if pod.owner_kind in ("ReplicaSet", "StatefulSet") else None


def _owner_of_gone_pod(namespace: str, name: str, cluster: ClusterReader, fleet: Fleet) -> WorkloadRef | None:
    """A pod that is gone still tells its ReplicaSet by name: `<replica set>-<5 letters>`."""
    for service in fleet.services:
        for ref in service.workloads:
            if ref.namespace != namespace or not name.startswith(ref.name + "-"):
                continue
            if ref.kind == "StatefulSet" and re.fullmatch(re.escape(ref.name) + r"-\d+", name):
                return ref
            sets = {revision.replica_set for revision in cluster.revisions(ref)}
            if name[:-6] in sets and name[-6] == "-":
                return ref
    return None


def _by_autoscaler(labels: Mapping[str, str], cluster: ClusterReader, fleet: Fleet) -> Target | None:
    """An autoscaler's name need not be that of what it scales."""
    name, namespace = labels.get(AUTOSCALER_LABEL), labels.get("namespace")
    for service in fleet.services if name is not None else ():
        for ref in service.workloads:
            scaler = cluster.autoscaler_of(ref) if ref.namespace == namespace else None
            if scaler is not None and scaler.name == name:
                return Target(service=service.name, workload=ref, namespace=ref.namespace)
    return None


def _by_node(labels: Mapping[str, str], cluster: ClusterReader, fleet: Fleet, declared: Target) -> Target | None:
    for label in NODE_LABELS:
        name = labels.get(label, "").rsplit(":", 1)[0]
        if not _is_name(name) or (node := cluster.node(name)) is None:
            continue
        hit = _services_on(cluster.pods_on_node(node.name), cluster, fleet)
        if declared.service is not None:
            return replace(declared, node=node.name)
        if len(hit) == 1:
            (service, ref) = hit[0]
            return Target(service=service.name, workload=ref, namespace=ref.namespace, node=node.name)
        also = tuple(service.name for service, _ in hit)
        return Target(node=node.name, also=also, unresolved=None if hit else "no service of ours runs on this node")
    return None


def _services_on(pods: tuple[Pod, ...], cluster: ClusterReader, fleet: Fleet) -> list[tuple[Service, WorkloadRef]]:
    found: dict[str, tuple[Service, WorkloadRef]] = {}
    for pod in pods:
        ref = _owner(pod, cluster)
        service = fleet.service_of(ref) if ref is not None else None
        if service is not None and ref is not None:
            found.setdefault(service.name, (service, ref))
    return list(found.values())


def _is_name(text: str) -> bool:
    return len(text) <= 253 and re.fullmatch(NAME, text) is not None
