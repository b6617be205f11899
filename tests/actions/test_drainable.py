from dataclasses import replace

import pytest

from bot.actions import drainable
from bot.actions.tenants import tenants_of
from tests.fakes import NOW, fake_sources


def look(chat):
    sources = fake_sources(cluster=chat.cluster)
    return chat.cluster.machines["gpu-01"], tenants_of("gpu-01", sources), sources


def left_alone(chat, force=False, data=False):
    return drainable.left_alone(look(chat)[1], force=force, delete_emptydir_data=data)


def test_pods_that_would_be_lost_are_left_alone_unless_that_is_meant(chat):
    chat.cluster.add_bare_pod("debug")
    assert left_alone(chat) == [
        "llm/debug: nobody controls it, so evicted it is gone for good; say force=true if that is meant"
    ]
    assert left_alone(chat, force=True) == []


def test_data_on_the_nodes_disk_is_not_lost_unless_that_is_meant(chat):
    for number in (0, 1):
        chat.cluster.pods[number] = replace(chat.cluster.pods[number], emptydirs=("cache",))
    first, second, _ = chat.cluster.pods
    assert left_alone(chat, force=True) == [
        f"llm/{first.name}, llm/{second.name}: it keeps data on the node's disk (emptyDir cache); say "
        f"delete_emptydir_data=true to lose it"
    ]
    assert left_alone(chat, data=True) == []


def test_a_budget_that_lets_nobody_go_ever_is_told_and_one_that_does_not_now_is_waited_for(chat):
    _, found, sources = look(chat)
    chat.cluster.add_budget(chat.ref, minimum=2)
    chat.cluster.pods[2] = replace(chat.cluster.pods[2], ready=False)  # it allows none now
    assert drainable.budgets_that_never_let_go(found, sources) == []
    chat.cluster.limits = [replace(chat.cluster.limits[0], needed=3)]
    assert drainable.budgets_that_never_let_go(found, sources) == [
        "disruption budget chat-70b wants 3 of 3 pods healthy, so it lets none go: scale up by one first, or relax "
        "the budget"
    ]


def test_a_budget_that_lets_unready_pods_go_holds_back_only_ready_ones(chat):
    chat.cluster.pods[:2] = [replace(pod, ready=False) for pod in chat.cluster.pods[:2]]
    chat.cluster.add_budget(chat.ref, minimum=3, unready_may_go=True)
    _, found, sources = look(chat)
    assert drainable.budgets_that_never_let_go(found, sources) == []


def test_a_pod_with_two_budgets_cannot_be_evicted(chat):
    chat.cluster.add_budget(chat.ref, minimum=1)
    chat.cluster.add_budget(chat.ref, minimum=1, name="second")
    _, found, sources = look(chat)
    reasons = drainable.budgets_that_never_let_go(found, sources)
    assert len(reasons) == 2 and "several disruption budgets (chat-70b, second)" in reasons[0]


def test_replicas_that_serve_need_free_gpus_on_another_node(chat):
    assert drainable.no_room(*look(chat)) == [
        "no free GPUs elsewhere for 1 of the 2 replicas of chat-70b that serve here: each needs 4 on one node that it "
        "may run on; free GPUs elsewhere: gpu-02 4"
    ]
    chat.cluster.add_node("gpu-03", gpus=4)
    assert drainable.no_room(*look(chat)) == []


def test_replicas_that_do_not_serve_are_no_loss(chat):
    chat.cluster.pods[0] = replace(chat.cluster.pods[0], ready=False)
    assert drainable.no_room(*look(chat)) == []


def test_two_workloads_do_not_get_the_same_gpus(chat):
    other = chat.cluster.add_workload(name="code", replicas=1, node="gpu-01", gpus=4)
    there = chat.cluster.workloads[other]
    chat.cluster.workloads[other] = replace(there, template=chat.with_gpus(there.template))
    chat.cluster.pods[1] = replace(chat.cluster.pods[1], node="gpu-02", ready=True)
    chat.cluster.add_node("gpu-03", gpus=4)
    assert drainable.no_room(*look(chat)) == [
        "no free GPUs elsewhere for 1 of the 1 replica of code that serve here: each needs 4 on one node that it may "
        "run on; free GPUs elsewhere: gpu-03 4"
    ]


def test_what_forbids_two_on_one_host_counts(chat):
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "chat-70b"}}}
            ]
        }
    }
    template = {**chat.workload.template, "spec": {**chat.workload.template["spec"], "affinity": apart}}
    chat.change(template=template)
    chat.cluster.add_node("gpu-03", gpus=8)
    assert "for 1 of the 2 replicas" in drainable.no_room(*look(chat))[0]


@pytest.mark.parametrize("ready", [False, None])
def test_a_node_whose_kubelet_is_silent_ends_no_pods(chat, ready):
    chat.cluster.machines["gpu-01"] = replace(chat.cluster.machines["gpu-01"], ready=ready)
    node, found, _ = look(chat)
    (reason,) = drainable.kubelet_silent(node, found)
    assert "out-of-service=nodeshutdown:NoExecute" in reason
    chat.cluster.pods.clear()
    assert drainable.kubelet_silent(node, look(chat)[1]) == []


def test_pods_on_their_way_out_need_no_room(chat):
    chat.cluster.pods[0] = replace(chat.cluster.pods[0], deleted_at=NOW)
    chat.cluster.add_node("gpu-03", gpus=4)
    assert drainable.no_room(*look(chat)) == []
