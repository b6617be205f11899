from dataclasses import replace

import pytest

from bot.actions.owners import manager, replica_owner
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
