"""The bot's account in the sandbox: what `deploy/` gives it and nothing more, so that tests see what production would.

Installed by the sandbox's own kubectl from the very manifests that users apply.
"""

from collections.abc import Iterable
from pathlib import Path

from sandbox.controlplane.cluster import Cluster
from sandbox.controlplane.control_plane import ControlPlane

NAMESPACE = "vllm-oncall"
SERVICE_ACCOUNT = "vllm-oncall"
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"  # in the audit log

_DEPLOY = Path(__file__).parents[2] / "deploy"
_CHANGE = "vllm-oncall-change"


def install(control_plane: ControlPlane, namespaces: Iterable[str] = ("llm",)) -> Path:
    """Apply account and roles; let it change what runs in `namespaces`. Returns the file that holds its token."""
    cluster = Cluster(control_plane)
    base = _DEPLOY / "base"
    files = [base / name for name in ("namespace.yaml", "service-account.yaml", "rbac-read.yaml", "rbac-change.yaml")]
    cluster.create_namespace("llm")  # the one that the manifests name
    control_plane.kubectl("apply", *(f"--filename={file}" for file in files))
    for namespace in namespaces:
        allow_changes(control_plane, namespace)
    return control_plane.token_file(NAMESPACE, SERVICE_ACCOUNT)


def allow_changes(control_plane: ControlPlane, namespace: str) -> None:
    """What a user does for each namespace that vLLM runs in: one more RoleBinding."""
    Cluster(control_plane).create_namespace(namespace)
    rbac = "rbac.authorization.k8s.io"
    control_plane.api.apply(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": _CHANGE, "namespace": namespace},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": _CHANGE},
            "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": NAMESPACE}],
        }
    )
