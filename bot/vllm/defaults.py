"""What vLLM takes where a pod gives no argument: it depends on its version and on the GPU. None: not known."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bot.vllm.arguments import Arguments

Version = tuple[int, int]

_UTILIZATION_RAISED: Version = (0, 20)
_V1: Version = (0, 9)  # the only engine from here on: chunked prefill and prefix caching are on
_GB10_SMALL: Version = (0, 33)  # before, its memory alone counted, though it is the host's
_LARGE_GIB = 70
_HUGE_GIB = 160
_MEMORY_GIB = {
    "H100": 79.6, "H800": 79.6, "H20": 95.6, "H200": 140.4, "GH200": 95.0, "B200": 178.0, "GB200": 184.0, "B300": 270.0,
    "GB300": 275.0, "L4": 22.5, "L40": 44.7, "L40S": 44.7, "A10": 22.5, "A10G": 22.5, "A30": 23.8, "T4": 14.7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gpu:
    """As the node's labels tell it. `memory_gib` is of one GPU, or of one MIG slice."""

    product: str | None
    memory_gib: float | None

    @property
    def large(self) -> bool | None:
        """vLLM's own rule: at least 70 GiB, and not an A100."""
        if self.product is not None and "A100" in self.product:
            return False
        return None if self.memory_gib is None or self.product is None else self.memory_gib >= _LARGE_GIB

    @property
    def shares_memory(self) -> bool:
        """GB10 (DGX Spark) has the host's memory."""
        return self.product is not None and "GB10" in re.split(r"[^A-Z0-9]+", self.product.upper())


@dataclass(frozen=True, slots=True)
class Effective:
    """What the engine runs with, given or by default."""

    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    max_model_len: int | None
    gpu_memory_utilization: float | None
    chunked_prefill: bool | None
    prefix_caching: bool | None
    tensor_parallel_size: int | None
    data_parallel_size: int | None


def version_of(image: str) -> Version | None:
    """By the tag of vLLM's own image ("vllm/vllm-openai:v0.32.0"), or of a mirror of it; None for `latest`, or a digest
    alone. Others number their images after themselves: nvcr.io/nvidia/vllm:25.09, lmcache/vllm-openai:v0.3.9."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    return version_in(tag) if f"/{name}".endswith("/vllm/vllm-openai") else None


def version_in(text: str) -> Version | None:
    """As /version says it ("0.32.0", "0.10.1.1+nv25.09"). A build from sources without tags calls itself 0.1.dev…"""
    match = re.match(r"v?(\d+)\.(\d+)(\.dev)?", text)
    return (int(match[1]), int(match[2])) if match and not match[3] else None


def gpu_of(labels: Mapping[str, str], product: str | None) -> Gpu:
    """From a node's labels, as GPU feature discovery writes them."""
    if product is not None and (slice_ := re.search(r"MIG-\d+g\.(\d+)gb", product)):
        return Gpu(product, float(slice_[1]))
    memory = labels.get("nvidia.com/gpu.memory", "")
    if memory.isdecimal():
        return Gpu(product, int(memory) / 1024)
    # The product's name often tells it: NVIDIA-H100-80GB-HBM3. H200 and B200 do not say, and are larger.
    if product is not None and (named := re.search(r"(\d+)GB", product)):
        return Gpu(product, int(named[1]) * 1e9 / 2**30)
    words = re.split(r"[^A-Z0-9]+", (product or "").upper())
    return Gpu(product, next((_MEMORY_GIB[word] for word in words if word in _MEMORY_GIB), None))


def effective(arguments: Arguments, version: Version | None, gpu: Gpu | None) -> Effective:
    def otherwise(default: float | None) -> float | None:
        """A default holds only if all that is given is seen."""
        return None if arguments.hidden else default

    def whole(option: str, default: float | None) -> int | None:
        given = arguments.number(option)
        if given is None and option in arguments.given:
            return None  # `auto`, or a mistake
        found = otherwise(default) if given is None else given
        return None if found is None else int(found)

    def switched(option: str) -> bool | None:
        given = arguments.switch(option)
        if given is not None or arguments.hidden or version is None:
            return given
        return True if version >= _V1 else None

    utilization = arguments.ratio("gpu-memory-utilization")
    if utilization is None and "gpu-memory-utilization" not in arguments.given and version is not None:
        utilization = otherwise(0.92 if version >= _UTILIZATION_RAISED else 0.9)
    chunked = switched("enable-chunked-prefill")
    return Effective(
        max_num_seqs=whole("max-num-seqs", _by_size(gpu, version, small=256, large=1024)),
        # Without chunking a whole prompt must fit, so vLLM takes at least the model's length.
        max_num_batched_tokens=whole("max-num-batched-tokens", _batched_tokens(gpu, version) if chunked else None),
        max_model_len=whole("max-model-len", None),  # the model's own: /v1/models tells it
        gpu_memory_utilization=utilization,
        chunked_prefill=chunked,
        prefix_caching=switched("enable-prefix-caching"),
        tensor_parallel_size=whole("tensor-parallel-size", 1),
        data_parallel_size=whole("data-parallel-size", 1),
    )


def _by_size(gpu: Gpu | None, version: Version | None, *, small: int, large: int) -> int | None:
    if gpu is None:
        return None
    if gpu.shares_memory:
        if version is None:
            return None
        if version >= _GB10_SMALL:
            return small
    return None if gpu.large is None else large if gpu.large else small


def _batched_tokens(gpu: Gpu | None, version: Version | None) -> int | None:
    if gpu is not None and gpu.memory_gib is not None and gpu.memory_gib >= _HUGE_GIB:
        return 16384
    return _by_size(gpu, version, small=2048, large=8192)
