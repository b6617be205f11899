from dataclasses import replace

import pytest

from bot.actions.owners import manager, node_holder, replica_owner
from bot.ports import Autoscaler


def hpa(**changes) -> Autoscaler:
    return replace(Autoscaler("chat", 2, 8, 3, 3, keda=False), **changes)


def test_replicas_that_nobody_owns_are_free(chat):
    assert replica_owner(chat.ref, 4, chat.cluster) is None
    assert manager(chat.workload) is None


@pytest.mark.parametrize(
    ("wanted", "bounds"),
    [
        (4, '{"minReplicas":4}'),
        (9, '{"minReplicas":9,"maxReplicas":9}'),  # above its maximum, both must move
        (2, '{"maxReplicas":2}'),
        (1, '{"maxReplicas":1,"minReplicas":1}'),
    ],
)
def test_the_command_moves_the_bounds_that_keep_the_autoscaler_from_it(chat, wanted, bounds):
    chat.cluster.autoscalers[chat.ref] = hpa()
    objection = replica_owner(chat.ref, wanted, chat.cluster)
    assert "(2 to 8, now 3)" in objection and bounds in objection


def test_an_argo_application_is_named_by_its_tracking_id(chat):
    chat.change(managed_by="Argo CD", annotations={"argocd.argoproj.io/tracking-id": "prod:apps/Deployment:llm/chat"})
    assert "argocd app rollback prod" in manager(chat.workload)


def test_a_helm_release_is_named(chat):
    chat.change(managed_by="Helm", annotations={"meta.helm.sh/release-name": "chat-prod"})
    assert "helm -n llm history chat-prod" in manager(chat.workload)


# ---------------------------------------------------------------------------------------------- nodes


def node(chat, **fields):
    return replace(chat.cluster.machines["gpu-01"], **fields)


def test_a_node_that_nobody_holds_is_free(chat):
    assert node_holder(node(chat)) is None
    assert node_holder(node(chat, taints=("gpu=broken:NoSchedule",), schedulable=False)) is None


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        ({"labels": {"dgxc.nvidia.com/nvsentinel-state": "draining"}}, "draining"),
        ({"labels": {"k8saas.nvidia.com/cordon-by": "NVSentinel"}}, "quarantined"),
        ({"annotations": {"quarantineHealthEvent": "[{...}]"}}, "quarantined"),
    ],
)
def test_a_node_in_quarantine_is_nvsentinels_and_its_doors_are_named(chat, marks, state):
    words = node_holder(node(chat, **marks))
    assert words.startswith(f"NVSentinel holds gpu-01 ({state})")
    assert "kubectl get node gpu-01 -L dgxc.nvidia.com/nvsentinel-state -w" in words
    assert words.endswith("kubectl uncordon gpu-01")


def test_a_node_that_nvsentinel_has_given_up_can_be_taken_over(chat):
    words = node_holder(node(chat, labels={"dgxc.nvidia.com/nvsentinel-state": "drain-failed"}))
    assert "has given up on it (drain-failed)" in words
    assert words.endswith("kubectl label node gpu-01 k8saas.nvidia.com/ManagedByNVSentinel=false")


def test_a_node_that_was_taken_over_is_free(chat):
    labels = {"dgxc.nvidia.com/nvsentinel-state": "drain-failed", "k8saas.nvidia.com/ManagedByNVSentinel": "false"}
    assert node_holder(node(chat, labels=labels)) is None


@pytest.mark.parametrize(
    ("taint", "who"),
    [
        ("ToBeDeletedByClusterAutoscaler=1764000000:NoSchedule", "the Cluster Autoscaler is removing gpu-01"),
        ("karpenter.sh/disrupted:NoSchedule", "Karpenter is removing gpu-01"),
    ],
)
def test_whoever_removes_the_node_is_named(chat, taint, who):
    assert node_holder(node(chat, taints=(taint,))).startswith(who)
