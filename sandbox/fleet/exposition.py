"""One replica's /metrics page: the names, types, labels and buckets of vLLM 0.32, in its order.

Left out on purpose: `python_gc_*`, since no interpreter of its own runs behind a replica. `process_*` is estimated.
"""

from collections.abc import Callable, Mapping

from sandbox.fleet.capacity import Capacity
from sandbox.fleet.measurements import EngineMeasurements, HttpMeasurements
from sandbox.fleet.replica import Process, Replica
from sandbox.fleet.text_format import Page

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
API_SERVER_BYTES = 651_697_664  # what a real API server process held
SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")
CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")
ToEpoch = Callable[[float], float]  # simulated seconds -> seconds since 1970
ONE: Mapping[str, str] = {}  # no labels of its own


def page(replica: Replica, process: Process, capacity: Capacity, epoch: ToEpoch) -> str:
    created = epoch(process.started_at)
    effect = replica.effect
    labels = {"engine": "0", "model_name": replica.model}
    out = Page(labels, created, effect.hidden_metrics, effect.renamed_metrics)
    _process(out, process, capacity, created)
    _gauges(out, process.measured, effect.asleep)
    _caches(out, process.measured)
    _counters(out, process.measured, replica.model)
    _sizes(out, process.measured)
    _latencies(out, process.measured)
    _cache_config(out, capacity)
    _http(out, process.http, created, epoch)
    return out.text()


def _process(out: Page, process: Process, capacity: Capacity, created: float) -> None:
    version = {"implementation": "CPython", "major": "3", "minor": "12", "patchlevel": "11", "version": "3.12.11"}
    steps = process.measured.step_tokens.count
    out.gauge("python_info", "Python platform.", (version, 1), bare=True)
    out.gauge("process_virtual_memory_bytes", "Virtual memory.", (ONE, 4 * API_SERVER_BYTES), bare=True)
    out.gauge("process_resident_memory_bytes", "Resident memory.", (ONE, API_SERVER_BYTES), bare=True)
    out.gauge("process_start_time_seconds", "Start since 1970.", (ONE, created), bare=True)
    busy = 10.0 + steps * capacity.cost.host_seconds
    out.counter("process_cpu_seconds", "CPU time.", (ONE, busy), bare=True, dated=False)
    out.gauge("process_open_fds", "Open files.", (ONE, 90 + process.engine.outstanding), bare=True)
    out.gauge("process_max_fds", "Files that may be open.", (ONE, 1_048_576), bare=True)


def _gauges(out: Page, measured: EngineMeasurements, asleep: int) -> None:
    for name in ("flops", "read_bytes", "write_bytes"):
        out.counter(f"vllm:estimated_{name}_per_gpu", "Needs --enable-mfu-metrics.", (ONE, 0))
    out.gauge("vllm:num_requests_running", "Requests in the batch.", (ONE, measured.running))
    out.gauge("vllm:num_requests_waiting", "Requests in the queue.", (ONE, measured.waiting))
    out.gauge(
        "vllm:num_requests_waiting_by_reason",
        "Requests in the queue by what they wait for.",
        ({"reason": "capacity"}, measured.waiting),
        ({"reason": "deferred"}, 0),
    )
    states = [({"sleep_state": name}, float(asleep == level)) for level, name in enumerate(SLEEP_STATES)]
    out.gauge("vllm:engine_sleep_state", "Which of the states it is in.", *states)
    out.gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", (ONE, measured.kv_cache_usage))


def _caches(out: Page, measured: EngineMeasurements) -> None:
    out.counter("vllm:prefix_cache_queries", "Tokens asked of the prefix cache.", (ONE, measured.prefix_queries))
    out.counter("vllm:prefix_cache_hits", "Tokens found in the prefix cache.", (ONE, measured.prefix_hits))
    for kind in ("external_prefix", "mm"):
        out.counter(f"vllm:{kind}_cache_queries", "Asked of a cache that is not used.", (ONE, 0))
        out.counter(f"vllm:{kind}_cache_hits", "Found in a cache that is not used.", (ONE, 0))


def _counters(out: Page, measured: EngineMeasurements, model: str) -> None:
    cached = measured.cached_prompt_tokens
    sources = {
        "local_compute": measured.prompt_tokens - cached,
        "local_cache_hit": cached,
        "external_kv_transfer": 0,
    }
    out.counter("vllm:num_preemptions", "Preemptions.", (ONE, measured.preemptions))
    out.counter("vllm:prompt_tokens", "Prompt tokens.", (ONE, measured.prompt_tokens))
    by_source = [({"source": name}, float(value)) for name, value in sources.items()]
    out.counter("vllm:prompt_tokens_by_source", "Prompt tokens by source.", *by_source)
    out.counter("vllm:prompt_tokens_cached", "Prompt tokens from a cache.", (ONE, cached))
    tiers = [({"source": name}, float(measured.prefix_hits if name == "device" else 0)) for name in CACHE_TIERS]
    out.counter("vllm:prompt_tokens_cached_by_source", "Cached prompt tokens by tier.", *tiers)
    out.counter("vllm:generation_tokens", "Generated tokens.", (ONE, measured.generation_tokens))
    finished = [({"finished_reason": reason}, float(n)) for reason, n in measured.finished.items()]
    out.counter("vllm:request_success", "Finished requests.", *finished)
    rejections = [({"model_name": model, "reason": reason}, float(n)) for reason, n in measured.rejections.items()]
    out.counter("vllm:admission_rejections", "Rejected by a queue limit.", *rejections, bare=True)


def _sizes(out: Page, measured: EngineMeasurements) -> None:
    for name, histogram in (
        ("request_prompt_tokens", measured.request_prompt_tokens),
        ("request_generation_tokens", measured.request_generation_tokens),
        ("iteration_tokens_total", measured.step_tokens),
        ("request_max_num_generation_tokens", measured.request_max_generation_tokens),
        ("request_params_n", measured.request_choices),
        ("request_params_max_tokens", measured.request_max_tokens),
    ):
        out.histogram(f"vllm:{name}", f"{name.replace('_', ' ')}.", (ONE, histogram))


def _latencies(out: Page, measured: EngineMeasurements) -> None:
    for name, histogram in (
        ("time_to_first_token_seconds", measured.ttft),
        ("inter_token_latency_seconds", measured.inter_token),
        ("request_time_per_output_token_seconds", measured.tpot),
        ("e2e_request_latency_seconds", measured.e2e),
        ("request_queue_time_seconds", measured.queue),
        ("request_inference_time_seconds", measured.inference),
        ("request_prefill_time_seconds", measured.prefill),
        ("request_decode_time_seconds", measured.decode),
        ("request_num_preemptions", measured.request_preemptions),
        ("request_prefill_kv_computed_tokens", measured.request_computed_tokens),
    ):
        out.histogram(f"vllm:{name}", f"{name.replace('_', ' ')}.", (ONE, histogram))


def _cache_config(out: Page, capacity: Capacity) -> None:
    """All fields of vLLM's CacheConfig. Those that nothing here depends on keep their defaults."""
    limits = capacity.limits
    fields = dict.fromkeys(
        (
            "cache_hit_alignment_tokens", "hash_block_size", "kv_cache_layout", "kv_offloading_size",
            "mamba_block_size", "mamba_page_size_padded", "num_cpu_blocks", "prefix_match_unit",
            "skip_page_size_padded", "sliding_window",
        ),
        "None",
    ) | {
        "_block_size_resolved": "True",
        "block_size": str(limits.block_size),
        "cache_dtype": capacity.kv_cache_dtype,
        "effective_attention_block_size": str(limits.block_size),
        "enable_mamba_shared_prefix_checkpoint": "False",
        "enable_prefix_caching": str(limits.prefix_caching),
        "engine": "0",
        "gpu_memory_utilization": str(capacity.gpu_memory_utilization),
        "is_attention_free": "False",
        "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_max_concurrency": str(round(limits.kv_tokens / limits.max_model_len, 2)),
        "kv_cache_memory_bytes": str(capacity.kv_cache_memory_bytes),
        "kv_cache_size_tokens": str(limits.kv_tokens),
        "kv_offloading_backend": "native",
        "kv_sharing_fast_prefill": "False",
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_ssm_cache_dtype": "auto",
        "num_gpu_blocks": str(limits.num_blocks),
        "num_gpu_blocks_override": str(capacity.blocks_override),
        "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256",
        "replayssm_buffer_len": "16",
        "swa_bounded_replay": "True",
        "use_kda_recoverssm": "False",
        "use_replayssm": "False",
        "user_specified_block_size": str(capacity.block_size_given),
    }  # fmt: skip
    out.gauge("vllm:cache_config_info", "The cache's configuration.", (fields, 1), bare=True)


def _http(out: Page, http: HttpMeasurements, created: float, epoch: ToEpoch) -> None:
    first = epoch(min(http.first_seen.values())) if http.first_seen else created
    requests = [
        ({"handler": handler, "method": method, "status": status}, float(n))
        for (handler, method, status), n in http.requests.items()
    ]
    durations = [({"handler": handler, "method": method}, h) for (handler, method), h in http.durations.items()]
    sizes = [("request", http.request_bytes), ("response", http.response_bytes)]
    out.counter("http_requests", "Requests by method, status and handler.", *requests, bare=True, created=first)
    for direction, by_handler in sizes:
        samples = [({"handler": handler}, count, total) for handler, (count, total) in by_handler.items()]
        out.summary(f"http_{direction}_size_bytes", f"Content length of the {direction}.", first, *samples)
    fine = "http_request_duration_highr_seconds"
    out.histogram(fine, "Latency, many buckets, all handlers.", (ONE, http.fine_durations), bare=True)
    about = "Latency, few buckets, by handler."
    out.histogram("http_request_duration_seconds", about, *durations, bare=True, created=first)
