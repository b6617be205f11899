from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import SourceError
from bot.probes.recent_changes import Params, observe
from tests.fakes import NOT_ANSWERING, NOW
from tests.probes.fleets import world


@pytest.fixture
def rolled():
    """Revision 2, twelve minutes ago: another image, and fewer sequences."""
    sources, cluster, ref = world(args=("org/model", "--max-num-seqs=64"))
    cluster.add_revision(ref, image="vllm/vllm-openai:v0.31.0", args=["org/model", "--max-num-seqs=256"])
    created = (NOW - timedelta(minutes=12), NOW - timedelta(days=3))
    cluster.history[ref] = [replace(r, created_at=at) for r, at in zip(cluster.history[ref], created, strict=True)]
    return sources, cluster, ref


def test_what_changed_and_when(rolled):
    found = observe(Params(service="chat", began=NOW - timedelta(minutes=2)), rolled[0])
    assert (found.workload, found.revision, found.previous_revision) == ("chat", 2, 1)
    assert found.minutes_before_start == pytest.approx(10) and found.rolled_out == "10 min before it began"
    assert found.changed == "image vllm-openai v0.31.0 → v0.32.0; --max-num-seqs 256 → 64"
    assert (found.image_changed, found.arguments_changed) == (True, True)
    assert (found.first_revision, found.went_back, found.restart_only) == (False, False, False)
    assert found.missing is None


def test_a_rollout_after_the_start_is_negative(rolled):
    found = observe(Params(service="chat", began=NOW - timedelta(minutes=20)), rolled[0])
    assert found.minutes_before_start < 0 and found.rolled_out == "8 min after it began"


def test_without_a_start_it_is_before_now(rolled):
    assert observe(Params(service="chat"), rolled[0]).minutes_before_start == pytest.approx(12)


def test_the_only_revision_has_a_time_and_no_difference():
    sources, _, _ = world()
    found = observe(Params(service="chat"), sources)
    assert found.minutes_before_start == pytest.approx(60)
    assert found.changed is None and "the only one" in found.missing
    assert found.first_revision is True


def test_a_kind_without_revisions_says_so():
    sources, cluster, _ = world(kind="StatefulSet")
    cluster.pods = [replace(p, labels={"controller-revision-hash": "a"}) for p in cluster.pods]
    found = observe(Params(service="chat"), sources)
    assert found.minutes_before_start == pytest.approx(60) and "StatefulSet" in found.missing


def test_a_start_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="timezone"):
        Params(service="chat", began="2026-11-24T02:00:00")


def test_the_api_server_down_is_raised(rolled):
    sources, cluster, _ = rolled
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        observe(Params(service="chat"), sources)
