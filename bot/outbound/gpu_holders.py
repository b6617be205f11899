"""Whose a GPU is: the kubelet knows which pod it gave it to, and a process' cgroup tells which pod it belongs to.

The kubelet is asked through its pod-resources socket, a small gRPC API of the node. Its answer is decoded here by hand,
as of all its messages four fields are needed.
"""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import structlog

from bot.gpu_readings import Holder

_log = structlog.get_logger(__name__)

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
_LIST = "/v1.PodResourcesLister/List"
_REFRESH_SECONDS = 10.0
_ANSWER_SECONDS = 3.0
_RESOURCE_PREFIX = "nvidia.com/"  # nvidia.com/gpu, nvidia.com/mig-1g.10gb …

# Both cgroup drivers: …/pod0a1b-…/<container>, and …-pod0a1b_….slice/cri-containerd-<container>.scope
_POD = re.compile(r"pod(?P<uid>[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


def holder_of_process(pid: int, proc: Path = Path("/proc")) -> Holder | None:
    """None: the process is gone, is not in a pod, or is in another process namespace than ours."""
    try:
        text = (proc / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    match = _POD.search(text)
    return Holder(pod_uid=match["uid"].replace("_", "-"), by="process") if match else None


class KubeletPods:
    """Asks the kubelet every few seconds, so that at the moment of an Xid the answer is there. `socket` None: never."""

    def __init__(self, socket: Path | None = SOCKET, *, refresh_seconds: float = _REFRESH_SECONDS) -> None:
        self._socket = socket
        self._refresh_seconds = refresh_seconds
        self._by_device: dict[str, tuple[Holder, ...]] = {}
        self._stopping = threading.Event()
        self._asked_once = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kubelet")
        self.problem: str | None = "the kubelet has not answered yet" if socket else "the kubelet is not asked"

    @property
    def known(self) -> bool:
        return self.problem is None

    def start(self) -> None:
        if self._socket is not None:
            self._thread.start()
            self._asked_once.wait(_ANSWER_SECONDS)

    def stop(self) -> None:
        self._stopping.set()

    def of_gpu(self, uuid: str | None, index: int | None = None) -> tuple[Holder, ...]:
        """Several where it is shared (time-slicing, MPS). Without an answer of the kubelet: none, see `problem`."""
        # The device plugin names GPUs by UUID, or if told to by index; shared ones get "::<replica>" behind it.
        found = [*self._by_device.get(uuid or "", ()), *self._by_device.get(str(index), ())]
        return tuple(dict.fromkeys(found))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._ask()
            self._asked_once.set()
            self._stopping.wait(self._refresh_seconds)

    def _ask(self) -> None:
        assert self._socket is not None
        try:
            if not self._socket.exists():
                raise FileNotFoundError(f"{self._socket} is not there: is it mounted into the agent?")
            with grpc.insecure_channel(f"unix://{self._socket}") as channel:
                answer: bytes = channel.unary_unary(_LIST)(b"", timeout=_ANSWER_SECONDS)
            self._by_device = devices(answer)
            problem = None
        except grpc.RpcError as error:
            problem = f"the kubelet did not tell whose the GPUs are: {_said(error)}"
        except (OSError, ValueError) as error:
            problem = f"the kubelet did not tell whose the GPUs are: {error}"
        if problem != self.problem and problem is not None:
            _log.warning("GPUs cannot be joined to pods by the kubelet", why=problem)
        self.problem = problem


def _said(error: grpc.RpcError) -> str:
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    return f"{code().name}: {details()}" if code and details else str(error)


# ---------------------------------------------------------------------------------------------- the kubelet's answer


def devices(message: bytes) -> dict[str, tuple[Holder, ...]]:
    """Device id -> who has it, of a ListPodResourcesResponse (package v1). Raises ValueError."""
    found: dict[str, tuple[Holder, ...]] = {}
    for pod in _fields(message, 1):
        name, namespace = _text(pod, 1), _text(pod, 2)
        for container in _fields(pod, 3):
            holder = Holder(namespace=namespace, pod=name, container=_text(container, 1), by="kubelet")
            for given in _fields(container, 2):
                if not _text(given, 1).startswith(_RESOURCE_PREFIX):
                    continue
                for device in _fields(given, 2):
                    key = device.decode().partition("::")[0]
                    found[key] = (*found.get(key, ()), holder)
    return found


def _text(message: bytes, number: int) -> str:
    return next(_fields(message, number), b"").decode()


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """The length-delimited fields of that number: texts and messages. Others are skipped."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("its answer is cut off")
            if key >> 3 == number:
                yield message[at : at + length]
            at += length
        else:
            raise ValueError(f"its answer has a field of the unknown kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("its answer is cut off")
