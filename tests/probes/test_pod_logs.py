from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

from bot.ports import ContainerState
from bot.probes.pod_logs import Params, Reading, observe
from bot.vllm.log_signatures import Family
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world

KILLED = (Path(__file__).parent.parent / "payloads" / "vllm-worker-killed.log").read_text()
SERVES = "INFO:     Application startup complete.\n"
LOADS = "INFO [gpu_model_runner.py:68] Starting to load model x...\n"
REFUSED = "usage: vllm serve\nvllm serve: error: unrecognized arguments: --disable-log-requests\n"
TOO_LONG = (
    "ValueError: To serve at least one request with the model's max seq len (131072), (40.0 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (16.4 GiB). Based on the available memory, the estimated "
    "maximum model length is 53,728. Try increasing `gpu_memory_utilization`\n"
)


def ended(code=0, reason="Completed", *, minutes_ago=4.0):
    return ContainerState("terminated", reason, exit_code=code, at=NOW - timedelta(minutes=minutes_ago))


def logs(*texts, previous=None, ready=True, last_state=None, state=None):
    """One pod for each text: its present log. `previous`: the log of the first pod's run before."""
    sources, cluster, _ = world(replicas=len(texts))
    for number, text in enumerate(texts):
        pod = cluster.pods[number]
        cluster.logs["llm", pod.name, "vllm", False] = text
        changed = {"last_state": last_state if number == 0 else None}
        if state is not None and number == 0:
            changed["state"] = state
        container = replace(pod.containers[0], **changed)
        cluster.pods[number] = replace(pod, ready=ready, containers=(container,))
    if previous is not None:
        cluster.logs["llm", cluster.pods[0].name, "vllm", True] = previous
    return sources, cluster


def ask(sources, **params):
    return observe(Params(service="chat", **params), sources)


def test_every_family_of_signatures_is_a_field():
    assert {family.value for family in Family} <= {field.name for field in fields(Reading)}


GATED = "huggingface_hub.errors.GatedRepoError: 403 Client Error.\n"
FAULTED = SERVES + "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"


def test_each_kind_of_line_is_told_with_its_own_pod_whichever_is_the_most_telling():
    sources, cluster = logs("", FAULTED, previous=GATED, last_state=ended(1, "Error"), ready=False)
    cluster.pods[1] = replace(cluster.pods[1], ready=True, node="gpu-07")
    first, second = (pod.name for pod in cluster.pods)
    found = ask(sources)
    assert (found.pod, found.model_not_available_pod, found.gpu_faulted_pod) == (first, first, second)
    assert (found.gpu_faulted_node, found.gpu_faulted_cause) == (
        "gpu-07",
        "The GPU's memory has an uncorrectable error.",
    )
    assert found.gpu_faulted_line == FAULTED.splitlines()[-1]
    assert "HF_TOKEN" in found.model_not_available_remedy
    assert (found.disk_full_pod, found.out_of_gpu_memory_line) == (None, None)


def test_of_the_kinds_about_memory_the_most_telling_is_told_once_more_for_them_all():
    sources, cluster = logs("", previous=TOO_LONG, last_state=ended(1, "Error"))
    found = ask(sources)
    assert found.out_of_gpu_memory_pod == found.kv_cache_too_small_pod == cluster.pods[0].name
    assert "--max-model-len" in found.out_of_gpu_memory_remedy


def test_replicas_that_serve_quietly_say_nothing():
    found = ask(logs(SERVES, SERVES)[0])
    assert (found.cause, found.gpu_oom_serving, found.engine_died, found.gpu_faulted) == (None, False, False, False)
    assert found.missing is None


def test_the_run_that_ended_is_read_before_the_one_that_runs():
    sources, cluster = logs(SERVES, previous=KILLED, last_state=ended())
    found = ask(sources)
    assert (found.worker_killed, found.engine_died, found.pod) == (True, True, cluster.pods[0].name)
    assert "killed with signal 9" in found.cause
    assert "exit code: -9" in found.line
    assert "Worker proc VllmWorker-0 died unexpectedly" in found.log_excerpt
    assert found.logs == f"{cluster.pods[0].name}, {cluster.pods[0].name} (the run that ended)"


def test_a_refused_argument_is_named():
    found = ask(logs("", previous=REFUSED, last_state=ended(2, "Error"))[0])
    assert (found.arguments_refused, found.refused_argument) == (True, "--disable-log-requests")


def test_exit_code_2_without_such_a_line_leaves_it_open():
    sources, _ = logs(SERVES, previous="bash: line 3: syntax error near unexpected token", last_state=ended(2, "Error"))
    found = ask(sources)
    assert found.arguments_refused is None
    assert "ended with exit code 2, and its log names no argument" in found.missing
    sources, _ = logs(SERVES, previous="bash: line 3: syntax error near unexpected token", last_state=ended(1, "Error"))
    assert ask(sources).arguments_refused is False


def test_exit_code_0_with_an_empty_log_leaves_it_open_whether_the_engine_died():
    sources, _ = logs(SERVES, previous="", last_state=ended())
    found = ask(sources)
    assert found.engine_died is None
    assert "ended with exit code 0, and its log is empty" in found.missing
    sources, _ = logs(SERVES, previous=SERVES + "INFO:     Shutting down\n", last_state=ended())
    assert (ask(sources).engine_died, ask(sources).missing) == (False, None)


def test_the_length_that_would_fit_is_told():
    found = ask(logs("", previous=TOO_LONG, last_state=ended(1, "Error"))[0])
    assert (found.kv_cache_too_small, found.fitting_max_model_len) == (True, 53728)
    assert (found.gpu_oom_serving, found.gpu_oom_warming_up) == (False, False)


def test_a_start_tells_how_far_it_has_come():
    text = LOADS + "Loading safetensors checkpoint shards:  41% Completed | 7/17\n"
    sources, cluster = logs(text, ready=False)
    found = ask(sources)
    assert (found.starting_pod, found.startup_phase, found.startup_percent) == (
        cluster.pods[0].name,
        "loading weights",
        41,
    )


def test_of_a_replica_that_serves_the_start_is_past():
    found = ask(logs("No space left on device\n" + SERVES)[0])
    assert (found.disk_full, found.cause) == (False, None)
    found = ask(logs(SERVES + "CUDA error: an illegal memory access was encountered\n")[0])
    assert found.gpu_faulted is True


MISSING = "huggingface_hub.errors.LocalEntryNotFoundError: cannot find the file in the local cache\n"
WEIGHTS = "INFO [default_loader.py:501] Loading weights took 12.01 seconds\n"
CACHE = "INFO [kv_cache_utils.py:1229] GPU KV cache size: 1,024 tokens\n"


def test_what_a_start_that_goes_on_has_overcome_is_past():
    assert ask(logs(LOADS + MISSING, ready=False)[0]).model_not_available is True
    found = ask(logs(LOADS + MISSING + WEIGHTS, ready=False)[0])
    assert (found.model_not_available, found.cause) == (False, None)


def test_of_a_run_that_ended_one_worker_may_have_gone_on_while_another_failed():
    last = ended(1, "Error")
    found = ask(logs(LOADS, previous=LOADS + MISSING + WEIGHTS, last_state=last, ready=False)[0])
    assert found.model_not_available is True
    found = ask(logs(LOADS, previous=LOADS + MISSING + WEIGHTS + CACHE, last_state=last, ready=False)[0])
    assert found.model_not_available is False


def test_what_a_pod_that_is_ready_now_lacked_before_is_no_cause_of_another_that_loads():
    sources, cluster = logs(SERVES, LOADS, previous=LOADS + MISSING, last_state=ended(1, "Error", minutes_ago=50))
    cluster.pods[1] = replace(cluster.pods[1], ready=False)
    assert (ask(sources).model_not_available, ask(sources).cause) == (False, None)
    cluster.pods[0] = replace(cluster.pods[0], ready=False)
    assert ask(sources).model_not_available is True


def test_that_memory_was_short_stays_true_of_a_crash_though_the_next_start_came_up():
    sources, _ = logs(SERVES, previous=TOO_LONG, last_state=ended(1, "Error"))
    assert ask(sources).kv_cache_too_small is True


def test_a_log_that_cannot_be_read_is_not_an_empty_one():
    sources, cluster = logs(SERVES, previous=KILLED, last_state=ended())
    whole = cluster.pod_logs

    def without_previous(*args, previous=False, **more):
        if previous:
            raise NOT_ANSWERING
        return whole(*args, previous=previous, **more)

    cluster.pod_logs = without_previous
    found = ask(sources)
    assert (found.worker_killed, found.gpu_oom_serving, found.engine_died) == (None, None, None)
    assert "(the run that ended): did not answer" in found.missing


def test_an_out_of_memory_whose_phase_is_cut_off_is_not_known_and_that_is_said():
    oom = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    found = ask(logs("", previous=oom, last_state=ended(1, "Error"))[0])
    assert (found.gpu_oom_serving, found.weights_too_large, found.kv_cache_too_small) == (None, None, False)
    assert "cut off" in found.missing


def test_a_crash_of_long_ago_is_not_read():
    found = ask(logs(SERVES, previous=KILLED, last_state=ended(minutes_ago=90))[0])
    assert (found.worker_killed, found.engine_died) == (False, False)


def test_a_crash_loop_is_read_whatever_its_age():
    waits = ContainerState("waiting", "CrashLoopBackOff")
    sources, _ = logs("", previous=REFUSED, last_state=ended(2, minutes_ago=90), state=waits, ready=False)
    assert ask(sources).arguments_refused is True


def test_more_logs_than_allowed_leave_the_rest_unknown():
    sources, _ = logs(LOADS, LOADS, LOADS, ready=False)
    found = ask(sources, max_logs=2)
    assert found.disk_full is None
    assert "1 more logs were not read" in found.missing


def test_a_service_whose_pods_have_not_started_has_no_log():
    sources, cluster = logs(SERVES)
    cluster.pods[0] = replace(cluster.pods[0], node=None)
    found = ask(sources)
    assert (found.engine_died, found.missing) == (None, "no replica has started, so there is no log")


def test_secrets_do_not_leave_with_the_excerpt():
    text = "non-default args: {'api_key': ['topsecret']}\nEngineCore failed to start.\n"
    found = ask(logs("", previous=text, last_state=ended(1, "Error"))[0])
    assert "topsecret" not in found.log_excerpt
    assert "EngineCore failed to start" in found.log_excerpt
