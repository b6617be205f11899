from dataclasses import replace

import pytest

from bot.actions import rolling
from tests.fakes import fake_sources


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def no_room(chat, **numbers):
    return rolling.no_room(chat.workload, chat.workload.template, sources(chat), **numbers)


def full(chat):
    """The four GPUs that are free are taken."""
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)


def test_a_settled_workload_is_not_busy(chat):
    assert rolling.busy(chat.workload) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"paused": True}, "is paused: somebody works on it. kubectl -n llm rollout resume deployment/chat-70b"),
        ({"updated": 1}, "a rollout of chat-70b is in progress (1 of 3 replicas updated)"),
        ({"generation": 2}, "a rollout of chat-70b is in progress"),
    ],
)
def test_a_workload_that_is_being_changed_is_busy(chat, fields, words):
    chat.change(**fields)
    assert words in rolling.busy(chat.workload)


def test_a_new_replica_that_must_come_first_needs_free_gpus(chat):
    assert no_room(chat) is None
    full(chat)
    assert no_room(chat) == (
        "chat-70b is replaced with 0 unavailable at most, so a new replica must start first, and no node has 4 free "
        "GPUs for it; free GPUs by node: none"
    )


def test_where_an_old_one_may_go_first_no_free_gpus_are_needed(chat):
    full(chat)
    chat.change(max_unavailable=1)
    assert no_room(chat) is None
    chat.change(max_unavailable=None)  # all are stopped first
    assert no_room(chat) is None


def test_new_pods_that_do_not_serve_yet_keep_old_ones_from_going(chat):
    full(chat)
    chat.change(max_unavailable=1)
    assert no_room(chat, there=1, serving=1) is None
    assert no_room(chat, there=1, serving=0) is not None


def test_a_template_that_needs_no_gpus_has_room(chat):
    full(chat)
    assert rolling.no_room(chat.workload, {"spec": {"containers": []}}, sources(chat)) is None


def test_what_a_rolling_update_takes_away_meanwhile(chat):
    template = chat.workload.template
    change = rolling.capacity_change(chat.workload, template)
    assert (change.lost, change.replaced, change.waves, change.gpus_needed) == (0, 3, 3, 4)
    chat.change(max_surge=0, max_unavailable=2)
    change = rolling.capacity_change(chat.workload, template)
    assert (change.lost, change.replaced, change.waves, change.gpus_needed) == (2, 3, 2, 0)
    assert rolling.capacity_change(chat.workload, template, there=3).lost == 0


def test_where_all_are_stopped_first_all_are_missing(chat):
    chat.change(max_surge=None, max_unavailable=None)
    assert rolling.capacity_change(chat.workload, chat.workload.template).lost == 3
