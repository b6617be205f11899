from dataclasses import replace

import pytest

from bot.fleet import WorkloadRef
from bot.ports import Pod, SourceError
from tests.outbound.worlds import World, until


def nothing(world: World) -> WorkloadRef:
    return WorkloadRef(namespace=world.namespace, name="no-such-thing")


def test_a_settled_workload_says_so(world: World):
    found = world.reader.workload(world.deploy("chat", replicas=2))
    assert found is not None and found.settled
    assert (found.desired, found.ready, found.updated, found.unavailable) == (2, 2, 2, 0)
    assert found.revision == 1
    assert found.selector == {"app": "chat"}
    assert found.template["spec"]["containers"][0]["args"][-1] == "--v=1"
    assert found.conditions["Available"][0] is True
    assert (found.max_surge, found.max_unavailable) == (1, 0)


def test_a_workload_that_was_just_scaled_is_not_settled(world: World):
    ref = world.deploy("chat", replicas=1)
    world.scale(ref, 3)
    found = world.reader.workload(ref)
    assert found is not None
    assert found.desired == 3


def test_what_does_not_exist_is_none_not_an_error(world: World):
    assert world.reader.workload(nothing(world)) is None
    assert world.reader.pod(world.namespace, "no-such-pod") is None
    assert world.reader.node("no-such-node") is None
    assert world.reader.pods_of(nothing(world)) == ()
    assert world.reader.revisions(nothing(world)) == ()
    assert world.reader.autoscaler_of(nothing(world)) is None


def test_a_pod_tells_its_arguments_node_address_and_gpus(world: World):
    (pod,) = world.reader.pods_of(world.deploy("chat", replicas=1, gpus=4))
    assert pod.node is not None and pod.node.startswith("gpu-")
    assert pod.ip is not None and pod.ip.startswith("127.")
    assert (pod.phase, pod.ready, pod.unschedulable) == ("Running", True, None)
    assert pod.ready_at is not None and pod.created_at <= pod.ready_at
    (container,) = pod.containers
    assert (container.name, container.image) == ("vllm", "vllm/vllm-openai:v0.32.0")
    assert container.args[-1] == "--v=1"
    assert container.ports == {"http": 8000}
    assert pod.gpus == 4
    assert container.state is not None and container.state.phase == "running"
    assert world.reader.pod(pod.namespace, pod.name) == pod


def test_a_config_map_is_read_only_where_a_role_names_it(world: World):
    world.add_config_map("options", {"serve.yaml": "max-num-seqs: 64"})
    with pytest.raises(SourceError, match="configmaps"):
        world.reader.config_map(world.namespace, "options")
    world.allow_config_map("options")
    until(lambda: readable(world, "options") is not None)
    found = world.reader.config_map(world.namespace, "options")
    assert found.data == {"serve.yaml": "max-num-seqs: 64"}
    assert found.changed_at is not None and found.changed_at.tzinfo is not None


def readable(world: World, name: str):
    """A role takes a moment until it holds."""
    try:
        return world.reader.config_map(world.namespace, name)
    except SourceError:
        return None


def test_the_canarys_pods_are_not_the_workloads(world: World):
    stable, canary = world.deploy("chat", replicas=2), world.deploy("chat-canary", replicas=1)
    of_stable = {pod.name for pod in world.reader.pods_of(stable)}
    of_canary = {pod.name for pod in world.reader.pods_of(canary)}
    assert (len(of_stable), len(of_canary)) == (2, 1)
    assert not of_stable & of_canary


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_pod_leads_to_its_workload(world: World, kind: str):
    ref = world.deploy("chat") if kind == "Deployment" else world.deploy_stateful("chat")
    pods = world.reader.pods_of(ref)
    assert len(pods) == 2
    assert {world.reader.workload_of(pod) for pod in pods} == {ref}


def test_a_stateful_workload_is_read_and_has_no_revisions(world: World):
    ref = world.deploy_stateful("chat")
    found = world.reader.workload(ref)
    assert found is not None and found.settled
    assert found.revision is None
    assert (found.max_surge, found.max_unavailable) == (0, 1)
    assert world.reader.revisions(ref) == ()


def test_a_pod_that_nobody_controls_has_no_workload(world: World):
    assert world.reader.workload_of(world.add_pod_of(None)) is None


def test_a_controller_that_the_bot_does_not_know_is_named(world: World):
    with pytest.raises(SourceError, match="Job nightly"):
        world.reader.workload_of(world.add_pod_of("Job"))


def test_a_controller_that_is_gone_is_an_error_worth_another_try(world: World):
    (pod, *_) = world.reader.pods_of(world.deploy("chat"))
    with pytest.raises(SourceError, match="is gone") as gone:
        world.reader.workload_of(replace(pod, owner="chat-000000"))
    assert gone.value.retryable


def test_revisions_come_newest_first_with_their_causes(world: World):
    ref = world.deploy("chat", flag="v=1")
    world.roll_out(ref, flag="v=2", cause="raise v")
    newest, oldest = world.reader.revisions(ref)
    assert (newest.number, oldest.number) == (2, 1)
    assert newest.change_cause == "raise v"
    assert newest.images == ("vllm/vllm-openai:v0.32.0",)
    assert newest.template["spec"]["containers"][0]["args"][-1] == "--v=2"
    assert oldest.template["spec"]["containers"][0]["args"][-1] == "--v=1"
    assert (newest.replicas, oldest.replicas) == (2, 0)


def test_the_newest_revision_is_the_workloads_template(world: World):
    ref = world.deploy("chat")
    workload = world.reader.workload(ref)
    assert workload is not None
    (revision,) = world.reader.revisions(ref)
    assert revision.template == workload.template
    assert {pod.owner for pod in world.reader.pods_of(ref)} == {revision.replica_set}


def test_gpus_that_pods_took_are_not_free(world: World):
    before = sum(world.reader.free_gpus().values())
    world.deploy("chat", replicas=2, gpus=3)
    assert sum(world.reader.free_gpus().values()) == before - 6


def test_a_cordoned_node_is_there_and_has_nothing_free(world: World):
    world.cordon("gpu-02")
    node = world.reader.node("gpu-02")
    assert node is not None
    assert (node.ready, node.schedulable, node.gpus) == (True, False, 8)
    assert node.gpu_product == "NVIDIA-H100-80GB-HBM3"
    assert node.conditions["Ready"] is True
    assert "gpu-02" in [one.name for one in world.reader.nodes()]
    assert "gpu-02" not in world.reader.free_gpus()


def test_the_pods_of_a_node_are_all_of_any_owner(world: World):
    (pod,) = world.reader.pods_of(world.deploy("chat", replicas=1))
    assert pod.node is not None
    assert pod.name in {one.name for one in world.reader.pods_on_node(pod.node)}
    assert world.reader.pods_on_node("no-such-node") == ()


def test_pods_are_found_by_their_labels_in_one_namespace(world: World):
    (pod,) = world.reader.pods_of(world.deploy("chat", replicas=1))
    label = dict([next(iter(pod.labels.items()))])
    assert pod.name in {one.name for one in world.reader.pods_labelled(pod.namespace, label)}
    assert world.reader.pods_labelled(pod.namespace, {**label, "no-such": "label"}) == ()
    assert world.reader.pods_labelled("no-such-namespace", label) == ()


def test_a_pod_without_room_carries_the_schedulers_words(world: World):
    ref = world.deploy("huge", replicas=1, gpus=64)
    pod = waits_for_words(world, ref)
    assert pod.node is None and pod.ip is None and not pod.ready
    assert "Insufficient nvidia.com/gpu" in (pod.unschedulable or "")


def waits_for_words(world: World, ref: WorkloadRef) -> Pod:
    until(lambda: any(pod.unschedulable for pod in world.reader.pods_of(ref)))
    (pod,) = world.reader.pods_of(ref)
    return pod


def test_events_of_one_object_come_newest_first(world: World):
    first, second = world.reader.pods_of(world.deploy("chat"))
    world.event(first, "Unhealthy", "probe failed", minutes_ago=8)
    world.event(first, "BackOff", "restarting", minutes_ago=2)
    world.event(second, "Other", "not this pod's", minutes_ago=1)
    ours = [
        event
        for event in world.reader.events(first.namespace, "Pod", first.name)
        if event.reason in ("Unhealthy", "BackOff", "Other")
    ]
    assert [(event.reason, event.message, event.type) for event in ours] == [
        ("BackOff", "restarting", "Warning"),
        ("Unhealthy", "probe failed", "Warning"),
    ]
    assert (ours[0].kind, ours[0].name, ours[0].count) == ("Pod", first.name, 1)


def test_an_autoscaler_is_found_by_what_it_scales(world: World):
    chat, other = world.deploy("chat"), world.deploy("other")
    world.autoscale(chat, 2, 9)
    found = world.reader.autoscaler_of(chat)
    assert found is not None
    assert (found.minimum, found.maximum, found.keda) == (2, 9, False)
    assert world.reader.autoscaler_of(other) is None


def test_logs_are_the_last_lines(world: World):
    (pod,) = world.reader.pods_of(world.deploy("chat", replicas=1))
    world.print(pod, ["one", "two", "three"])
    assert world.reader.pod_logs(pod.namespace, pod.name, "vllm", tail=2).splitlines() == ["two", "three"]


def test_logs_of_a_pod_that_is_not_there_are_an_error(world: World):
    with pytest.raises(SourceError, match="no-such-pod"):
        world.reader.pod_logs(world.namespace, "no-such-pod", "vllm", tail=2)


def test_a_budget_tells_whom_it_protects_and_how_many_may_go(world: World):
    ref, canary = world.deploy("chat", replicas=2), world.deploy("chat-canary", replicas=1)
    world.budget(ref, 1)
    (budget,) = [found for found in world.reader.budgets(ref.namespace) if found.name == "chat"]
    assert (budget.expected, budget.healthy, budget.needed, budget.allowed) == (2, 2, 1, 1)
    assert not budget.unready_may_go
    assert all(budget.selects(pod) for pod in world.reader.pods_of(ref))
    assert not any(budget.selects(pod) for pod in world.reader.pods_of(canary))


def test_pods_are_told_apart_by_their_uid(world: World):
    found = world.reader.pods_of(world.deploy("chat", replicas=2))
    assert all(pod.uid for pod in found)
    assert len({pod.uid for pod in found}) == 2
