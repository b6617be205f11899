from pathlib import Path

import pytest

from bot.vllm.log_signatures import Family, Phase, catalogue, excerpt, read, shortened

LOG = (Path(__file__).parent.parent / "payloads" / "vllm-worker-killed.log").read_text()

LOADING = "(Worker pid=1) INFO 11-23 16:45:05 [gpu_model_runner.py:68] Starting to load model meta-llama/Llama-8B...\n"
WEIGHTS = "(Worker pid=1) INFO 11-23 16:45:05 [default_loader.py:501] Loading weights took 12.01 seconds\n"
SERVES = "(APIServer pid=1) INFO:     Application startup complete.\n"
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB\n"

# As vLLM 0.32 writes them.
LINES = {
    "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.": (
        Family.KV_CACHE_TOO_SMALL
    ),
    "ValueError: To serve at least one request with the model's max seq len (131072), (40.0 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (16.4 GiB). Based on the available memory, the estimated "
    "maximum model length is 53728. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when "
    "initializing the engine.": Family.KV_CACHE_TOO_SMALL,
    "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV "
    "cache (53728). Try increasing `gpu_memory_utilization`": Family.KV_CACHE_TOO_SMALL,
    "ValueError: Free memory on device cuda:0 (12.3/79.1 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 72.8 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.": (
        Family.GPU_MEMORY_TAKEN
    ),
    "Error in memory profiling. Initial free memory 70.1 GiB, current free memory 71.3 GiB.": Family.GPU_MEMORY_TAKEN,
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering "
    "`max_num_seqs` or `gpu_memory_utilization` when initializing the engine.": Family.GPU_OOM_WARMING_UP,
    "torch.AcceleratorError: CUDA error: an illegal memory access was encountered": Family.GPU_FAULTED,
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": Family.GPU_FAULTED,
    "[rank0]:[E1123] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, "
    "Timeout(ms)=600000) ran for 600011 milliseconds before timing out.": Family.COMMUNICATION_FAILED,
    "RuntimeError: NCCL error: unhandled system error": Family.COMMUNICATION_FAILED,
    "RuntimeError: Failed to infer device type": Family.NO_GPU,
    "vllm serve: error: unrecognized arguments: --disable-log-requests": Family.ARGUMENTS_REFUSED,
    "User-specified max_model_len (200000) is greater than the derived max_model_len (131072)": (
        Family.ARGUMENTS_REFUSED
    ),
    "ValueError: VLLM_PORT 'tcp://10.0.0.1:8000' appears to be a URI. This may be caused by a Kubernetes service "
    "discovery issue": Family.ARGUMENTS_REFUSED,
    "  Value error, Sleep mode is not supported on current platform. [type=value_error, input_value=ArgsKwargs((), {": (
        Family.ARGUMENTS_REFUSED
    ),
    "  Value error, Model architectures ['X'] are not supported. [type=value_error, input_value=ArgsKwargs((), {": (
        Family.MODEL_NOT_AVAILABLE
    ),
    "Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor.": Family.WORKER_DIED,
    "huggingface_hub.errors.GatedRepoError: 401 Client Error.": Family.MODEL_NOT_AVAILABLE,
    "Cannot find any model weights with `/models/llama`": Family.MODEL_NOT_AVAILABLE,
    "Model architectures ['FancyForCausalLM'] are not supported for now.": Family.MODEL_NOT_AVAILABLE,
    "OSError: [Errno 28] No space left on device": Family.DISK_FULL,
    "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-x, error: No space left on device (28)": (
        Family.COMMUNICATION_FAILED
    ),
    "vllm serve: error: argument --speculative-config/-sc: Value {x cannot be converted to <function loads>.": (
        Family.ARGUMENTS_REFUSED
    ),
    "vllm serve: error: ambiguous option: --max could match --max-model-len, --max-num-seqs": Family.ARGUMENTS_REFUSED,
    "KeyboardInterrupt: terminated": Family.INTERRUPTED_WHILE_LOADING,
    "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight loading "
    "for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S)": Family.START_TIMED_OUT,
    "ValueError: Out of range float values are not JSON compliant: nan": Family.NUMBERS_BROKEN,
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the "
    "tokenizer does not define one.": Family.CHAT_TEMPLATE_MISSING,
    "RPC call to execute_model timed out.": Family.ENGINE_STALLED,
    "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.": Family.WORKER_KILLED,
    "Worker proc VllmWorker-3 died unexpectedly (exit code: -11), shutting down executor.": Family.WORKER_DIED,
    "EngineCore failed to start.": Family.ENGINE_DIED,
    "No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are "
    "hanging or doing some time-consuming work": Family.BROADCAST_WAITS,
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_a_line_is_known_for_what_it_is_and_for_nothing_else(line):
    reading = read(f"before\n{line}\nafter\n")
    assert [match.signature.family for match in reading.matches] == [LINES[line]]
    assert reading.matches[0].number == 1


def test_every_family_has_a_line_in_the_catalogue_and_every_signature_its_meaning_and_remedy():
    signatures = catalogue().signatures
    assert {signature.family for signature in signatures} == set(Family)
    assert len({signature.id for signature in signatures}) == len(signatures)
    assert all(signature.meaning and signature.remedy and signature.source for signature in signatures)


@pytest.mark.parametrize(
    ("before", "family"),
    [
        (LOADING, Family.WEIGHTS_TOO_LARGE),
        (LOADING + WEIGHTS, Family.GPU_OOM_WARMING_UP),
        (LOADING + WEIGHTS + SERVES, Family.GPU_OOM_SERVING),
    ],
)
def test_the_same_out_of_memory_means_another_thing_at_each_phase(before, family):
    reading = read(before + OOM)
    assert reading.cause is not None
    assert reading.cause.signature.family is family
    others = {Family.WEIGHTS_TOO_LARGE, Family.GPU_OOM_WARMING_UP, Family.GPU_OOM_SERVING} - {family}
    assert [reading.has(other) for other in others] == [False, False]


def test_an_out_of_memory_whose_phase_is_cut_off_is_not_guessed_at():
    reading = read(OOM)
    assert reading.matches == ()
    assert reading.has(Family.GPU_OOM_SERVING) is None
    assert reading.has(Family.WEIGHTS_TOO_LARGE) is None
    assert reading.has(Family.KV_CACHE_TOO_SMALL) is False


def test_lowering_is_never_the_remedy_for_a_cache_that_found_no_room_and_raising_never_for_one_that_overflowed():
    for signature in catalogue().signatures:
        if signature.family is Family.KV_CACHE_TOO_SMALL:
            assert "Lower --gpu-memory-utilization" not in signature.remedy
        if signature.family in (Family.GPU_OOM_SERVING, Family.GPU_OOM_WARMING_UP):
            assert "Raise" not in signature.remedy


def test_what_a_line_tells_is_taken_out_of_it():
    refused = read("vllm serve: error: unrecognized arguments: --disable-log-requests").cause
    assert refused is not None
    assert refused.told == {"argument": "--disable-log-requests"}
    length = read(next(line for line in LINES if "estimated" in line)).cause
    assert length is not None
    assert length.told == {"length": "53728"}


def test_the_start_of_a_real_server_is_followed_to_its_end():
    lines = LOG.splitlines()
    assert read("\n".join(lines[:15])).reached.title == "arguments read"
    at = next(n for n, line in enumerate(lines) if "Starting to load model" in line)
    assert read("\n".join(lines[: at + 1])).reached.title == "loading weights"
    assert read(LOG).reached.phase is Phase.SERVING


def test_how_many_of_the_weights_are_loaded_is_told():
    reading = read(LOADING + "Loading safetensors checkpoint shards:  41% Completed | 7/17 [01:00<02:00,  9s/it]\n")
    assert (reading.reached.id, reading.percent) == ("loading_shards", 41)


def test_a_worker_that_is_behind_does_not_take_the_start_back():
    assert read(LOADING + WEIGHTS + LOADING).reached.phase is Phase.WARMING_UP


HUB = "HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/x"
ATTEMPT = f"""WARNING 11-23 16:45:01 [_http.py:310] '(MaxRetryError("{HUB} (Caused by X)"))' thrown while requesting \
HEAD https://huggingface.co/x/resolve/main/config.json
WARNING 11-23 16:45:01 [_http.py:319] Retrying in 1s [Retry 1/5].
"""


@pytest.mark.parametrize("line", [ATTEMPT, f"{HUB} (Caused by NewConnectionError) huggingface [Retry 1/5]\n"])
def test_an_attempt_that_is_repeated_is_no_failure_of_the_download(line):
    assert read(line).matches == ()
    assert read(line + f"ConnectionError: {HUB} huggingface.co\n").cause.signature.id == "model_unreachable"


def test_what_a_start_overcame_is_told_with_how_far_it_came_afterwards():
    unreachable = "huggingface_hub.errors.LocalEntryNotFoundError: cannot find the file in the local cache\n"
    assert read(LOADING + unreachable).cause.overcome is None
    assert read(LOADING + unreachable + LOADING).cause.overcome is None  # another worker that is not further
    assert read(LOADING + unreachable + WEIGHTS).cause.overcome.id == "weights_loaded"
    assert read(LOADING + unreachable + WEIGHTS + unreachable).cause.overcome is None
    died = read(LOADING + "EngineCore encountered a fatal error.\n" + SERVES).cause
    assert died.overcome is None


def test_one_worker_may_be_ahead_of_another_only_until_the_cache_is_made():
    together = [milestone.id for milestone in catalogue().milestones if milestone.together]
    assert together == ["kv_cache_ready", "graphs_captured", "engine_ready", "server_starting", "serving"]


def test_the_real_death_of_a_worker_is_read_from_its_log():
    reading = read(LOG)
    assert [match.signature.id for match in reading.matches] == ["worker_killed", "engine_died"]
    assert "exit code: -9" in reading.matches[0].line


@pytest.mark.parametrize("begins", ["Received request cmpl-1: ", "Request cmpl-1 details: "])
def test_what_users_write_is_no_sign(begins):
    line = f"INFO {begins}prompt: 'why does torch say No available memory for the cache blocks?'"
    assert read(line).matches == ()


def test_a_long_line_is_cut_around_what_matters_and_a_secret_in_it_is_gone():
    line = "x" * 5000 + " api_key='topsecret' EngineCore encountered a fatal error. " + "y" * 5000
    match = read(line).cause
    assert match is not None
    assert "EngineCore encountered a fatal error" in match.line
    assert "topsecret" not in match.line
    assert len(match.line) < 450


def test_a_prompt_that_is_longer_than_the_excerpt_does_not_pass_without_its_closing_quote():
    line = f"EngineCore encountered a fatal error. NewRequestData(req_id=1,prompt='my name is Ada {'and ' * 200}', n=1)"
    assert shortened(line) == "EngineCore encountered a fatal error. NewRequestData(req_id=1,prompt=[redacted], n=1)"
    match = read(line).cause
    assert match is not None and "Ada" not in match.line
    assert "Ada" not in excerpt(line, (match,))


def test_a_long_line_is_cut_around_what_matters_wherever_the_secrets_before_it_stood():
    line = f"api_key={'s' * 900} EngineCore encountered a fatal error. {'y' * 900}"
    match = read(line).cause
    assert match is not None and match.line.startswith("api_key=[redacted] EngineCore encountered a fatal error. yyy")


def test_the_excerpt_shows_matches_with_their_neighbours_or_the_end():
    log = "\n".join(f"line {n}" for n in range(50)) + "\nEngineCore failed to start.\n" + "\n".join("abc")
    told = excerpt(log, read(log).matches)
    assert told.splitlines() == ["line 48", "line 49", "EngineCore failed to start.", "a"]
    quiet = "\n".join(f"line {n}" for n in range(50))
    assert excerpt(quiet, ()).splitlines()[0] == "line 40"


def test_a_short_line_stays_whole():
    assert shortened("  EngineCore failed to start.  ") == "EngineCore failed to start."
