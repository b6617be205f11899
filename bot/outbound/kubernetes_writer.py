"""Changes to workloads and nodes, each one JSON Patch whose `test` holds the values that the approver saw; and pods
that go, each told by its uid.

A real change asks `still_leader` right before it is sent. A dry run does not: it changes nothing, and any replica may
preview.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bot.fleet import WorkloadRef
from bot.outbound.kubernetes_http import SOURCE, KubernetesHttp, Query, Reply, name
from bot.outbound.kubernetes_objects import owned, without_hash
from bot.outbound.kubernetes_reader import workload_path
from bot.ports import Change, ConflictError, SourceError

FIELD_MANAGER = "vllm-oncall"
_CHANGE_CAUSE = "kubernetes.io/change-cause"
_ATTEMPTS = 3
# A Scale of 0 has no such field, so there is nothing to compare with.
_TEST_OF_ZERO = {"op": "test", "path": "/spec", "value": {}}

_Object = dict[str, Any]


class KubernetesWriter:
    """Implements ports.ClusterWriter."""

    def __init__(self, http: KubernetesHttp, *, still_leader: Callable[[], bool]) -> None:
        self._http = http
        self._still_leader = still_leader

    def scale(self, ref: WorkloadRef, *, before: int, after: int, dry_run: bool = False) -> Change:
        """Through the scale subresource: a role that may only scale is enough. The objects are Scales."""
        path = f"{workload_path(ref)}/scale"
        there = self._http.get(path)
        count = _replicas(there)
        if count != before:
            raise ConflictError(SOURCE, f"{ref} has {count} replicas now, not {before} as shown.", "Look again.")
        test = {"op": "test", "path": "/spec/replicas", "value": before} if before else _TEST_OF_ZERO
        add = {"op": "add", "path": "/spec/replicas", "value": after}
        return Change(_shown(there), _shown(self._patch(path, [test, add], dry_run)))

    def set_template(
        self,
        ref: WorkloadRef,
        *,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        cause: str,
        dry_run: bool = False,
    ) -> Change:
        """As `kubectl rollout undo` does it: the template is replaced as a whole."""
        path = workload_path(ref)
        for attempt in range(1, _ATTEMPTS + 1):
            there = self._http.get(path)
            if without_hash(there["spec"]["template"]) != without_hash(before):
                raise ConflictError(SOURCE, f"the pod template of {ref} is no longer the one shown.", "Look again.")
            try:
                changed = self._patch(path, _template_patch(there, without_hash(after), cause), dry_run)
                return Change(_shown(there), _shown(changed))
            except ConflictError:
                # Somebody changed the spec between the read and the patch: the replicas, most likely. Once more.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def set_schedulable(self, node: str, *, before: bool, after: bool, dry_run: bool = False) -> Change:
        path = f"/api/v1/nodes/{name(node)}"
        there = self._http.get(path)
        if _schedulable(there) != before:
            is_now = "schedulable" if _schedulable(there) else "cordoned"
            raise ConflictError(SOURCE, f"{node} is {is_now} now, not as shown.", "Look again.")
        # A node that was never cordoned has no such field, and a `test` for null is how a patch says so.
        test = {"op": "test", "path": "/spec/unschedulable", "value": None if before else True}
        add = {"op": "add", "path": "/spec/unschedulable", "value": not after}
        return Change(_shown(there), _shown(self._patch(path, [test, add], dry_run)))

    def evict(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> str | None:
        # An eviction with a wrong uid is refused too, but only after it has used up a disruption of the budget, which
        # then lets nobody go for two minutes (measured). So the uid is looked at first.
        if self._is_gone(namespace, pod, uid):
            return None
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = f"{_pod_path(namespace, pod)}/eviction"
        reply = self._http.send("POST", path, eviction, self._dry_or_leading(path, dry_run))
        if words := _budgets_words(reply):
            return words
        if reply.status == 500 and "PodDisruptionBudget" in reply.message:  # more than one: asking again is no use
            raise SourceError(SOURCE, f"{namespace}/{pod} cannot be evicted: {reply.message}", "Leave it one of them.")
        self._check_gone(reply, "POST", path, namespace, pod, uid)
        return None

    def delete_pod(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> None:
        path = _pod_path(namespace, pod)
        options: _Object = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        # Beside a body the API server does not read the query: `?dryRun=All` there deletes (measured).
        options |= {key: [value] for key, value in self._dry_or_leading(path, dry_run)}
        reply = self._http.send("DELETE", path, options)
        self._check_gone(reply, "DELETE", path, namespace, pod, uid)

    def _is_gone(self, namespace: str, pod: str, uid: str) -> bool:
        there = self._http.find(_pod_path(namespace, pod))
        return there is None or owned(there).uid != uid

    def _check_gone(self, reply: Reply, method: str, path: str, namespace: str, pod: str, uid: str) -> None:
        """A pod that is gone, or has made room for another one of its name, is what was wanted."""
        if reply.status == 404 or (reply.status == 409 and self._is_gone(namespace, pod, uid)):
            return
        self._http.checked(reply, method, path)

    def _patch(self, path: str, operations: Sequence[Mapping[str, Any]], dry_run: bool) -> _Object:
        query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"), *self._dry_or_leading(path, dry_run)]
        return self._http.patch_json(path, operations, query)

    def _dry_or_leading(self, path: str, dry_run: bool) -> Query:
        """Asked right before a request is sent, since only the leader sends a real one."""
        if dry_run:
            return [("dryRun", "All")]
        if not self._still_leader():
            raise SourceError(SOURCE, f"nothing was sent to {path}: another replica of the bot leads now")
        return []


def _template_patch(there: _Object, after: Mapping[str, Any], cause: str) -> list[Mapping[str, Any]]:
    # `test` compares texts, so a template with an umlaut or a `<` in it never equals itself. The generation does:
    # it counts changes of the spec, and no write to the status moves it.
    meta = there["metadata"]
    patch: list[Mapping[str, Any]] = [{"op": "test", "path": "/metadata/generation", "value": meta["generation"]}]
    if not meta.get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    key = _CHANGE_CAUSE.replace("~", "~0").replace("/", "~1")
    patch.append({"op": "add", "path": f"/metadata/annotations/{key}", "value": cause})
    patch.append({"op": "replace", "path": "/spec/template", "value": after})
    return patch


def _pod_path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{name(namespace)}/pods/{name(pod)}"


def _schedulable(node: _Object) -> bool:
    return not (node.get("spec") or {}).get("unschedulable")


def _budgets_words(reply: Reply) -> str:
    """Why a disruption budget refuses; "" for every other answer. An overloaded API server says 429, too."""
    causes = (reply.said.get("details") or {}).get("causes") or () if reply.status == 429 else ()
    return "; ".join(c.get("message") or reply.message for c in causes if c.get("reason") == "DisruptionBudget")


def _replicas(scale: _Object) -> int:
    return int((scale.get("spec") or {}).get("replicas") or 0)


def _shown(raw: _Object) -> _Object:
    """As a person reads it: without the record of who wrote which field, and with a zero that is a zero."""
    meta = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    spec = raw["spec"] if raw.get("kind") != "Scale" else {"replicas": _replicas(raw)}
    return {**raw, "metadata": meta, "spec": spec}
