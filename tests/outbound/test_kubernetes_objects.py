from datetime import UTC, datetime

import pytest

from bot.fleet import WorkloadRef
from bot.outbound import kubernetes_objects as objects
from bot.ports import ConfigMount, SourceError

AT = "2026-11-24T02:00:00Z"
WHEN = datetime(2026, 11, 24, 2, tzinfo=UTC)
META = {"name": "chat", "namespace": "llm", "uid": "u1", "creationTimestamp": AT}
DEPLOYMENT = WorkloadRef(namespace="llm", name="chat")
STATEFUL_SET = WorkloadRef(namespace="llm", kind="StatefulSet", name="chat")


def pod(spec: dict | None = None, status: dict | None = None) -> dict:
    return {"metadata": META, "spec": {"containers": [{"name": "vllm"}], **(spec or {})}, "status": status or {}}


def workload(spec: dict | None = None, status: dict | None = None, **meta) -> dict:
    base = {"selector": {"matchLabels": {"app": "chat"}}, "template": {"spec": {}}}
    return {"metadata": {**META, **meta}, "spec": {**base, **(spec or {})}, "status": status or {}}


def gpus(count: int) -> dict:
    return {"limits": {"nvidia.com/gpu": str(count)}}


# ---------------------------------------------------------------------------------------------- pods


def test_a_pod_that_has_just_been_made_knows_little():
    found = objects.pod(pod())
    assert (found.node, found.ip, found.phase, found.ready, found.ready_at) == (None, None, "", False, None)
    assert (found.owner, found.unschedulable, found.containers[0].state) == (None, None, None)


def test_a_crash_keeps_its_exit_code_and_what_it_waits_for():
    ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": AT}
    vllm = {
        "name": "vllm",
        "ready": False,
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": ended},
    }
    (container,) = objects.pod(pod(status={"containerStatuses": [vllm]})).containers
    assert container.restart_count == 3
    assert container.state is not None and container.last_state is not None
    assert (container.state.phase, container.state.reason) == ("waiting", "CrashLoopBackOff")
    assert (container.last_state.phase, container.last_state.reason) == ("terminated", "OOMKilled")
    assert (container.last_state.exit_code, container.last_state.at) == (137, WHEN)


def test_exit_code_zero_is_a_code_not_an_absence():
    vllm = {"name": "vllm", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    (container,) = objects.pod(pod(status={"containerStatuses": [vllm]})).containers
    assert container.state is not None and container.state.exit_code == 0


def test_what_was_really_pulled_and_how_long_a_run_took_are_kept():
    ended = {"exitCode": 1, "startedAt": AT, "finishedAt": AT}
    vllm = {"name": "vllm", "imageID": "docker.io/vllm/vllm-openai@sha256:abc", "lastState": {"terminated": ended}}
    (container,) = objects.pod(pod(status={"containerStatuses": [vllm]})).containers
    assert container.image_id == "docker.io/vllm/vllm-openai@sha256:abc"
    assert container.last_state is not None and container.last_state.started_at == WHEN


def test_whether_the_kubelet_asks_a_container_is_told():
    containers = [{"name": "vllm", "readinessProbe": {"httpGet": {"path": "/health"}}}, {"name": "proxy"}]
    found = objects.pod(pod({"containers": containers})).containers
    assert [(c.name, c.readiness_probe) for c in found] == [("vllm", True), ("proxy", False)]


def test_init_containers_are_told_apart_from_those_that_serve():
    fetch = {"name": "fetch", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    raw = pod({"containers": [{"name": "vllm"}], "initContainers": [{"name": "fetch"}]})
    found = objects.pod({**raw, "status": {"initContainerStatuses": [fetch]}})
    assert [c.name for c in found.containers] == ["vllm"]
    assert [(c.name, c.restart_count) for c in found.init_containers] == [("fetch", 4)]


def test_environment_from_elsewhere_is_not_known_and_an_empty_one_is_empty():
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "EMPTY"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}},
    ]
    (container,) = objects.pod(pod({"containers": [{"name": "vllm", "env": env}]})).containers
    assert container.env == {"PLAIN": "1", "EMPTY": "", "TOKEN": None}


def test_a_port_without_a_name_goes_by_its_number():
    ports = [{"containerPort": 8000}, {"name": "zmq", "containerPort": 5555}]
    (container,) = objects.pod(pod({"containers": [{"name": "vllm", "ports": ports}]})).containers
    assert container.ports == {"8000": 8000, "zmq": 5555}


def test_the_scheduler_speaks_only_while_it_finds_no_room():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    assert objects.pod(pod(status={"conditions": [condition]})).unschedulable == "no room"
    gated = {**condition, "reason": "SchedulingGated"}
    assert objects.pod(pod(status={"conditions": [gated]})).unschedulable is None


def test_a_pod_that_lost_its_readiness_has_no_ready_time():
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": AT}
    assert objects.pod(pod(status={"conditions": [condition]})).ready_at is None
    assert objects.pod(pod(status={"conditions": [{**condition, "status": "True"}]})).ready_at == WHEN


def test_the_scheduler_counts_sidecars_always_and_init_containers_one_at_a_time():
    main = [{"name": "a", "resources": gpus(2)}, {"name": "b", "resources": gpus(1)}]
    sidecar = {"name": "s", "resources": gpus(1), "restartPolicy": "Always"}
    big = {"name": "i", "resources": gpus(5)}
    assert objects.requested_gpus(pod({"containers": main})) == 3
    assert objects.requested_gpus(pod({"containers": main, "initContainers": [sidecar]})) == 4
    assert objects.requested_gpus(pod({"containers": main, "initContainers": [big]})) == 5
    assert objects.requested_gpus(pod({"containers": main, "initContainers": [sidecar, big]})) == 6


def test_an_object_of_an_unknown_form_is_an_error_that_names_it():
    with pytest.raises(SourceError, match=r"Pod llm/chat has a form this bot does not know"):
        objects.pod({"kind": "Pod", "metadata": META, "spec": {"containers": "many"}})


# ---------------------------------------------------------------------------------------------- workloads


def test_a_deployment_without_a_status_has_nothing_ready():
    found = objects.workload(DEPLOYMENT, workload())
    assert (found.desired, found.ready, found.updated, found.revision, found.settled) == (1, 0, 0, None, False)


def test_unavailable_replicas_of_a_stateful_set_are_counted_here():
    found = objects.workload(STATEFUL_SET, workload({"replicas": 3}, {"availableReplicas": 1}))
    assert found.unavailable == 2


@pytest.mark.parametrize(
    ("limits", "replicas", "expected"),
    [
        ({"maxSurge": "25%", "maxUnavailable": "25%"}, 3, (1, 0)),
        ({"maxSurge": "25%", "maxUnavailable": "25%"}, 8, (2, 2)),
        ({"maxSurge": 1, "maxUnavailable": 0}, 3, (1, 0)),
        ({"maxSurge": 0, "maxUnavailable": "10%"}, 3, (0, 1)),
    ],
)
def test_a_rolling_updates_limits_are_numbers_of_pods(limits, replicas, expected):
    strategy = {"type": "RollingUpdate", "rollingUpdate": limits}
    found = objects.workload(DEPLOYMENT, workload({"replicas": replicas, "strategy": strategy}))
    assert (found.max_surge, found.max_unavailable) == expected


def test_what_is_not_replaced_in_a_rolling_way_has_no_limits():
    found = objects.workload(DEPLOYMENT, workload({"strategy": {"type": "Recreate"}}))
    assert (found.max_surge, found.max_unavailable) == (None, None)
    found = objects.workload(STATEFUL_SET, workload({"updateStrategy": {"type": "OnDelete"}}))
    assert (found.max_surge, found.max_unavailable) == (None, None)


def test_a_stateful_set_replaces_one_pod_at_a_time():
    found = objects.workload(STATEFUL_SET, workload({"updateStrategy": {"type": "RollingUpdate"}}))
    assert (found.max_surge, found.max_unavailable) == (0, 1)


@pytest.mark.parametrize(
    ("meta", "manager"),
    [
        ({}, None),
        ({"labels": {"argocd.argoproj.io/instance": "chat"}}, "Argo CD"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "chat"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "chat"}}, "Flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, "Helm"),
        ({"annotations": {"meta.helm.sh/release-name": "chat"}}, "Helm"),
        (
            {
                "labels": {"helm.toolkit.fluxcd.io/name": "chat", "app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "chat"},
            },
            "Flux",
        ),
    ],
)
def test_who_manages_a_workload_is_read_from_its_marks(meta, manager):
    assert objects.workload(DEPLOYMENT, workload(**meta)).managed_by == manager


def test_a_selector_with_expressions_becomes_a_list_requests_selector():
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "canary", "operator": "DoesNotExist"},
        {"key": "zone", "operator": "Exists"},
        {"key": "env", "operator": "NotIn", "values": ["dev"]},
    ]
    raw = workload({"selector": {"matchLabels": {"app": "chat"}, "matchExpressions": expressions}})
    assert objects.label_selector(raw) == "app=chat,tier in (a,b),!canary,zone,env notin (dev)"


def test_a_revision_forgets_the_hash_of_its_replica_set():
    template = {"metadata": {"labels": {"app": "chat", "pod-template-hash": "abc"}}, "spec": {"containers": []}}
    raw = workload({"template": template, "replicas": 0}, annotations={"deployment.kubernetes.io/revision": "7"})
    found = objects.revision(raw)
    assert found.number == 7
    assert found.template["metadata"]["labels"] == {"app": "chat"}
    assert template["metadata"]["labels"]["pod-template-hash"] == "abc"


# ---------------------------------------------------------------------------------------------- nodes and the rest


def node(status: str) -> dict:
    conditions = [{"type": "Ready", "status": status}, {"type": "DiskPressure", "status": "True"}]
    return {"metadata": {**META, "name": "gpu-01"}, "spec": {}, "status": {"conditions": conditions}}


def test_a_node_that_nobody_hears_of_is_neither_ready_nor_not():
    assert objects.node(node("Unknown")).ready is None
    assert objects.node(node("False")).ready is False
    assert objects.node(node("True")).ready is True


def test_a_condition_that_is_not_known_is_not_told():
    assert objects.node(node("Unknown")).conditions == {"DiskPressure": True}


@pytest.mark.parametrize(
    ("times", "count"),
    [
        ({"lastTimestamp": AT, "count": 4}, 4),
        ({"eventTime": "2026-11-24T02:00:00.000000Z", "lastTimestamp": None, "count": None}, 1),
        ({"eventTime": "2026-11-24T01:00:00.000000Z", "series": {"count": 9, "lastObservedTime": AT}}, 9),
    ],
)
def test_old_and_new_events_tell_the_same(times, count):
    found = objects.event({"involvedObject": {"kind": "Pod", "name": "chat"}, "reason": "BackOff", **times})
    assert (found.at, found.count) == (WHEN, count)


def test_an_autoscaler_without_a_minimum_keeps_one_and_kedas_is_told_apart():
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}, "maxReplicas": 9}
    kind, name, found = objects.autoscaler({"metadata": META, "spec": spec})
    assert (kind, name, found.minimum, found.maximum, found.keda) == ("Deployment", "chat", 1, 9, False)
    keda = {**META, "labels": {"scaledobject.keda.sh/name": "chat"}}
    assert objects.autoscaler({"metadata": keda, "spec": {**spec, "minReplicas": 0}})[2].keda
    assert objects.autoscaler({"metadata": keda, "spec": {**spec, "minReplicas": 0}})[2].minimum == 0


def test_what_a_pod_keeps_on_its_nodes_disk_is_told_but_not_shared_memory():
    shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    volumes = [shm, {"name": "cache", "emptyDir": {}}, {"name": "model", "persistentVolumeClaim": {"claimName": "m"}}]
    assert objects.pod(pod(spec={"volumes": volumes})).emptydirs == ("cache",)


def test_a_static_pod_is_known_by_its_mirror():
    mirror = {**META, "annotations": {"kubernetes.io/config.mirror": "8d1f"}}
    assert objects.pod({**pod(), "metadata": mirror}).is_static
    assert not objects.pod(pod()).is_static


def test_a_budget_that_was_just_made_lets_nobody_go():
    selector = {"matchLabels": {"app": "chat"}, "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]}
    spec = {"minAvailable": 1, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    found = objects.budget({"metadata": META, "spec": spec})
    assert (found.expected, found.needed, found.allowed, found.unready_may_go) == (0, 0, 0, True)
    labelled = objects.pod({**pod(), "metadata": {**META, "labels": {"app": "chat"}}})
    canary = objects.pod({**pod(), "metadata": {**META, "labels": {"app": "chat", "canary": "yes"}}})
    assert found.selects(labelled) and not found.selects(canary)


def test_gpus_that_the_device_plugin_calls_unhealthy_are_announced_and_not_allocatable():
    raw = {"metadata": META, "status": {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "7"}}}
    found = objects.node(raw)
    assert (found.gpus, found.gpu_capacity) == (7, 8)
    assert objects.node({"metadata": META, "status": {}}).gpu_capacity is None


# ---------------------------------------------------------------------------------------------- config maps


@pytest.mark.parametrize(
    ("volume", "mount", "keys"),
    [
        ({}, {}, None),
        ({"items": [{"key": "a", "path": "serve.yaml"}]}, {}, {"serve.yaml": "a"}),
        ({}, {"subPath": "serve.yaml"}, {"": "serve.yaml"}),
        ({"items": [{"key": "a", "path": "serve.yaml"}]}, {"subPath": "serve.yaml"}, {"": "a"}),
    ],
)
def test_a_mounted_config_map_tells_which_key_is_which_file(volume, mount, keys):
    container = {"name": "vllm", "volumeMounts": [{"name": "options", "mountPath": "/etc/vllm", **mount}]}
    volumes = [{"name": "options", "configMap": {"name": "chat-options", **volume}}, {"name": "shm", "emptyDir": {}}]
    found = objects.pod(pod({"containers": [container], "volumes": volumes}))
    assert found.containers[0].config_mounts == (ConfigMount("/etc/vllm", "chat-options", keys),)


def test_a_config_map_was_changed_when_anybody_last_did():
    fields = [
        {"manager": "helm", "time": "2026-11-24T01:00:00Z"},
        {"manager": "kubectl", "time": "2026-11-24T02:00:00Z"},
    ]
    meta = {"name": "options", "creationTimestamp": "2026-11-20T00:00:00Z"}
    found = objects.config_map({"metadata": {**meta, "managedFields": fields}, "data": {"a": "b"}})
    assert (found.data, f"{found.changed_at:%d %H:%M}") == ({"a": "b"}, "24 02:00")
    assert f"{objects.config_map({'metadata': meta}).changed_at:%d}" == "20"
