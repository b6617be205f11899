"""What one engine has measured since its process started: the counters and histograms behind its metrics page.

Buckets are vLLM's own, since a P99 read from other buckets would be another P99.
"""

from bisect import bisect_left
from collections.abc import Sequence

TTFT_BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_LATENCY_BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_LATENCY_BOUNDS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
STEP_TOKEN_BOUNDS = tuple(float(x) for x in (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384))
CHOICES_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0)
PREEMPTION_BOUNDS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
HTTP_BOUNDS = (0.1, 0.5, 1.0)
HTTP_FINE_BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip


def token_bounds(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 … as far as a request of this engine can get."""
    bounds: list[float] = []
    magnitude = 1
    while True:
        for factor in (1, 2, 5):
            if factor * magnitude > max_model_len:
                return tuple(bounds)
            bounds.append(float(factor * magnitude))
        magnitude *= 10


class Histogram:
    """As Prometheus has it: `counts[i]` observations lie at or below `bounds[i]` and above the bound before."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.count += times
        self.sum += value * times


class EngineMeasurements:
    """Filled by the engine. The three gauges keep the value of the last step, as vLLM's do: a hung engine's are old."""

    def __init__(self, max_model_len: int) -> None:
        tokens = token_bounds(max_model_len)
        self.running = 0
        self.waiting = 0
        self.kv_cache_usage = 0.0

        self.submitted = 0  # not exported by vLLM; for the bookkeeping of the simulation
        self.client_aborts = 0  # vLLM does not count them either
        self.finished: dict[str, int] = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self.rejections: dict[str, int] = {"max_num_queued_reqs": 0, "max_num_queued_tokens": 0}
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.preemptions = 0
        self.prompt_tokens = 0
        self.cached_prompt_tokens = 0
        self.generation_tokens = 0
        self.gpu_busy_seconds = 0.0  # not exported by vLLM; the GPU exporter's utilisation comes from it

        self.step_tokens = Histogram(STEP_TOKEN_BOUNDS)
        self.ttft = Histogram(TTFT_BOUNDS)
        self.inter_token = Histogram(TOKEN_LATENCY_BOUNDS)
        self.tpot = Histogram(TOKEN_LATENCY_BOUNDS)
        self.e2e = Histogram(REQUEST_LATENCY_BOUNDS)
        self.queue = Histogram(REQUEST_LATENCY_BOUNDS)
        self.inference = Histogram(REQUEST_LATENCY_BOUNDS)
        self.prefill = Histogram(REQUEST_LATENCY_BOUNDS)
        self.decode = Histogram(REQUEST_LATENCY_BOUNDS)
        self.request_prompt_tokens = Histogram(tokens)
        self.request_generation_tokens = Histogram(tokens)
        self.request_max_generation_tokens = Histogram(tokens)
        self.request_max_tokens = Histogram(tokens)
        self.request_computed_tokens = Histogram(tokens)
        self.request_choices = Histogram(CHOICES_BOUNDS)
        self.request_preemptions = Histogram(PREEMPTION_BOUNDS)

    @property
    def finished_total(self) -> int:
        return sum(self.finished.values())

    @property
    def rejected_total(self) -> int:
        return sum(self.rejections.values())


class HttpMeasurements:
    """What vLLM's HTTP middleware counts. Health, version and metrics pages are left out by it, and so here."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}  # (handler, method, status group)
        self.durations: dict[tuple[str, str], Histogram] = {}  # (handler, method)
        self.fine_durations = Histogram(HTTP_FINE_BOUNDS)
        self.request_bytes: dict[str, tuple[int, float]] = {}  # handler -> count, sum
        self.response_bytes: dict[str, tuple[int, float]] = {}
        self.first_seen: dict[str, float] = {}  # handler -> simulated second, for the `_created` series

    def answered(
        self, handler: str, method: str, status: int, seconds: float, now: float, sent: int = 0, received: int = 0
    ) -> None:
        """`received`: bytes of the request; `sent`: Content-Length of the answer, 0 for a stream."""
        self.first_seen.setdefault(handler, now)
        key = (handler, method, f"{status // 100}xx")
        self.requests[key] = self.requests.get(key, 0) + 1
        self.durations.setdefault((handler, method), Histogram(HTTP_BOUNDS)).observe(seconds)
        self.fine_durations.observe(seconds)
        for sizes, size in ((self.request_bytes, received), (self.response_bytes, sent)):
            count, total = sizes.get(handler, (0, 0.0))
            sizes[handler] = (count + 1, total + size)
