from dataclasses import replace

import pytest

from bot.incidents.target import resolve
from bot.ports import Autoscaler
from tests.fakes import NOT_ANSWERING, FakeCluster
from tests.incidents.conftest import make_fleet

FLEET = make_fleet("chat-70b", "code-8b")


@pytest.fixture
def cluster():
    it = FakeCluster()
    it.add_node("gpu-01")
    it.add_node("gpu-02")
    it.add_workload(name="chat-70b", replicas=2, node="gpu-01")
    it.add_workload(name="code-8b", replicas=1, node="gpu-02")
    return it


def pod_of(cluster, name):
    return next(p for p in cluster.pods if p.labels["app"] == name)


def test_a_pod_leads_to_its_workload_its_node_and_its_service(cluster):
    pod = pod_of(cluster, "chat-70b")
    target = resolve({"namespace": "llm", "pod": pod.name}, cluster, FLEET)
    assert (target.service, target.workload.name, target.pod, target.node) == (
        "chat-70b",
        "chat-70b",
        pod.name,
        "gpu-01",
    )
    assert target.unresolved is None


def test_a_pod_that_is_gone_is_known_by_its_replica_set(cluster):
    pod = pod_of(cluster, "chat-70b")
    cluster.pods.remove(pod)
    target = resolve({"namespace": "llm", "pod": pod.name}, cluster, FLEET)
    assert (target.service, target.node) == ("chat-70b", None)


def test_a_pod_whose_name_only_begins_like_ours_is_not_ours(cluster):
    target = resolve({"namespace": "llm", "pod": "chat-70b-canary-6d4f5-abcde"}, cluster, FLEET)
    assert target.service is None


def test_the_workloads_pod_counts_where_prometheus_renamed_the_exporters_claims(cluster):
    pod = pod_of(cluster, "code-8b")
    labels = {"namespace": "gpu-operator", "pod": "dcgm-exporter-x2k9p", "exported_namespace": "llm"}
    target = resolve({**labels, "exported_pod": pod.name}, cluster, FLEET)
    assert target.service == "code-8b"


def test_an_autoscaler_leads_to_what_it_scales_in_its_own_namespace(cluster):
    ref = next(ref for ref in cluster.workloads if ref.name == "chat-70b")
    cluster.autoscalers[ref] = Autoscaler("keda-hpa-chat", minimum=1, maximum=4, current=4, desired=4, keda=True)
    labels = {"horizontalpodautoscaler": "keda-hpa-chat", "namespace": "llm"}
    assert resolve(labels, cluster, FLEET).service == "chat-70b"
    assert resolve({**labels, "namespace": "other"}, cluster, FLEET).service is None


@pytest.mark.parametrize("label", ["node", "Hostname", "kubernetes_node"])
def test_a_node_with_one_service_on_it_is_about_that_service(cluster, label):
    target = resolve({label: "gpu-02"}, cluster, FLEET)
    assert (target.node, target.service) == ("gpu-02", "code-8b")


def test_an_instance_counts_as_a_node_only_if_there_is_one_of_that_name(cluster):
    assert resolve({"instance": "gpu-02:9400"}, cluster, FLEET).node == "gpu-02"
    assert resolve({"instance": "10.0.0.7:9400"}, cluster, FLEET).node is None


def test_a_node_that_several_services_share_names_them(cluster):
    cluster.pods = [replace(p, node="gpu-01") for p in cluster.pods]
    target = resolve({"node": "gpu-01"}, cluster, FLEET)
    assert (target.service, set(target.also)) == (None, {"chat-70b", "code-8b"})


def test_an_exporters_own_pod_on_the_node_belongs_to_nobody(cluster):
    pod = replace(pod_of(cluster, "code-8b"), name="dcgm-x", owner="dcgm", owner_kind="DaemonSet", namespace="gpu")
    cluster.pods.append(pod)
    assert resolve({"node": "gpu-02"}, cluster, FLEET).service == "code-8b"


@pytest.mark.parametrize(
    "labels",
    [{"service": "chat-70b"}, {"deployment": "chat-70b", "namespace": "llm"}, {"model_name": "model-chat-70b"}],
)
def test_labels_alone_name_a_service(cluster, labels):
    assert resolve(labels, cluster, FLEET).service == "chat-70b"


def test_a_deployment_of_another_namespace_is_another_one(cluster):
    assert resolve({"deployment": "chat-70b", "namespace": "dev"}, cluster, FLEET).service is None


def test_without_the_api_server_the_labels_still_count_and_the_gap_is_said(cluster):
    cluster.down = NOT_ANSWERING
    target = resolve({"namespace": "llm", "pod": "chat-70b-x-y", "model_name": "model-chat-70b"}, cluster, FLEET)
    assert target.service == "chat-70b"
    assert "did not answer" in target.unresolved


def test_an_alert_about_nothing_of_ours_says_which_labels_were_looked_at(cluster):
    target = resolve({"alertname": "DiskFull", "instance": "db-3:9100"}, cluster, FLEET)
    assert "instance=db-3:9100" in target.unresolved


@pytest.mark.parametrize("name", ["../../nodes", 'x"}', "A" * 300, ""])
def test_foreign_names_never_reach_the_api_server(name):
    class Tripwire(FakeCluster):
        def pod(self, namespace, name):
            raise AssertionError(name)

        node = pod

    resolve({"namespace": "llm", "pod": name, "node": name}, Tripwire(), FLEET)
