"""Who else decides about a workload: an autoscaler about its replicas, a deployment tool about all of it.

Whoever changes the object behind their back is undone. So each is named, with the right front door.
"""

import json

from bot.fleet import WorkloadRef
from bot.ports import Autoscaler, ClusterReader, Workload


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
