"""The kubelet's pod-resources socket: whose each GPU of the node is, in protobuf's own bytes."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Held:
    """A container, and the GPUs that the kubelet gave it."""

    namespace: str
    pod: str
    container: str
    uuids: tuple[str, ...]


def listed(held: Iterable[Held]) -> bytes:
    """A ListPodResourcesResponse of package v1."""
    return b"".join(field(1, field(1, one.pod) + field(2, one.namespace) + field(3, _container(one))) for one in held)


def serve(socket: Path, held: Iterable[Held]) -> grpc.Server:
    """Until it is stopped, or the process ends."""
    answer = listed(held)
    server = grpc.server(ThreadPoolExecutor(1))
    methods = {"List": grpc.unary_unary_rpc_method_handler(lambda request, context: answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


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


def _container(held: Held) -> bytes:
    devices = field(1, "nvidia.com/gpu") + b"".join(field(2, uuid) for uuid in held.uuids)
    return field(1, held.container) + field(2, devices)
