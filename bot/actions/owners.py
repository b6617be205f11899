"""Who else decides about a workload: an autoscaler about its replicas, a deployment tool about all of it. And about a
node: NVIDIA's NVSentinel, or whoever removes nodes.

Whoever changes the object behind their back is undone. So each is named, with the right front door.
"""

import json

from bot.fleet import WorkloadRef
from bot.ports import Autoscaler, ClusterReader, Node, Workload


def replica_owner(ref: WorkloadRef, wanted: int, cluster: ClusterReader) -> str | None:
    """Why setting the replicas would not last, and where to ask for `wanted` of them; None if nobody owns them."""
    owner = cluster.autoscaler_of(ref)
    if owner is None:
        return None
    kind = "KEDA's HorizontalPodAutoscaler" if owner.keda else "HorizontalPodAutoscaler"
    bounds = f"{owner.minimum} to {owner.maximum}, now {owner.current}"
    return (
        f"{kind} {owner.name} owns the replicas of {ref.name} ({bounds}) and would set them back. "
        f"Change its bounds instead: {_bounds_command(ref, owner, wanted)}"
    )


def _bounds_command(ref: WorkloadRef, owner: Autoscaler, wanted: int) -> str:
    low, high = ("minReplicaCount", "maxReplicaCount") if owner.keda else ("minReplicas", "maxReplicas")
    if wanted >= owner.current:  # more are wanted: a floor makes it start them
        spec = {low: wanted} | ({high: wanted} if wanted > owner.maximum else {})
    else:
        spec = {high: wanted} | ({low: wanted} if wanted < owner.minimum else {})
    resource = f"scaledobject {owner.name.removeprefix('keda-hpa-')}" if owner.keda else f"hpa {owner.name}"
    patch = json.dumps({"spec": spec}, separators=(",", ":"))
    return f"kubectl -n {ref.namespace} patch {resource} --type merge -p '{patch}'"


def manager(workload: Workload) -> str | None:
    """Why a direct edit would not last under Argo CD, Flux or Helm, and the front door; None if none manages it."""
    ref, tool = workload.ref, workload.managed_by
    if tool is None:
        return None
    if tool == "Helm":
        release = workload.annotations.get("meta.helm.sh/release-name") or workload.labels.get("release", "RELEASE")
        front_door = f"helm -n {ref.namespace} history {release}, then helm upgrade or helm rollback"
        return f"Helm manages {ref.name}: its next upgrade puts its own values back. Change it there: {front_door}"
    return f"{tool} manages {ref.name}: a direct edit is reverted. Change it there: {_gitops_door(workload)}"


def _gitops_door(workload: Workload) -> str:
    labels, annotations = workload.labels, workload.annotations
    if workload.managed_by == "Argo CD":
        tracked = annotations.get("argocd.argoproj.io/tracking-id", "").split(":")[0]
        app = tracked or labels.get("argocd.argoproj.io/instance", "APPLICATION")
        return f"commit it to the repository of application {app}, or argocd app rollback {app}"
    for kind, prefix in (("helmrelease", "helm.toolkit.fluxcd.io"), ("kustomization", "kustomize.toolkit.fluxcd.io")):
        if name := labels.get(f"{prefix}/name"):
            namespace = labels.get(f"{prefix}/namespace", workload.ref.namespace)
            return f"commit it to the source of {kind} {name}, or first: flux suspend {kind} {name} -n {namespace}"
    return "commit it to its repository"


# Labels and annotations that NVSentinel's fault-quarantine and node-drainer set, and the label that opts a node out.
_SENTINEL_STATE = "dgxc.nvidia.com/nvsentinel-state"
_SENTINEL_MANAGES = "k8saas.nvidia.com/ManagedByNVSentinel"
_GIVEN_UP = ("drain-failed", "remediation-failed")
# Taints of those who drain a node in order to remove it.
_REMOVERS = {
    "ToBeDeletedByClusterAutoscaler": "the Cluster Autoscaler",
    "karpenter.sh/disrupted": "Karpenter",
    "karpenter.sh/disruption": "Karpenter",
}


def node_holder(node: Node) -> str | None:
    """Who is at work on the node already, and the right front door; None if nobody is."""
    if (state := _sentinel_state(node)) is not None:
        return _sentinels_door(node.name, state)
    for taint in node.taints:
        if who := _REMOVERS.get(taint.partition("=")[0].partition(":")[0]):
            return f"{who} is removing {node.name}: it drains the node itself. Watch: kubectl get node {node.name} -w"
    return None


def _sentinel_state(node: Node) -> str | None:
    if node.labels.get(_SENTINEL_MANAGES) == "false":
        return None  # somebody took the node over from it
    quarantined = (
        node.annotations.get("quarantineHealthEvent") or node.labels.get("k8saas.nvidia.com/cordon-by") == "NVSentinel"
    )
    return node.labels.get(_SENTINEL_STATE) or ("quarantined" if quarantined else None)


def _sentinels_door(name: str, state: str) -> str:
    if state in _GIVEN_UP:
        return (
            f"NVSentinel holds {name} and has given up on it ({state}). Take the node over first: "
            f"kubectl label node {name} {_SENTINEL_MANAGES}=false"
        )
    return (
        f"NVSentinel holds {name} ({state}): it drains and mends the node and brings it back by itself. "
        f"Watch: kubectl get node {name} -L {_SENTINEL_STATE} -w. To call it off: kubectl uncordon {name}"
    )
