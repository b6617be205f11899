from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import ValidationError

from bot.actions import finder, restart_pod
from bot.actions.contract import Action, Aim, Progress, Stepwise
from bot.actions.restart_pod import Params
from bot.ports import ConflictError
from tests.fakes import fake_controls, fake_sources

FITS_THE_CONTRACT: Action = restart_pod  # judged by mypy
TAKES_STEPS: Stepwise = restart_pod


def sources(chat):
    return fake_sources(cluster=chat.cluster)


def controls(chat):
    return fake_controls(cluster=chat.cluster)


def params(chat, number: int = 0, **fields) -> Params:
    pod = chat.cluster.pods[number]
    return Params(namespace="llm", name="chat-70b", pod=pod.name, uid=pod.uid, **fields)


def unready(chat, number: int = 0) -> None:
    chat.cluster.pods[number] = replace(chat.cluster.pods[number], ready=False)


def age(chat) -> None:
    """What is there now is older than what comes."""
    chat.cluster.pods = [replace(p, created_at=p.created_at - timedelta(hours=1)) for p in chat.cluster.pods]


def test_the_incidents_pod_is_meant_unless_another_one_is_named(chat):
    first, second, _ = chat.cluster.pods
    aim = Aim("chat-70b", chat.ref, first.name, "gpu-01")
    assert restart_pod.relative({}, aim, sources(chat)) == params(chat)
    assert restart_pod.relative({"pod": second.name, "hung": "true"}, aim, sources(chat)) == params(chat, 1, hung=True)


@pytest.mark.parametrize(
    ("with_", "pod", "words"),
    [
        ({}, None, "say pod=chat-70b-x"),
        ({"pod": "chat-70b-x"}, None, "there is no pod chat-70b-x in llm; chat-70b has: chat-70b-"),
        ({"force": True}, None, "say pod=chat-70b-x, and hung=true"),
        ({"pod": "nightly"}, None, "nightly belongs to no Deployment and no StatefulSet"),
    ],
)
def test_words_that_mean_nothing_are_answered_in_words(chat, with_, pod, words):
    chat.cluster.add_bare_pod("nightly", owner_kind="Job")
    with pytest.raises(ValueError, match=words) as refused:
        restart_pod.relative(with_, Aim("chat-70b", chat.ref, pod, None), sources(chat))
    assert not isinstance(refused.value, ValidationError)


def test_where_the_new_pod_has_the_old_ones_name_no_other_of_that_second_is_meant(chat):
    """A StatefulSet's."""
    one = params(chat)
    (mine,) = [pod for pod in chat.cluster.pods if pod.name == one.pod]
    again = replace(mine, uid="another", created_at=max(pod.created_at for pod in chat.cluster.pods))
    chat.cluster.pods = [replace(p, created_at=again.created_at) for p in chat.cluster.pods if p is not mine] + [again]
    assert restart_pod.took_effect(one, sources(chat)).detail == f"{one.pod} made room for {one.pod}; 3 of 3 ready"


def test_a_ready_pod_is_evicted_and_a_new_one_takes_its_place(chat):
    chat.cluster.add_budget(chat.ref, minimum=2)
    age(chat)
    one = params(chat)
    assert restart_pod.preview(one, sources(chat), controls(chat)).change.after == {
        "pods": {f"llm/{one.pod}": "evicted, then a new one"}
    }
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    assert chat.cluster.changes == [("evict", f"llm/{one.pod}")]
    effect = restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, f"{one.pod} is gone, no new one yet; 2 of 3 ready")
    chat.cluster.replace_pods(ready=False)
    new = chat.cluster.pods[-1].name
    effect = restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, f"2 of 3 ready; {new} is starting")
    chat.cluster.replace_pods()
    effect = restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert (effect.progress, effect.detail) == (Progress.YES, f"{one.pod} made room for {new}; 3 of 3 ready")
    assert chat.cluster.changes == [("evict", f"llm/{one.pod}")]


def test_what_its_budget_refuses_is_asked_again_and_never_deleted_while_it_serves(chat):
    chat.cluster.add_budget(chat.ref, minimum=3)
    one = params(chat)
    then = restart_pod.preview(one, sources(chat), controls(chat)).change.after["pods"][f"llm/{one.pod}"]
    words = "The disruption budget chat-70b needs 3 healthy pods and has 3 currently"
    assert then == f"evicted as soon as its budget allows ({words}), then a new one"
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    effect = restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert (effect.progress, effect.detail) == (Progress.NOT_YET, f"{one.pod} waits: {words}")
    assert chat.cluster.changes == []
    chat.cluster.limits = [replace(chat.cluster.limits[0], needed=2)]
    restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert chat.cluster.changes == [("evict", f"llm/{one.pod}")]


def test_a_pod_that_serves_nobody_is_deleted_where_its_budget_holds_it_back(chat):
    """The shortage that makes the budget refuse is the one that the restart ends."""
    chat.cluster.add_budget(chat.ref, minimum=3)
    unready(chat)
    one = params(chat)
    then = restart_pod.preview(one, sources(chat), controls(chat)).change.after["pods"][f"llm/{one.pod}"]
    assert then.startswith("deleted, as it serves nobody (The disruption budget chat-70b needs 3")
    assert chat.cluster.changes == []
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    assert chat.cluster.changes == [("delete", f"llm/{one.pod}")]
    assert restart_pod.capacity_change(one, sources(chat)).lost == 0


def test_a_hung_pod_is_not_spared_for_calling_itself_ready(chat):
    chat.cluster.add_budget(chat.ref, minimum=3)
    assert restart_pod.capacity_change(params(chat), sources(chat)).lost == 1
    assert restart_pod.capacity_change(params(chat, hung=True), sources(chat)).lost == 0
    restart_pod.execute(params(chat, hung=True), {}, sources(chat), controls(chat))
    assert [what for what, _ in chat.cluster.changes] == ["delete"]
    assert "by force if its disruption budget refuses" in restart_pod.describe(params(chat, hung=True))


def test_a_pod_of_the_same_name_is_another_pod(chat):
    one = params(chat)
    chat.cluster.pods[0] = replace(chat.cluster.pods[0], uid="a later one")
    assert "is another pod" in restart_pod.objections(one, sources(chat))[0]
    with pytest.raises(ConflictError, match="is another pod"):
        restart_pod.preview(one, sources(chat), controls(chat))
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    assert chat.cluster.changes == []


def test_several_budgets_and_a_node_that_takes_no_pods_speak_against_it(chat):
    assert restart_pod.objections(params(chat), sources(chat)) == ()
    chat.cluster.add_budget(chat.ref, minimum=1)
    chat.cluster.add_budget(chat.ref, minimum=1, name="second")
    (objection,) = restart_pod.objections(params(chat), sources(chat))
    assert "several disruption budgets (chat-70b, second)" in objection
    chat.cluster.limits.clear()
    chat.cluster.machines["gpu-01"] = replace(chat.cluster.machines["gpu-01"], schedulable=False)
    assert restart_pod.objections(params(chat), sources(chat)) == ()  # gpu-02 has four free GPUs
    chat.cluster.machines["gpu-02"] = replace(chat.cluster.machines["gpu-02"], gpus=4)
    (objection,) = restart_pod.objections(params(chat), sources(chat))
    assert objection == ("gpu-01 takes no pods, and no other node has the 4 free GPUs that a new chat-70b needs")


def test_a_new_pod_without_gpus_stands_still_and_is_named(chat):
    age(chat)
    one = params(chat)
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    for name in ("gpu-01", "gpu-02"):
        chat.cluster.machines[name] = replace(chat.cluster.machines[name], gpus=4)
    chat.cluster.replace_pods()
    effect = restart_pod.advance(one, {}, sources(chat), controls(chat))
    assert effect.progress is Progress.PARTLY
    assert effect.detail.startswith(f"2 of 3 ready; {chat.cluster.pods[-1].name} is Pending: ")


def test_another_replica_that_is_down_is_not_the_new_one(chat):
    unready(chat, 1)
    age(chat)
    one = params(chat)
    restart_pod.execute(one, {}, sources(chat), controls(chat))
    chat.cluster.replace_pods()
    assert restart_pod.took_effect(one, sources(chat)).progress is Progress.YES


def test_a_workload_that_went_is_told(chat):
    one = params(chat)
    del chat.cluster.workloads[chat.ref]
    assert restart_pod.took_effect(one, sources(chat)).progress is Progress.NO
    assert restart_pod.capacity_change(one, sources(chat)).replicas == 0


def test_there_is_no_way_back_and_none_is_needed(chat):
    assert finder.way_back("restart_pod", params(chat), {}) is None
    assert restart_pod.by_hand(params(chat)) == f"kubectl -n llm delete pod {chat.cluster.pods[0].name}"
    assert restart_pod.button(params(chat)) == f"restart {chat.cluster.pods[0].name}"
