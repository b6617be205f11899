"""Where a replica finds its GPUs: how many more of a pod template fit on which nodes.

GPUs, node selectors, required affinity and taints are what keeps vLLM replicas Pending in practice. CPU, memory and
topology spread are left to the scheduler, whose words are shown when it does not place a pod.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bot.ports import Node

GPU = "nvidia.com/gpu"


def gpus_of(template: Mapping[str, Any]) -> int:
    """GPUs that one pod of the template asks for; 0 if it asks for none (or for another resource, such as a MIG)."""
    containers = template.get("spec", {}).get("containers", [])
    return sum(_gpus(container.get("resources", {})) for container in containers)


def _gpus(resources: Mapping[str, Any]) -> int:
    # Kubernetes sets the request equal to the limit, and accepts no other.
    return int((resources.get("limits") or {}).get(GPU) or (resources.get("requests") or {}).get(GPU) or 0)


def room(
    template: Mapping[str, Any], nodes: Sequence[Node], free_gpus: Mapping[str, int], *, hosts: Collection[str] = ()
) -> dict[str, int]:
    """How many more pods of the template fit, by node; nodes without room are left out.

    `free_gpus` are those that nobody has requested, per ready and schedulable node. `hosts` are the nodes that run a
    pod of the workload already: an anti-affinity by hostname allows no second one there.
    """
    need = gpus_of(template)
    alone = _one_per_host(template)
    fits: dict[str, int] = {}
    for node in nodes:
        if need == 0 or not accepts(template, node) or (alone and node.name in hosts):
            continue
        count = free_gpus.get(node.name, 0) // need
        if count > 0:
            fits[node.name] = min(count, 1) if alone else count
    return fits


def accepts(template: Mapping[str, Any], node: Node) -> bool:
    """May a pod of the template run on the node, GPUs aside?"""
    spec = template.get("spec", {})
    selected = all(node.labels.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
    return selected and _affine(spec, node) and _tolerates(spec, node)


def _affine(spec: Mapping[str, Any], node: Node) -> bool:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_holds(term, node) for term in required.get("nodeSelectorTerms", []))


def _holds(term: Mapping[str, Any], node: Node) -> bool:
    labels = [_expression(e, node.labels) for e in term.get("matchExpressions") or []]
    fields = [_expression(e, {"metadata.name": node.name}) for e in term.get("matchFields") or []]
    return bool(labels or fields) and all(labels + fields)  # an empty term matches nothing


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdecimal() and int(value) > int(wanted[0])
        case "Lt":
            return value is not None and value.isdecimal() and int(value) < int(wanted[0])
    return False


def _tolerates(spec: Mapping[str, Any], node: Node) -> bool:
    tolerations = spec.get("tolerations") or []
    return all(any(_matches(t, taint) for t in tolerations) for taint in node.taints if _repels(taint))


def _repels(taint: str) -> bool:
    return taint.endswith((":NoSchedule", ":NoExecute"))


def _matches(toleration: Mapping[str, Any], taint: str) -> bool:
    rest, _, effect = taint.rpartition(":")
    key, _, value = rest.partition("=")
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", key)
    return toleration.get("key") == key and (toleration.get("value") or "") == value


def _one_per_host(template: Mapping[str, Any]) -> bool:
    """Does a required anti-affinity keep the template's own pods on different nodes?"""
    affinity = (template.get("spec", {}).get("affinity") or {}).get("podAntiAffinity") or {}
    labels = template.get("metadata", {}).get("labels") or {}
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        wanted = (term.get("labelSelector") or {}).get("matchLabels") or {}
        if term.get("topologyKey") == "kubernetes.io/hostname" and wanted and wanted.items() <= labels.items():
            return True
    return False
