from dataclasses import replace

from bot.probes.vllm_prefill import Params, observe
from tests.fakes import NOT_ANSWERING
from tests.probes.fleets import UP, by_pod, histogram, world

LONG = {
    "request_prompt_tokens_bucket": histogram(le_5000=10, le_10000=20, le_20000=100, le_inf=100),
    "request_prefill_time_seconds_bucket": histogram(le_1=10, le_2_5=20, le_5=100, le_inf=100),
}


def ask(answers, args=("m",), alive=True, change=None):
    sources, cluster, _ = world(args=args)
    sources.metrics.answers = {**answers, **({"num_requests_running": by_pod(cluster, 1, 1, 1)} if alive else {})}
    if change is not None:
        change(cluster)
    return observe(Params(service="chat"), sources)


def test_prompts_and_prefills_are_ranges():
    found = ask(LONG)
    assert (found.prompt_p99_low_tokens, found.prompt_p99_high_tokens) == (10000.0, 20000.0)
    assert (found.prefill_p99_low_seconds, found.prefill_p99_high_seconds) == (2.5, 5.0)
    assert (found.chunked_prefill, found.max_num_batched_tokens) == (True, 8192)
    assert found.missing is None


def test_chunking_that_is_switched_off_is_seen():
    assert ask(LONG, args=("m", "--no-enable-chunked-prefill")).chunked_prefill is False


def test_replicas_that_differ_leave_it_unknown():
    def differ(cluster):
        other = replace(cluster.pods[0].containers[0], args=("m", "--no-enable-chunked-prefill"))
        cluster.pods[0] = replace(cluster.pods[0], containers=(other,))

    assert ask(LONG, change=differ).chunked_prefill is None


def test_without_the_api_server_the_latencies_are_still_seen():
    found = ask(LONG, change=lambda cluster: setattr(cluster, "down", NOT_ANSWERING))
    assert found.prefill_p99_low_seconds == 2.5
    assert found.chunked_prefill is None and "arguments are not known" in found.missing


def test_silent_pods_and_idle_ones_are_told_apart():
    silent, idle = ask({**LONG, **UP}, alive=False), ask({})
    assert silent.prefill_p99_low_seconds is None and "export no" in silent.missing
    assert idle.prefill_p99_low_seconds is None and "no request has finished" in idle.missing


def test_prompts_are_long_or_not_or_it_stays_open():
    def long(args=("m", "--max-num-batched-tokens=8192"), **counts):
        answers = {**LONG, "request_prompt_tokens_bucket": histogram(**counts)}
        return ask(answers, args=args).long_prompts

    assert long(le_5000=10, le_10000=20, le_20000=100, le_inf=100) is True
    assert long(le_200=90, le_500=100, le_20000=100, le_inf=100) is False
    assert long(le_5000=10, le_10000=100, le_inf=100) is None  # 8,192 lies within the bucket
    rare = {"le_500": 995, "le_10000": 995, "le_20000": 1000, "le_inf": 1000}
    assert long(**rare) is None  # one in two hundred
    assert long(("m", "--no-enable-chunked-prefill"), le_500=90, le_1000=91, le_2000=100, le_inf=100) is True


def test_prefills_of_half_a_second_are_long():
    assert ask(LONG).long_prefills is True
    short = histogram(le_0_3=90, le_0_5=100, le_inf=100)
    assert ask({**LONG, "request_prefill_time_seconds_bucket": short}).long_prefills is False
