import pytest

from sandbox.controlplane.api import ApiError
from sandbox.controlplane.control_plane import ControlPlane


def test_apply_creates_and_then_makes_it_so(control_plane: ControlPlane, namespace: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/configmaps/m"
    assert control_plane.api.find(path) is None
    control_plane.api.apply({**manifest, "data": {"a": "1", "b": "2"}})
    control_plane.api.apply({**manifest, "data": {"a": "3"}})
    assert control_plane.api.get(path)["data"] == {"a": "3"}


def test_a_refusal_carries_the_server_s_code_and_words(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(ApiError, match='namespaces "nowhere" not found') as refused:
        control_plane.api.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "nowhere"}}
        )
    assert (refused.value.status, refused.value.reason) == (404, "NotFound")


def test_deleting_what_is_gone_is_no_error(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.api.delete(f"/api/v1/namespaces/{namespace}/configmaps/never-was")


def test_a_custom_resource_is_found_by_its_kind(control_plane: ControlPlane, namespace: str) -> None:
    made = control_plane.api.apply(
        {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Logs",
            "metadata": {"name": "m", "namespace": namespace},
            "spec": {"logs": [{"logsFile": "/dev/null"}]},
        }
    )
    assert made["metadata"]["uid"]
