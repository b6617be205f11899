import pytest

from bot.ports import SourceError
from bot.probes.vllm_latency import Params, Reading, observe
from tests.fakes import NOT_ANSWERING
from tests.probes.fleets import UP, by_pod, histogram, world

SLOW = histogram(le_1=10, le_2_5=20, le_5=100, le_inf=100)
FAST = histogram(le_0_3=100, le_inf=100)


def ask(answers, alive=True):
    sources, cluster, _ = world()
    sources.metrics.answers = {**answers, **({"num_requests_running": by_pod(cluster, 1, 1, 1)} if alive else {})}
    return observe(Params(service="chat"), sources)


def test_each_p99_is_a_range_and_the_longest_phase_is_named():
    found = ask(
        {
            "time_to_first_token_seconds_bucket": SLOW,
            "request_queue_time_seconds_bucket": SLOW,
            "request_prefill_time_seconds_bucket": FAST,
            "sum(rate(vllm:request_queue_time": 3.0,
            "sum(rate(vllm:request_prefill_time": 0.1,
            "sum(rate(vllm:request_decode_time": 2.0,
            "request_success_total": 12.0,
        }
    )
    assert (found.ttft_p99_low_seconds, found.ttft_p99_high_seconds) == (2.5, 5.0)
    assert (found.prefill_p99_low_seconds, found.prefill_p99_high_seconds) == (0.0, 0.3)
    assert found.e2e_p99_low_seconds is None
    assert (found.longest_phase, found.queue_mean_seconds) == ("queue", 3.0)
    assert found.finished_per_second == 12.0


def test_above_the_last_bucket_there_is_a_low_and_no_high():
    found = ask({"time_to_first_token_seconds_bucket": histogram(le_1=10, le_inf=100)})
    assert (found.ttft_p99_low_seconds, found.ttft_p99_high_seconds) == (1.0, None)


def test_nothing_finished_is_said():
    assert "no request has finished within 300s" in ask({}).missing


def test_a_phase_that_is_unknown_leaves_the_longest_unknown():
    assert ask({"sum(rate(vllm:request_queue_time": 3.0}).longest_phase is None


def test_silent_pods_are_not_read_from_what_they_did_before():
    found = ask({"time_to_first_token_seconds_bucket": SLOW, **UP}, alive=False)
    assert found == Reading(missing=found.missing) and found.missing


def test_prometheus_down_is_raised():
    with pytest.raises(SourceError):
        ask({"bucket": NOT_ANSWERING})
