"""What a kubelet would report and kwok cannot know, because there are no containers: crashes, failed probes, images
that cannot be pulled, logs, nodes that are not ready.

A status written here stays until the next one: kwok's stages leave alone what is not theirs.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.controlplane.api import Api


class Kubelet:
    """Speaks for the pods of one control plane. `folder` is where it keeps their logs."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._folder = folder

    def crash(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        exit_code: int = 137,
        reason: str = "OOMKilled",
        waiting: str = "CrashLoopBackOff",
        restarts: int = 1,
        ran_seconds: float = 20,
    ) -> None:
        """The container ended `restarts` times, the last time with this exit code, and waits to be started again."""
        now = datetime.now(UTC)
        self._write(
            namespace,
            pod,
            container,
            {
                "ready": False,
                "started": False,
                "restartCount": restarts,
                "state": {
                    "waiting": {
                        "reason": waiting,
                        "message": f"back-off 40s restarting failed container in pod {pod}_{namespace}",
                    }
                },
                "lastState": {"terminated": _ended(exit_code, reason, now, ran_seconds)},
            },
        )

    def restart(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        exit_code: int = 0,
        reason: str = "Completed",
        ran_seconds: float = 20,
        restarts: int | None = None,
    ) -> None:
        """The container ended and was started again at once; it is ready after the pod's cold start."""
        now = datetime.now(UTC)
        self._write(
            namespace,
            pod,
            container,
            {
                "ready": False,
                "started": False,
                "restartCount": restarts or self._container(self._pod(namespace, pod), container)["restartCount"] + 1,
                "state": {"running": {"startedAt": _text(now)}},
                "lastState": {"terminated": _ended(exit_code, reason, now, ran_seconds)},
            },
        )

    def cannot_start(
        self, namespace: str, pod: str, *, reason: str, message: str, container: str | None = None
    ) -> None:
        """The container has never run: ImagePullBackOff, CreateContainerConfigError and their like."""
        self._write(
            namespace,
            pod,
            container,
            {
                "ready": False,
                "started": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {},
            },
            phase="Pending",
        )

    def init_fails(
        self, namespace: str, pod: str, container: str, *, exit_code: int = 1, reason: str = "Error", restarts: int = 3
    ) -> None:
        """This init container ended, and waits to be started again; the others have not begun."""
        found = self._pod(namespace, pod)
        ended = _ended(exit_code, reason, datetime.now(UTC), 5)
        states = [
            {
                **status,
                "ready": False,
                "restartCount": restarts,
                "state": {
                    "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
                },
                "lastState": {"terminated": ended},
            }
            if status["name"] == container
            else status
            for status in found["status"].get("initContainerStatuses", [])
        ]
        if container not in [status["name"] for status in states]:
            raise LookupError(f"pod {pod} has no init container {container}")
        self.cannot_start(namespace, pod, reason="PodInitializing", message="")
        self._api.patch(
            f"/api/v1/namespaces/{namespace}/pods/{pod}/status", {"status": {"initContainerStatuses": states}}
        )

    def evict(self, namespace: str, pod: str, *, message: str) -> None:
        """The kubelet ends it for want of something on its node; it stays behind as a failed one."""
        self.event(namespace, pod, type="Warning", reason="Evicted", message=message)
        self._api.patch(
            f"/api/v1/namespaces/{namespace}/pods/{pod}/status",
            {"status": {"phase": "Failed", "reason": "Evicted", "message": message}},
        )

    def set_ready(self, namespace: str, pod: str, ready: bool, *, container: str | None = None) -> None:
        """The readiness probe of a running container fails, or succeeds again."""
        self._write(namespace, pod, container, {"ready": ready, "started": True})

    def set_logs(
        self,
        namespace: str,
        pod: str,
        lines: Sequence[str],
        *,
        container: str | None = None,
        previous: Sequence[str] | None = None,
    ) -> None:
        """What `kubectl logs` answers for the container, and `kubectl logs --previous` if `previous` is given."""
        found = self._pod(namespace, pod)
        name = container or found["spec"]["containers"][0]["name"]
        folder = self._folder / namespace / pod
        folder.mkdir(parents=True, exist_ok=True)
        current = folder / f"{name}.log"
        current.write_text(_cri(lines))
        log = {"containers": [name], "logsFile": str(current)}
        if previous is not None:
            before = folder / f"{name}.previous.log"
            before.write_text(_cri(previous))
            log["previousLogsFile"] = str(before)
        path = f"/apis/kwok.x-k8s.io/v1alpha1/namespaces/{namespace}/logs/{pod}"
        known = (self._api.find(path) or {"spec": {"logs": []}})["spec"]["logs"]
        self._api.apply(
            {
                "apiVersion": "kwok.x-k8s.io/v1alpha1",
                "kind": "Logs",
                "metadata": {
                    "name": pod,
                    "namespace": namespace,
                    # so that it goes with the pod
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": found["metadata"]["uid"]}
                    ],
                },
                "spec": {"logs": [*(other for other in known if other["containers"] != [name]), log]},
            }
        )

    def event(self, namespace: str, pod: str, *, type: str, reason: str, message: str, count: int = 1) -> None:
        """An event of the pod's, as `kubectl describe pod` shows it; seen `count` times, the last time now."""
        found = self._pod(namespace, pod)
        now = _text(datetime.now(UTC))
        self._api.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{pod}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": pod,
                    "uid": found["metadata"]["uid"],
                },
                "type": type,
                "reason": reason,
                "message": message,
                "count": count,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "kubelet", "host": found["spec"].get("nodeName", "")},
            }
        )

    def set_node(self, node: str, *, ready: str, reason: str, message: str, condition: str = "Ready") -> None:
        """The node's own word, or the node controller's where it has lost it: "True", "False" or "Unknown". The node
        controller then says of its pods that they are not ready. `condition`: another one, such as DiskPressure."""
        now = _text(datetime.now(UTC))
        told = {"type": condition, "status": ready, "reason": reason, "message": message}
        self._api.patch(
            f"/api/v1/nodes/{node}/status",
            {"status": {"conditions": [{**told, "lastHeartbeatTime": now, "lastTransitionTime": now}]}},
        )

    def _write(
        self, namespace: str, pod: str, container: str | None, change: dict[str, Any], *, phase: str = "Running"
    ) -> None:
        found = self._pod(namespace, pod)
        name = self._container(found, container)["name"]
        statuses = [
            {**status, **change} if status["name"] == name else status
            for status in found["status"]["containerStatuses"]
        ]
        ready = all(status["ready"] for status in statuses)
        now = _text(datetime.now(UTC))
        unready = [status["name"] for status in statuses if not status["ready"]]
        condition = {
            "status": str(ready),
            "reason": "" if ready else "ContainersNotReady",
            "message": "" if ready else f"containers with unready status: [{' '.join(unready)}]",
            "lastTransitionTime": now,
        }
        self._api.patch(
            f"/api/v1/namespaces/{namespace}/pods/{pod}/status",
            {
                "status": {
                    "phase": phase,
                    "conditions": [{"type": kind, **condition} for kind in ("Ready", "ContainersReady")],
                    "containerStatuses": statuses,
                }
            },
        )

    def _pod(self, namespace: str, pod: str) -> dict[str, Any]:
        return self._api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")

    @staticmethod
    def _container(pod: dict[str, Any], name: str | None) -> dict[str, Any]:
        """Its status; of the first container if none is named."""
        statuses: list[dict[str, Any]] = pod["status"].get("containerStatuses", [])
        for status in statuses:
            if name is None or status["name"] == name:
                return status
        raise LookupError(f"pod {pod['metadata']['name']} has no container status for {name or 'any container'} yet")


def _ended(exit_code: int, reason: str, now: datetime, ran_seconds: float) -> dict[str, Any]:
    return {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": _text(now - timedelta(seconds=ran_seconds)),
        "finishedAt": _text(now),
    }


def _cri(lines: Sequence[str]) -> str:
    """The format of a log file of the container runtime interface, which kwok reads."""
    now = datetime.now(UTC)
    return "".join(
        f"{now.isoformat(timespec='microseconds').replace('+00:00', 'Z')} stdout F {line}\n" for line in lines
    )


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
