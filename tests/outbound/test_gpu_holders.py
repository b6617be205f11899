import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from bot.gpu_readings import Holder
from bot.outbound.gpu_holders import KubeletPods, devices, holder_of_process

UID = "0a1b2c3d-1111-2222-3333-444455556666"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


# ---------------------------------------------------------------------------------------------- a kubelet's answer


def field(number: int, content: bytes | str) -> bytes:
    """A length-delimited field of protobuf's."""
    body = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def pod(namespace: str, name: str, *containers: bytes) -> bytes:
    return field(1, field(1, name) + field(2, namespace) + b"".join(field(3, one) for one in containers))


def container(name: str, resource: str, *ids: str) -> bytes:
    topology = field(3, field(1, b"\x08\x01"))
    given = field(1, resource) + b"".join(field(2, one) for one in ids) + topology
    cpus = varint(3 << 3 | 0) + varint(7)  # cpu_ids, which is nobody's business here
    return field(1, name) + field(2, given) + cpus


LISTED = b"".join(
    (
        pod("llm", "chat-7d9f-abcde", container("vllm", "nvidia.com/gpu", "GPU-a", "GPU-b")),
        pod("llm", "small-5c4d-fghij", container("vllm", "nvidia.com/mig-1g.10gb", "MIG-c")),
        pod("dev", "shared-1", container("a", "nvidia.com/gpu", "GPU-d::0")),
        pod("dev", "shared-2", container("a", "nvidia.com/gpu", "GPU-d::1")),
        pod("dev", "network", container("a", "example.com/nic", "GPU-a")),
    )
)


def held(namespace: str, name: str, container: str = "vllm") -> Holder:
    return Holder(namespace=namespace, pod=name, container=container, by="kubelet")


def test_devices_are_told_with_their_pods():
    assert devices(LISTED) == {
        "GPU-a": (held("llm", "chat-7d9f-abcde"),),
        "GPU-b": (held("llm", "chat-7d9f-abcde"),),
        "MIG-c": (held("llm", "small-5c4d-fghij"),),
        "GPU-d": (held("dev", "shared-1", "a"), held("dev", "shared-2", "a")),
    }


@pytest.mark.parametrize("broken", [LISTED[:-1], b"\x0a\xff", b"\x0b", b"\xff" * 12])
def test_a_broken_answer_is_refused(broken):
    with pytest.raises(ValueError, match="its answer"):
        devices(broken)


# ---------------------------------------------------------------------------------------------- a real gRPC server


class Kubelet(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self.answer: bytes | grpc.StatusCode = LISTED

    def service(self, handler_call_details):
        if handler_call_details.method != "/v1.PodResourcesLister/List":
            return None
        return grpc.unary_unary_rpc_method_handler(self._list)

    def _list(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if isinstance(self.answer, grpc.StatusCode):
            context.abort(self.answer, "too many requests")
        assert isinstance(self.answer, bytes)
        return self.answer


@pytest.fixture
def kubelet(tmp_path) -> Iterator[tuple[Kubelet, Path]]:
    socket = tmp_path / "kubelet.sock"
    server = grpc.server(ThreadPoolExecutor(2))
    handler = Kubelet()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    yield handler, socket
    server.stop(None).wait(5)


def asked(socket: Path | None) -> KubeletPods:
    pods = KubeletPods(socket, refresh_seconds=0.05)
    pods.start()
    return pods


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_kubelet_is_asked_over_its_socket(kubelet):
    _, socket = kubelet
    pods = asked(socket)
    assert pods.known
    assert pods.of_gpu("GPU-a") == (held("llm", "chat-7d9f-abcde"),)
    assert pods.of_gpu("GPU-z") == ()
    assert pods.of_gpu(None) == ()
    pods.stop()


def test_devices_may_be_named_by_their_index(kubelet):
    handler, socket = kubelet
    handler.answer = pod("llm", "chat-0", container("vllm", "nvidia.com/gpu", "3"))
    pods = asked(socket)
    assert pods.of_gpu("GPU-a", 3) == (held("llm", "chat-0"),)
    assert pods.of_gpu("GPU-a", 2) == ()
    pods.stop()


def test_a_pod_that_comes_later_is_seen(kubelet):
    handler, socket = kubelet
    handler.answer = b""
    pods = asked(socket)
    assert pods.of_gpu("GPU-a") == ()
    handler.answer = LISTED
    until(lambda: pods.of_gpu("GPU-a") != ())
    pods.stop()


def test_a_refusal_is_said_and_the_last_answer_is_kept(kubelet):
    handler, socket = kubelet
    pods = asked(socket)
    handler.answer = grpc.StatusCode.RESOURCE_EXHAUSTED
    until(lambda: pods.problem is not None)
    assert "RESOURCE_EXHAUSTED: too many requests" in pods.problem
    assert pods.of_gpu("GPU-a") == (held("llm", "chat-7d9f-abcde"),)
    handler.answer = LISTED
    until(lambda: pods.problem is None)
    pods.stop()


def test_without_the_socket_it_says_what_is_missing(tmp_path):
    pods = asked(tmp_path / "kubelet.sock")
    assert not pods.known
    assert "is it mounted" in pods.problem
    pods.stop()


def test_it_can_be_told_not_to_ask():
    pods = asked(None)
    assert (pods.known, pods.problem, pods.of_gpu("GPU-a")) == (False, "the kubelet is not asked", ())


# ---------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods/burstable/pod{UID}/8f2c\n",
        f"0::/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-8f2c.scope\n",
        f"12:devices:/kubepods/besteffort/pod{UID}/8f2c\n11:cpu:/kubepods/besteffort/pod{UID}/8f2c\n",
    ],
)
def test_a_process_is_joined_to_its_pod_by_its_cgroup(tmp_path, cgroup):
    (tmp_path / "440").mkdir()
    (tmp_path / "440" / "cgroup").write_text(cgroup)
    assert holder_of_process(440, tmp_path) == Holder(pod_uid=UID, by="process")


def test_a_process_outside_of_pods_is_nobodys(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "cgroup").write_text("0::/system.slice/sshd.service\n")
    assert holder_of_process(1, tmp_path) is None


def test_a_process_that_is_gone_is_nobodys(tmp_path):
    assert holder_of_process(4711, tmp_path) is None
