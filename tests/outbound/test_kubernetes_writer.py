import json

import pytest

from bot.fleet import WorkloadRef
from bot.ports import ConflictError, Pod, SourceError, Workload
from tests.outbound.worlds import RealWorld, World, until, with_flag


def there(world: World, ref: WorkloadRef) -> Workload:
    found = world.reader.workload(ref)
    assert found is not None
    return found


def flag(workload: Workload) -> str:
    return workload.template["spec"]["containers"][0]["args"][-1]


# ---------------------------------------------------------------------------------------------- scale


def test_scaling_changes_the_replicas_and_tells_before_and_after(world: World):
    ref = world.deploy("chat", replicas=1)
    change = world.writer.scale(ref, before=1, after=2)
    assert (change.before["spec"]["replicas"], change.after["spec"]["replicas"]) == (1, 2)
    world.settle(ref)
    assert there(world, ref).ready == 2
    assert len(world.reader.pods_of(ref)) == 2


def test_a_dry_run_of_scaling_tells_the_same_and_changes_nothing(world: World):
    ref = world.deploy("chat", replicas=1)
    change = world.writer.scale(ref, before=1, after=2, dry_run=True)
    assert (change.before["spec"]["replicas"], change.after["spec"]["replicas"]) == (1, 2)
    assert there(world, ref).desired == 1


def test_scaling_what_somebody_else_scaled_is_a_conflict_and_changes_nothing(world: World):
    ref = world.deploy("chat", replicas=1)
    world.scale(ref, 2)
    with pytest.raises(ConflictError, match="2 replicas now, not 1"):
        world.writer.scale(ref, before=1, after=3)
    assert there(world, ref).desired == 2


def test_zero_replicas_can_be_left_and_reached(world: World):
    ref = world.deploy("chat", replicas=1)
    down = world.writer.scale(ref, before=1, after=0)
    assert down.after["spec"]["replicas"] == 0
    up = world.writer.scale(ref, before=0, after=1)
    assert (up.before["spec"]["replicas"], there(world, ref).desired) == (0, 1)


def test_a_stateful_workload_can_be_scaled(world: World):
    ref = world.deploy_stateful("chat")
    world.writer.scale(ref, before=2, after=1)
    assert there(world, ref).desired == 1


def test_a_replica_that_does_not_lead_changes_nothing(world: World):
    ref = world.deploy("chat", replicas=1)
    writer = world.writer_of_a_follower
    with pytest.raises(SourceError, match="leads now"):
        writer.scale(ref, before=1, after=2)
    with pytest.raises(SourceError, match="leads now"):
        template = there(world, ref).template
        writer.set_template(ref, before=template, after=with_flag(template, "v=2"), cause="x")
    assert (there(world, ref).desired, flag(there(world, ref))) == (1, "--v=1")


def test_a_replica_that_does_not_lead_may_preview(world: World):
    ref = world.deploy("chat", replicas=1)
    assert world.writer_of_a_follower.scale(ref, before=1, after=2, dry_run=True).after["spec"]["replicas"] == 2


def test_a_workload_that_is_not_there_is_an_error(world: World):
    with pytest.raises(SourceError, match="not found"):
        world.writer.scale(WorkloadRef(namespace=world.namespace, name="no-such-thing"), before=1, after=2)


# ---------------------------------------------------------------------------------------------- templates


def test_going_back_takes_the_old_revision_up_again_under_a_new_number(world: World):
    ref = world.deploy("chat", flag="v=1")
    world.roll_out(ref, flag="v=2", cause="raise v")
    good = world.reader.revisions(ref)[1]
    now = there(world, ref).template
    change = world.writer.set_template(ref, before=now, after=good.template, cause="back to 1, inc-142-p2")
    world.settle(ref)
    workload = there(world, ref)
    assert workload.template == good.template
    assert workload.settled and workload.revision == 3
    newest = world.reader.revisions(ref)[0]
    assert (newest.number, newest.replica_set, newest.change_cause) == (3, good.replica_set, "back to 1, inc-142-p2")
    assert len(world.reader.revisions(ref)) == 2
    assert change.before["spec"]["template"] == now
    assert change.after["spec"]["template"] == good.template


def test_a_dry_run_of_a_template_tells_the_same_and_changes_nothing(world: World):
    ref = world.deploy("chat")
    now = there(world, ref).template
    change = world.writer.set_template(ref, before=now, after=with_flag(now, "v=9"), cause="try", dry_run=True)
    assert change.after["spec"]["template"] == with_flag(now, "v=9")
    assert change.after["metadata"]["annotations"]["kubernetes.io/change-cause"] == "try"
    assert there(world, ref).template == now
    assert len(world.reader.revisions(ref)) == 1


def test_a_template_that_somebody_else_changed_is_a_conflict_and_stays(world: World):
    ref = world.deploy("chat", flag="v=1")
    shown = there(world, ref).template
    world.roll_out(ref, flag="v=2", cause="theirs")
    with pytest.raises(ConflictError, match="no longer the one shown"):
        world.writer.set_template(ref, before=shown, after=with_flag(shown, "v=3"), cause="ours")
    assert flag(there(world, ref)) == "--v=2"


def test_replicas_that_somebody_else_changed_do_not_stand_in_a_templates_way(world: World):
    ref = world.deploy("chat", replicas=1)
    shown = there(world, ref).template
    world.scale(ref, 2)
    world.writer.set_template(ref, before=shown, after=with_flag(shown, "v=2"), cause="ours")
    world.settle(ref)
    assert (there(world, ref).ready, flag(there(world, ref))) == (2, "--v=2")


def test_a_template_with_characters_that_json_escapes_is_changed_too(world: World):
    ref = world.deploy("chat", flag='v="<ä & ß>"')
    shown = there(world, ref).template
    world.writer.set_template(ref, before=shown, after=with_flag(shown, "v=ü<2"), cause="größer <2>")
    world.settle(ref)
    assert flag(there(world, ref)) == "--v=ü<2"
    assert world.reader.revisions(ref)[0].change_cause == "größer <2>"


# ---------------------------------------------------------------------------------------------- nodes

NODE = "gpu-04"


def schedulable(world: World) -> bool:
    node = world.reader.node(NODE)
    assert node is not None
    return node.schedulable


def test_a_node_is_cordoned_and_uncordoned_and_each_tells_before_and_after(world: World):
    cordon = world.writer.set_schedulable(NODE, before=True, after=False)
    assert not cordon.before["spec"].get("unschedulable")
    assert cordon.after["spec"]["unschedulable"] is True
    assert not schedulable(world)
    uncordon = world.writer.set_schedulable(NODE, before=False, after=True)
    assert uncordon.before["spec"]["unschedulable"] is True
    assert not uncordon.after["spec"].get("unschedulable")
    assert schedulable(world)


def test_a_dry_run_of_a_cordon_changes_nothing(world: World):
    change = world.writer.set_schedulable(NODE, before=True, after=False, dry_run=True)
    assert change.after["spec"]["unschedulable"] is True
    assert schedulable(world)


def test_a_node_that_is_not_as_shown_is_a_conflict(world: World):
    with pytest.raises(ConflictError, match=f"{NODE} is schedulable now"):
        world.writer.set_schedulable(NODE, before=False, after=True)
    world.cordon(NODE)
    with pytest.raises(ConflictError, match=f"{NODE} is cordoned now"):
        world.writer.set_schedulable(NODE, before=True, after=False)


def test_what_stays_as_it_is_can_be_previewed(world: World):
    """Draining a node that was cordoned before."""
    world.cordon(NODE)
    change = world.writer.set_schedulable(NODE, before=False, after=False, dry_run=True)
    assert change.before["spec"]["unschedulable"] is change.after["spec"]["unschedulable"] is True


def test_a_node_that_is_not_there_is_an_error(world: World):
    with pytest.raises(SourceError, match="not found"):
        world.writer.set_schedulable("no-such-node", before=True, after=False, dry_run=True)


# ---------------------------------------------------------------------------------------------- pods that go


def pods(world: World, ref: WorkloadRef) -> tuple[Pod, ...]:
    return tuple(sorted(world.reader.pods_of(ref), key=lambda pod: pod.name))


def goes(world: World, pod: Pod) -> bool:
    found = world.reader.pod(pod.namespace, pod.name)
    return found is None or found.uid != pod.uid or found.deleted_at is not None


def test_a_pod_that_its_budget_lets_go_is_evicted(world: World):
    ref = world.deploy("chat", replicas=2)
    world.budget(ref, 1)
    first, second = pods(world, ref)
    assert world.writer.evict(first.namespace, first.name, uid=first.uid) is None
    assert goes(world, first) and not goes(world, second)


def test_a_budget_that_lets_nobody_go_is_told_in_its_own_words_and_nobody_goes(world: World):
    ref = world.deploy("chat", replicas=2)
    world.budget(ref, 2)
    first, second = pods(world, ref)
    said = world.writer.evict(first.namespace, first.name, uid=first.uid)
    assert said == "The disruption budget chat needs 2 healthy pods and has 2 currently"
    assert not goes(world, first) and not goes(world, second)


def test_a_dry_run_of_an_eviction_tells_the_same_and_nobody_goes(world: World):
    ref = world.deploy("chat", replicas=2)
    world.budget(ref, 1)
    first, _ = pods(world, ref)
    assert world.writer.evict(first.namespace, first.name, uid=first.uid, dry_run=True) is None
    world.budget(ref, 2)
    said = world.writer.evict(first.namespace, first.name, uid=first.uid, dry_run=True)
    assert said is not None and "needs 2 healthy pods" in said
    assert not goes(world, first)


def test_another_pod_of_the_same_name_is_not_hit_and_costs_its_budget_nothing(world: World):
    ref = world.deploy_stateful("chat")
    world.budget(ref, 1)
    first, _ = pods(world, ref)
    assert world.writer.evict(first.namespace, first.name, uid="of-an-earlier-one") is None
    world.writer.delete_pod(first.namespace, first.name, uid="of-an-earlier-one")
    assert not goes(world, first)
    assert world.writer.evict(first.namespace, first.name, uid=first.uid, dry_run=True) is None


def test_a_pod_that_is_gone_is_what_was_wanted(world: World):
    assert world.writer.evict(world.namespace, "no-such-pod", uid="x") is None
    world.writer.delete_pod(world.namespace, "no-such-pod", uid="x")


def test_a_delete_asks_no_budget(world: World):
    ref = world.deploy("chat", replicas=2)
    world.budget(ref, 2)
    first, second = pods(world, ref)
    world.writer.delete_pod(first.namespace, first.name, uid=first.uid, dry_run=True)
    assert not goes(world, first)
    world.writer.delete_pod(first.namespace, first.name, uid=first.uid)
    assert goes(world, first) and not goes(world, second)


def test_two_budgets_on_one_pod_are_an_error_that_says_so(world: World):
    ref = world.deploy("chat", replicas=1)
    world.budget(ref, 0)
    world.budget(ref, 0, name="second")
    (pod,) = pods(world, ref)
    with pytest.raises(SourceError, match="more than one PodDisruptionBudget"):
        world.writer.evict(pod.namespace, pod.name, uid=pod.uid)
    assert not goes(world, pod)


def test_a_replica_that_does_not_lead_touches_no_node_and_no_pod(world: World):
    ref = world.deploy("chat", replicas=1)
    world.budget(ref, 0)
    (pod,) = pods(world, ref)
    writer = world.writer_of_a_follower
    with pytest.raises(SourceError, match="leads now"):
        writer.set_schedulable(NODE, before=True, after=False)
    with pytest.raises(SourceError, match="leads now"):
        writer.evict(pod.namespace, pod.name, uid=pod.uid)
    with pytest.raises(SourceError, match="leads now"):
        writer.delete_pod(pod.namespace, pod.name, uid=pod.uid)
    assert schedulable(world) and not goes(world, pod)
    assert writer.evict(pod.namespace, pod.name, uid=pod.uid, dry_run=True) is None


# ---------------------------------------------------------------------------------------------- the real one alone


def test_a_template_that_the_api_server_refuses_is_an_error_with_its_words(real_world: RealWorld):
    ref = real_world.deploy("chat")
    shown = there(real_world, ref).template
    broken = {**shown, "spec": {**shown["spec"], "restartPolicy": "Sometimes"}}
    with pytest.raises(SourceError, match="restartPolicy") as refused:
        real_world.writer.set_template(ref, before=shown, after=broken, cause="x", dry_run=True)
    assert not isinstance(refused.value, ConflictError)


def test_a_change_between_the_read_and_the_patch_is_caught_by_the_api_server(real_world: RealWorld):
    """What the comparison before the patch cannot see: the `test` inside it."""
    ref = real_world.deploy("chat", replicas=1)
    path = f"/apis/apps/v1/namespaces/{ref.namespace}/deployments/{ref.name}"
    for operation in (
        {"op": "test", "path": "/metadata/generation", "value": 99},
        {"op": "test", "path": "/spec/replicas", "value": 7},
    ):
        with pytest.raises(ConflictError):
            real_world.http.patch_json(path, [operation, {"op": "add", "path": "/spec/replicas", "value": 3}])
    assert there(real_world, ref).desired == 1


def test_kubectl_sees_what_was_changed_and_nothing_after_a_dry_run(real_world: RealWorld):
    ref = real_world.deploy("chat", flag="v=1")
    real_world.roll_out(ref, flag="v=2", cause="raise v")
    good = real_world.reader.revisions(ref)[1].template
    now = there(real_world, ref).template
    ask = ("get", "deployment", ref.name, "-n", ref.namespace, "-o", "json")
    real_world.writer.set_template(ref, before=now, after=good, cause="back", dry_run=True)
    assert json.loads(real_world.plane.kubectl(*ask))["spec"]["template"] == now
    real_world.writer.set_template(ref, before=now, after=good, cause="back")
    seen = json.loads(real_world.plane.kubectl(*ask))
    assert seen["spec"]["template"] == good
    assert seen["metadata"]["annotations"]["kubernetes.io/change-cause"] == "back"


def test_every_request_of_a_change_is_in_the_audit_log_and_was_allowed(real_world: RealWorld):
    ref = real_world.deploy("chat", replicas=1)
    shown = there(real_world, ref).template
    real_world.writer.scale(ref, before=1, after=2)
    real_world.writer.set_template(ref, before=shown, after=with_flag(shown, "v=2"), cause="x")
    user = "system:serviceaccount:vllm-oncall:vllm-oncall"
    ours = [e for e in real_world.plane.audit(user) if e.namespace == real_world.namespace]
    assert {e.code for e in ours} == {200}
    assert [e.subresource for e in ours if e.verb == "patch"] == ["scale", ""]


def test_outside_the_namespaces_it_is_bound_in_a_change_is_refused_with_the_role_that_lacks_it(real_world: RealWorld):
    with pytest.raises(SourceError) as refused:
        real_world.writer.scale(WorkloadRef(namespace="kube-system", name="chat"), before=1, after=2, dry_run=True)
    assert "`get` on `deployments/scale` in namespace kube-system" in refused.value.why
    assert "kubectl auth can-i get deployments/scale -n kube-system" in refused.value.hint


def test_a_pod_that_ends_may_be_evicted_again_without_harm(real_world: RealWorld):
    """What a crash between an eviction and its checkpoint leads to."""
    ref = real_world.deploy("chat", replicas=2)
    real_world.budget(ref, 1)
    first, _ = pods(real_world, ref)
    path = f"/api/v1/namespaces/{first.namespace}/pods/{first.name}"
    real_world.plane.api.patch(path, {"metadata": {"finalizers": ["vllm-oncall.test/keep"]}})
    assert real_world.writer.evict(first.namespace, first.name, uid=first.uid) is None
    until(lambda: len(pods(real_world, ref)) == 3)
    real_world.writer.evict(first.namespace, first.name, uid=first.uid)
    real_world.plane.api.patch(path, {"metadata": {"finalizers": None}})
    until(lambda: real_world.reader.pod(first.namespace, first.name) is None)
    assert len([pod for pod in pods(real_world, ref) if pod.deleted_at is None]) == 2


def test_in_a_namespace_without_a_binding_the_missing_right_is_named(real_world: RealWorld):
    pod = {"containers": [{"name": "sleep", "image": "busybox"}]}
    about = {"name": "somebody-elses", "namespace": "default"}
    made = real_world.plane.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod})
    try:
        with pytest.raises(SourceError, match="does not allow `create` on `pods/eviction` in namespace default"):
            real_world.writer.evict("default", "somebody-elses", uid=made["metadata"]["uid"], dry_run=True)
        with pytest.raises(SourceError, match="does not allow `delete` on `pods` in namespace default"):
            real_world.writer.delete_pod("default", "somebody-elses", uid=made["metadata"]["uid"], dry_run=True)
    finally:
        real_world.plane.api.delete("/api/v1/namespaces/default/pods/somebody-elses")
