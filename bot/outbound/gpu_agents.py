"""The agents on the GPU nodes, asked over HTTP: where each runs, what it reads now, what the driver reported."""

import ipaddress
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bot.gpu_readings import EventPage, GpuNode
from bot.outbound.json_http import JsonHttp, session
from bot.ports import ClusterReader, Pod, SourceError

SOURCE = "GPU agent"
LABELS = {"app.kubernetes.io/name": "vllm-oncall-agent"}
_ADDRESSES_SECONDS = 30.0
_SETTING = "VLLM_ONCALL_AGENT__PORT"

_NODE = TypeAdapter(GpuNode)
_PAGE = TypeAdapter(EventPage)
T = TypeVar("T")


class GpuAgents:
    """Implements ports.Gpus. Agents are our DaemonSet's pods in `namespace`; `hosts` (node -> host:port) are others.

    Only pods of that namespace are given the token: whoever may start a pod elsewhere could label it as an agent.
    """

    def __init__(
        self,
        cluster: ClusterReader,
        *,
        token: str | None,
        namespace: str,
        port: int,
        timeout_seconds: float,
        hosts: Mapping[str, str] | None = None,
        threads: int = 64,
    ) -> None:
        self._cluster = cluster
        self._token = token
        self._namespace = namespace
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._hosts = dict(hosts or {})
        self._session = session(threads)
        # Nodes are inside the cluster: no proxy of the environment leads there, no .netrc is meant for them.
        self._session.trust_env = False
        self._lock = threading.Lock()
        self._addresses: Mapping[str, str] = {}
        self._known_until = 0.0

    def nodes(self) -> tuple[str, ...]:
        """Where agents run. Raises SourceError."""
        return tuple(sorted({**self._found(), **self._hosts}))

    def snapshot(self, node: str) -> GpuNode:
        return self._asked(node, _NODE, "/v1/gpus", [], self._timeout_seconds)

    def events(self, node: str, *, after: int = 0, ring: str | None = None, wait_seconds: float = 0) -> EventPage:
        query = [("after", str(after)), ("wait", f"{wait_seconds:g}"), *([("ring", ring)] if ring else [])]
        return self._asked(node, _PAGE, "/v1/events", query, wait_seconds + self._timeout_seconds)

    # ------------------------------------------------------------------------------------------------ asking

    def _asked(
        self, node: str, form: TypeAdapter[T], path: str, query: Sequence[tuple[str, str]], timeout_seconds: float
    ) -> T:
        http = self._http(node, timeout_seconds)
        try:
            reply = http.ask("GET", path, query=query)
        except SourceError:
            # Its pod may have been replaced, and have another address now.
            self._forget()
            again = self._http(node, timeout_seconds)
            if again.url == http.url:
                raise
            http, reply = again, again.ask("GET", path, query=query)
        if reply.status in (401, 403):
            why = f"the one on {node} refused our token ({reply.status})"
            both = f"the bot's secret and the agents' (namespace {self._namespace})"
            hint = f"Let {both} have the same VLLM_ONCALL_AGENT__TOKEN, and restart both."
            raise SourceError(SOURCE, why, hint)
        if reply.status != 200:
            raise http.refused(path, reply)
        try:
            return form.validate_json(reply.body)
        except ValidationError as error:
            why = f"on {node} answered {path} in a form this bot does not know ({error.error_count()} mistakes)"
            hint = "Are bot and agent of about the same version?"
            raise SourceError(SOURCE, why, hint) from error

    def _http(self, node: str, timeout_seconds: float) -> JsonHttp:
        headers = {"Authorization": f"Bearer {self._token}"}
        if not self._token:
            raise SourceError(SOURCE, "is not configured", "Set VLLM_ONCALL_AGENT__TOKEN to the agents' token.")
        return JsonHttp(SOURCE, self._url(node), _SETTING, timeout_seconds, self._session, headers)

    def _url(self, node: str) -> str:
        address = self._hosts.get(node) or self._found().get(node)
        if address is None:
            hint = f"kubectl -n {self._namespace} get pods -o wide"
            raise SourceError(SOURCE, f"runs on no node {node}", hint)
        return f"http://{address}"

    # ------------------------------------------------------------------------------------------------ finding

    def _found(self) -> Mapping[str, str]:
        with self._lock:
            if time.monotonic() < self._known_until:
                return self._addresses
            try:
                pods = self._cluster.pods_labelled(self._namespace, LABELS)
            except SourceError:
                if not self._addresses:
                    raise
                return self._addresses  # of before: agents can be asked while the API server cannot
            self._addresses = {pod.node: self._address(pod) for pod in pods if pod.node and _serves(pod)}
            self._known_until = time.monotonic() + _ADDRESSES_SECONDS
            return self._addresses

    def _forget(self) -> None:
        with self._lock:
            self._known_until = 0.0

    def _address(self, pod: Pod) -> str:
        ip = ipaddress.ip_address(pod.ip or "")
        return f"[{ip}]:{self._port}" if ip.version == 6 else f"{ip}:{self._port}"


def _serves(pod: Pod) -> bool:
    return pod.phase == "Running" and pod.ip is not None and pod.deleted_at is None
