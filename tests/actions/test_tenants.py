from dataclasses import replace

import pytest

from bot.actions import tenants
from bot.fleet import Service
from bot.ports import SourceError
from tests.fakes import EMPTY_FLEET, NOT_ANSWERING, NOW, fake_sources


@pytest.fixture
def sources(chat):
    """gpu-01 runs two of three replicas of chat-70b, a Job, a DaemonSet's pod, a static one, and one that has ended."""
    chat.cluster.add_bare_pod("nightly", owner_kind="Job")
    chat.cluster.add_bare_pod("dcgm-exporter", owner_kind="DaemonSet")
    chat.cluster.add_bare_pod("proxy", owner_kind="Node", annotations={"kubernetes.io/config.mirror": "1"})
    chat.cluster.add_bare_pod("ended", owner_kind="Job", phase="Succeeded")
    service = Service(name="chat", workloads=(chat.ref,), channel="#llm", minimum_ready_replicas=2)
    return fake_sources(cluster=chat.cluster, fleet=EMPTY_FLEET.model_copy(update={"services": (service,)}))


def test_pods_are_told_apart_by_whether_a_drain_moves_them(chat, sources):
    found = tenants.tenants_of("gpu-01", sources)
    first, second, _ = chat.cluster.pods_of(chat.ref)
    assert [tenant.pod.name for tenant in found.movable] == [first.name, second.name, "nightly"]
    assert [tenant.ref for tenant in found.movable] == [chat.ref, chat.ref, None]
    assert ([p.name for p in found.daemons], [p.name for p in found.static]) == (["dcgm-exporter"], ["proxy"])
    assert found.staying == "1 pod of DaemonSets (dcgm-exporter), 1 static pod"


def test_those_of_a_service_stand_together_and_those_of_none_come_last(chat, sources):
    (service, mine), (nobody, rest) = tenants.tenants_of("gpu-01", sources).by_service()
    assert service is not None and service.name == "chat" and len(mine) == 2
    assert nobody is None and [tenant.pod.name for tenant in rest] == ["nightly"]
    assert list(tenants.tenants_of("gpu-01", sources).by_workload()) == [chat.ref]


def test_an_empty_node_has_no_tenants_and_nothing_to_say(chat):
    chat.cluster.add_node("gpu-09")
    found = tenants.tenants_of("gpu-09", fake_sources(cluster=chat.cluster))
    assert (found.movable, found.staying, found.by_service()) == ((), "", [])


def test_what_a_service_can_spare_is_counted_by_its_pods(chat, sources):
    service = sources.fleet.services[0]
    assert tenants.spare(service, sources) == 1
    chat.cluster.pods[0] = replace(chat.cluster.pods[0], deleted_at=NOW)
    assert tenants.spare(service, sources) == 0
    assert len(tenants.replicas_of(service, sources)) == 2


def test_a_controller_that_the_bot_does_not_know_is_none_but_no_answer_is_an_error(chat, sources):
    rollout = replace(chat.cluster.pods[0], owner="somebody-elses", owner_kind="ReplicaSet")

    def foreign(pod):
        raise SourceError("Kubernetes", "belongs to Rollout chat")

    chat.cluster.workload_of = foreign
    assert tenants.workload_of(rollout, sources) is None
    chat.cluster.workload_of = lambda pod: (_ for _ in ()).throw(NOT_ANSWERING)
    with pytest.raises(SourceError, match="did not answer"):
        tenants.workload_of(rollout, sources)
