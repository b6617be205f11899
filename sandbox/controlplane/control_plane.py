"""Runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on loopback, as one thing.

Real: API, admission, RBAC, controllers, scheduling, disruption budgets, dry runs. Played by kwok: nodes and kubelets,
so there are no containers, and no probes run. Pod addresses are loopback ones: a process of ours can be the pod, and
is reached at the pod's own address. Services have no endpoints.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sandbox.addresses import PodNetwork, free_pod_network, free_port
from sandbox.controlplane import audit
from sandbox.controlplane.api import Api
from sandbox.controlplane.build import LOGS_DEFINITION, build, built
from sandbox.controlplane.certificates import Certificates
from sandbox.controlplane.kubeconfig import certificate_user, write_kubeconfig
from sandbox.controlplane.kubelet import Kubelet
from sandbox.part import Part, answers
from sandbox.started import Started

_STAGES = Path(__file__).parent / "stages"


class KubectlError(RuntimeError):
    """kubectl ended with an error; the text is what it said."""


class ControlPlane(Started):
    """`start`, use, `stop`; or as a context manager. Everything it writes lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._etcd_port, self._etcd_peer_port = free_port(), free_port()
        self._kubelet_port = free_port()
        self.url = f"https://127.0.0.1:{free_port()}"
        self._certificates = Certificates(folder / "certificates")
        self.ca = self._certificates.ca
        admin = self._certificates.client("admin", "system:masters")
        self.admin_kubeconfig = self._kubeconfig("admin", certificate_user(*admin))
        self.api = Api(self.url, self.ca, admin)
        self.kubelet = Kubelet(self.api, folder / "pod-logs")
        self._audit_log = folder / "audit.log"
        self._pods: PodNetwork | None = None

        build()  # at once if it was built before
        self._etcd = self._etcd_part()
        self.apiserver = self._apiserver_part()
        self._controller_manager = self._controller_part(
            "kube-controller-manager",
            [
                f"--service-account-private-key-file={self._certificates.service_accounts_key}",
                f"--root-ca-file={self.ca}",
                "--use-service-account-credentials",
                # The API server takes no loopback address into an EndpointSlice: Services stay without endpoints.
                "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
                # After an outage a kubelet is back in seconds; kwok may need half a minute, and no node is to be lost.
                "--node-monitor-grace-period=10m",
            ],
        )
        self._scheduler = self._controller_part("kube-scheduler", [])
        self._kwok: Part | None = None

    # ------------------------------------------------------------------------------------------------ run

    def start(self) -> Self:
        self._etcd.start()
        self.apiserver.start()
        self._pods = free_pod_network()
        self._kwok = self._kwok_part(self._pods.cidr)
        self.kubectl("apply", "-f", str(built(LOGS_DEFINITION)))
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Part.start, [self._controller_manager, self._scheduler, self._kwok]))
        self._wait_for_service_accounts()
        return self

    def stop(self) -> None:
        """The reverse order, so that nobody writes to what has gone. What is not running is left alone."""
        for part in reversed(self.parts):
            part.stop()
        if self._pods is not None:
            self._pods.release()
            self._pods = None

    def _wait_for_service_accounts(self) -> None:
        """No pod is admitted before its namespace's ServiceAccount exists, which the controller manager makes."""
        deadline = time.monotonic() + 30
        while self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no ServiceAccount `default` after 30 s\n{self._controller_manager.tail()}")
            time.sleep(0.05)

    @property
    def parts(self) -> list[Part]:
        """Its processes, in the order of their start."""
        every = [self._etcd, self.apiserver, self._controller_manager, self._scheduler]
        return every if self._kwok is None else [*every, self._kwok]

    @contextmanager
    def outage(self, *, refuse: bool = False) -> Iterator[None]:
        """The API server accepts connections and answers nothing, or with `refuse` nobody listens any more.

        Its own clients are stopped meanwhile. They would wait longer after each failure, up to half a minute, and so
        prolong the outage; like this all goes on at once when the API server is back.
        """
        clients = self.parts[2:]
        for part in clients:
            part.freeze()
        if refuse:
            self.apiserver.kill()
        else:
            self.apiserver.freeze()
        try:
            yield
        finally:
            if refuse:
                self.apiserver.start()
            else:
                self.apiserver.thaw()
            for part in clients:
                part.thaw()

    # ------------------------------------------------------------------------------------------------ use

    @property
    def pod_cidr(self) -> str:
        """Where pods get their addresses, 127.x.0.0/16."""
        if self._pods is None:
            raise RuntimeError("the control plane has not been started")
        return self._pods.cidr

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """What the real kubectl prints, as administrator unless told otherwise. Raises KubectlError."""
        answer = subprocess.run(
            [built("kubectl"), *arguments],
            env={
                **os.environ,
                "KUBECONFIG": str(kubeconfig or self.admin_kubeconfig),
                "KUBECACHEDIR": str(self.folder / "kubectl"),
            },
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if answer.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {answer.stderr.strip() or answer.stdout.strip()}")
        return answer.stdout

    def token(self, namespace: str, service_account: str, seconds: int = 86_400) -> str:
        """A token of the ServiceAccount, as a pod would find it mounted."""
        answer = self.api.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}},
        )
        token: str = answer["status"]["token"]
        return token

    def token_file(self, namespace: str, service_account: str) -> Path:
        """The token in a file, where a program expects a mounted one."""
        path = self.folder / f"{namespace}-{service_account}.token"
        path.touch(mode=0o600)
        path.write_text(self.token(namespace, service_account))
        return path

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig that is this ServiceAccount and nothing more."""
        return self._kubeconfig(f"{namespace}-{service_account}", {"token": self.token(namespace, service_account)})

    def audit(self, user: str | None = None) -> Iterator[audit.AuditEntry]:
        """What was asked so far, oldest first; by one user, or by everybody but the control plane itself."""
        return (entry for entry in audit.entries(self._audit_log) if user is None or entry.user == user)

    # ------------------------------------------------------------------------------------------------ parts

    def _etcd_part(self) -> Part:
        url, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer_port}"
        return Part(
            "etcd",
            [
                str(built("etcd")),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",  # nothing here outlives the run
            ],
            log=self.folder / "etcd.log",
            ready=answers(f"{url}/health"),
        )

    def _apiserver_part(self) -> Part:
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(audit.POLICY))
        keys = self._certificates
        return Part(
            "kube-apiserver",
            [
                str(built("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.url.rpartition(':')[2]}",
                f"--tls-cert-file={keys.server}",
                f"--tls-private-key-file={keys.server_key}",
                f"--client-ca-file={keys.ca}",
                # Nobody holds a certificate of this name; without the two, the controllers log an error a second.
                f"--requestheader-client-ca-file={keys.ca}",
                "--requestheader-allowed-names=front-proxy",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={keys.service_accounts_public_key}",
                f"--service-account-signing-key-file={keys.service_accounts_key}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",  # node names resolve nowhere
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self._audit_log}",
                "--audit-log-maxsize=100000",  # MB: never rotated, so that one file holds everything
            ],
            log=self.folder / "kube-apiserver.log",
            ready=answers(f"{self.url}/readyz", verify=str(self.ca)),
        )

    def _controller_part(self, program: str, more: list[str]) -> Part:
        port = free_port()
        config = self._kubeconfig(program, certificate_user(*self._certificates.client(f"system:{program}")))
        return Part(
            program,
            [
                str(built(program)),
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--tls-cert-file={self._certificates.server}",
                f"--tls-private-key-file={self._certificates.server_key}",
                "--leader-elect=false",
                # Their own default of 20 to 50 requests a second makes a start wait 4 s for nothing.
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
                *more,
            ],
            log=self.folder / f"{program}.log",
            ready=answers(f"https://127.0.0.1:{port}/healthz", verify=str(self.ca)),
        )

    def _kwok_part(self, pod_cidr: str) -> Part:
        config = self._kubeconfig("kwok", certificate_user(*self._certificates.client("kwok", "system:masters")))
        address = f"127.0.0.1:{self._kubelet_port}"
        return Part(
            "kwok",
            [
                str(built("kwok")),
                f"--kubeconfig={config}",
                "--manage-all-nodes=true",
                "--node-ip=127.0.0.1",
                f"--node-port={self._kubelet_port}",
                f"--server-address={address}",
                f"--cidr={pod_cidr}",
                "--node-lease-duration-seconds=40",
                "--enable-crds=Logs",
                *(f"--config={stage}" for stage in sorted(_STAGES.glob("*.yaml"))),
                f"--config={self._silent_containers()}",
            ],
            log=self.folder / "kwok.log",
            ready=answers(f"http://{address}/healthz"),
        )

    def _silent_containers(self) -> Path:
        """Without word from `Kubelet.set_logs` a container has printed nothing, which is not an error."""
        empty = self.folder / "empty.log"
        empty.touch()
        rule = self.folder / "silent-containers.json"
        rule.write_text(
            json.dumps(
                {
                    "apiVersion": "kwok.x-k8s.io/v1alpha1",
                    "kind": "ClusterLogs",
                    "metadata": {"name": "silent-containers"},
                    "spec": {"logs": [{"logsFile": str(empty)}]},
                }
            )
        )
        return rule

    def _kubeconfig(self, name: str, user: dict[str, str]) -> Path:
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", server=self.url, ca=self.ca, user=user)
