from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import SourceError
from bot.probes.rollout_history import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world

IMAGE = "vllm/vllm-openai:v0.31.0"


def ask(sources):
    return observe(Params(service="chat"), sources)


def rolled(*, hours=1.0, before_days=9.0, cause="Update vLLM; token=hf_abcdefghijklmnopqrst"):
    sources, cluster, ref = world()
    cluster.add_revision(ref, image=IMAGE, args=("org/model", "--max-num-seqs=256"))
    newest, older = cluster.history[ref]
    made = NOW - timedelta(hours=hours)
    cluster.history[ref] = [
        replace(newest, created_at=made, change_cause=cause),
        replace(older, created_at=made - timedelta(days=before_days)),
    ]
    return sources, cluster, ref


def test_what_is_there_and_what_was_before():
    found = ask(rolled()[0])
    assert (found.workload, found.revisions, found.current_revision, found.previous_revision) == ("chat", 2, 2, 1)
    assert (found.current_minutes, found.rollouts_last_day, found.went_back) == (60, 1, False)
    assert (found.known_good_revision, found.known_good) == (1, "revision 1, which served for 9 days")


def test_each_revision_is_a_line_with_what_it_changed():
    first, second = ask(rolled()[0]).log_excerpt.splitlines()
    assert "image vllm-openai v0.31.0 → v0.32.0" in first
    assert "the oldest there is" in second


def test_a_secret_in_a_change_cause_does_not_pass():
    found = ask(rolled()[0])
    assert "hf_" not in found.last_cause + found.log_excerpt


def test_what_was_put_back_long_ago_is_told():
    sources, cluster, ref = rolled()
    newest, older = cluster.history[ref]
    cluster.history[ref] = [replace(older, number=3), newest]
    found = ask(sources)
    assert (found.went_back, found.current_revision, found.known_good_revision) == (True, 3, None)
    assert "was itself put back" in found.missing


def test_a_stateful_set_keeps_no_history():
    sources, cluster, _ = world(kind="StatefulSet")
    cluster.pods = [replace(pod, labels={**pod.labels, "controller-revision-hash": "a"}) for pod in cluster.pods]
    found = ask(sources)
    assert (found.revisions, found.current_minutes) == (None, 60)
    assert "keeps no old templates" in found.missing


def test_a_workload_without_anything_says_so():
    sources, cluster, ref = world()
    cluster.history[ref] = []
    assert "no rollout can be told" in ask(sources).missing


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)
