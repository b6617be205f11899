import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane, KubectlError


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path) as running:
        yield running


def test_two_run_side_by_side_and_know_nothing_of_each_other(control_plane: ControlPlane, own: ControlPlane) -> None:
    own.kubectl("create", "namespace", "only-here")
    assert own.pod_cidr != control_plane.pod_cidr
    assert "only-here" in own.kubectl("get", "namespaces")
    assert "only-here" not in control_plane.kubectl("get", "namespaces")


def test_stop_leaves_no_process_and_no_port_behind(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as running:
        pids = [part.pid for part in running.parts]
        assert len(pids) == 5
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(running.url).port or 0)) != 0


def test_every_part_listens_on_loopback_only(control_plane: ControlPlane) -> None:
    listening = {address for part in control_plane.parts for address in _listens_on(part.pid)}
    assert listening and all(address.startswith("127.") for address in listening)


def test_a_token_is_nobody_until_a_role_is_bound(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "reader")
    config = control_plane.kubeconfig_for(namespace, "reader")
    with pytest.raises(KubectlError, match=f"system:serviceaccount:{namespace}:reader.*cannot list"):
        control_plane.kubectl("-n", namespace, "get", "pods", kubeconfig=config)
    control_plane.kubectl(
        "-n", namespace, "create", "rolebinding", "view", "--clusterrole=view", f"--serviceaccount={namespace}:reader"
    )
    assert control_plane.kubectl("-n", namespace, "get", "pods", "-o", "name", kubeconfig=config) == ""


def test_the_audit_log_names_who_asked_for_what_and_what_was_answered(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "asker")
    user = f"system:serviceaccount:{namespace}:asker"
    answer = requests.get(
        f"{control_plane.url}/api/v1/nodes/gpu-01",
        headers={"Authorization": f"Bearer {control_plane.token_file(namespace, 'asker').read_text()}"},
        verify=str(control_plane.ca),
        timeout=10,
    )
    assert answer.status_code == 403
    (entry,) = control_plane.audit(user)
    assert (entry.verb, entry.resource, entry.name, entry.code) == ("get", "nodes", "gpu-01", 403)
    assert not entry.changed_something


def test_the_audit_log_tells_a_dry_run_from_a_change(
    control_plane: ControlPlane, cluster: Cluster, namespace: str
) -> None:
    cluster.deploy(VllmDeployment(namespace=namespace, replicas=1))
    scale = ("-n", namespace, "scale", "deployment/chat-70b")
    control_plane.kubectl(*scale, "--replicas=2", "--dry-run=server")
    assert cluster.deployment(namespace, "chat-70b")["spec"]["replicas"] == 1
    control_plane.kubectl(*scale, "--replicas=2")
    changes = [
        (entry.dry_run, entry.changed_something)
        for entry in control_plane.audit("admin")
        if entry.namespace == namespace and entry.subresource == "scale" and entry.verb in ("patch", "update")
    ]
    assert changes == [(True, False), (False, True)]


@pytest.mark.parametrize("refuse", [False, True], ids=["no answer", "connection refused"])
def test_after_an_outage_the_cluster_goes_on_at_once(own: ControlPlane, refuse: bool) -> None:
    cluster = Cluster(own)
    cluster.seed(deployments=[VllmDeployment(cold_start_seconds=0.5)])
    with own.outage(refuse=refuse), pytest.raises(requests.RequestException):
        requests.get(f"{own.url}/readyz", verify=str(own.ca), timeout=1)
    cluster.scale("llm", "chat-70b", 4)
    begin = time.monotonic()
    cluster.wait_until_rolled_out("llm", "chat-70b")
    assert time.monotonic() - begin < 10
    addresses = [pod["status"]["podIP"] for pod in cluster.pods("llm", "chat-70b")]
    assert len(set(addresses)) == 4


def _listens_on(pid: int) -> set[str]:
    """IPv4 and IPv6 addresses of the listening TCP sockets of a process."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                raw = bytes.fromhex(columns[1].partition(":")[0])
                words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
                found.add(socket.inet_ntop(family, words))
    return found
