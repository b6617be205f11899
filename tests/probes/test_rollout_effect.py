from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import Answer, Sample
from bot.probes.rollout_effect import Params, observe
from tests.fakes import NOW, FakeMetrics
from tests.probes.fleets import world

ROLLED = NOW - timedelta(minutes=12)


def then_and_now(before, after):
    def told(query, time):
        value = before if time == ROLLED else after
        return Answer(()) if value is None else Answer((Sample({}, value, NOW),))

    return told


def ask(**answers):
    sources, cluster, ref = world()
    cluster.add_revision(ref)
    created = (ROLLED, NOW - timedelta(days=3))
    cluster.history[ref] = [replace(r, created_at=at) for r, at in zip(cluster.history[ref], created, strict=True)]
    told = {"time_to_first_token": answers["ttft"], "per_output_token": answers["tpot"]}
    told |= {"prefill_time": answers["prefill"], "request_success_total": answers["load"]}
    told |= {"request_prompt_tokens": answers.get("prompt"), "prefix_cache_hits": answers.get("cached")}
    told |= {"request_generation_tokens": answers.get("answer")}
    told = {name: answer for name, answer in told.items() if answer is not None}
    metrics = FakeMetrics(told)
    found = observe(Params(service="chat"), replace(sources, metrics=metrics))
    return found, metrics, cluster.history[ref]


SLOWER = {
    "ttft": then_and_now(0.2, 6.0),
    "tpot": then_and_now(0.021, 0.042),
    "prefill": then_and_now(0.1, 0.15),
    "load": then_and_now(10.0, 10.5),
}


def test_after_is_compared_with_before_the_rollout():
    found, _, _ = ask(**SLOWER)
    assert found.tpot_ratio == pytest.approx(2)
    assert found.ttft_ratio == pytest.approx(30)
    assert found.prefill_ratio == pytest.approx(1.5)
    assert found.load_ratio == pytest.approx(1.05)
    assert (found.tpot_before_seconds, found.tpot_after_seconds) == (0.021, 0.042)
    assert found.missing is None


def test_now_only_the_new_revisions_pods_count_but_all_of_the_load():
    _, metrics, (new, old) = ask(**SLOWER)
    latencies = [query for query in metrics.asked if "per_output_token" in query]
    assert any(old.replica_set not in query and new.replica_set in query for query in latencies)
    assert all(old.replica_set in query for query in metrics.asked if "request_success_total" in query)


def test_without_a_window_before_nothing_can_be_compared():
    nothing = dict.fromkeys(("ttft", "tpot", "prefill", "load"), then_and_now(None, 1.0))
    found, _, _ = ask(**nothing)
    assert found.tpot_ratio is None and found.load_ratio is None
    assert found.missing == "Prometheus has no latency of the window before the rollout of 02:01:00 UTC"


def test_pods_that_have_served_nothing_yet():
    found, _, _ = ask(**{**SLOWER, "ttft": then_and_now(0.2, None)})
    assert found.ttft_ratio is None and "served nothing yet" in found.missing


def test_from_zero_there_is_no_ratio():
    found, _, _ = ask(**{**SLOWER, "load": then_and_now(0.0, 10.0)})
    assert found.load_ratio is None


def test_without_a_rollout_it_says_so():
    sources, cluster, ref = world()
    cluster.history[ref] = []
    assert "no rollout can be told" in observe(Params(service="chat"), sources).missing


def test_longer_prompts_are_told_from_a_slower_revision():
    assert ask(**SLOWER, prompt=then_and_now(200.0, 1000.0))[0].prompt_ratio == pytest.approx(5)


def test_longer_answers_are_told_from_a_slower_revision():
    assert ask(**SLOWER, answer=then_and_now(100.0, 400.0))[0].answer_ratio == pytest.approx(4)
    assert ask(**SLOWER)[0].answer_ratio is None


def test_load_is_per_replica_that_serves():
    _, metrics, _ = ask(**SLOWER)
    assert all("/ count(" in query for query in metrics.asked if "request_success_total" in query)


@pytest.mark.parametrize(
    ("before", "after", "known"),
    [
        (0.6, 0.1, None),
        (0.6, 0.5, True),
        (0.8, 0.4, None),  # three times as much to compute
        (0.1, 0.0, True),
        (0.6, None, None),
        (None, None, True),
    ],
)
def test_a_prefix_cache_that_has_yet_to_fill_leaves_it_open(before, after, known):
    assert ask(**SLOWER, cached=then_and_now(before, after))[0].cache_as_before is known
