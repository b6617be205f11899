from dataclasses import replace
from datetime import timedelta

import pytest

from bot.incidents.past import as_of
from bot.ports import Answer, ConfigMap, ConfigMount, Sample, SourceError
from bot.probes.served import pods_of, room_for, selector_of, service_of, serving_pods, why_silent
from tests.fakes import NOT_ANSWERING, NOW, FakeMetrics, container
from tests.probes.fleets import fleet_of, world


def selector(sources):
    return selector_of(sources, service_of(sources, "chat"))


def test_a_service_that_is_not_declared_is_named():
    sources, _, _ = world()
    with pytest.raises(SourceError, match=r"no service 'chta'.*It has: chat"):
        service_of(sources, "chta")


def test_pods_are_selected_by_their_replica_sets_of_all_revisions():
    sources, cluster, ref = world()
    cluster.add_revision(ref)
    names = [revision.replica_set for revision in cluster.history[ref]]
    assert len(names) == 2
    assert selector(sources) == f'namespace="llm",pod=~"{"|".join(sorted(f"{n}-[a-z0-9]{{5}}" for n in names))}"'


def test_a_canary_is_a_workload_of_its_own():
    sources, cluster, ref = world()
    canary = cluster.add_workload(name="chat-canary", replicas=1)
    alone, both = selector(sources), selector(replace(sources, fleet=fleet_of(ref, canary)))
    assert cluster.history[canary][0].replica_set not in alone
    assert cluster.history[canary][0].replica_set in both


def test_a_stateful_set_is_selected_by_its_ordinals():
    sources, _, _ = world(kind="StatefulSet")
    assert selector(sources) == 'namespace="llm",pod=~"chat-[0-9]+"'


def test_without_the_api_server_pods_are_told_by_the_form_of_their_names():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    assert 'pod=~"chat-[bcdfghjklmnpqrstvwxz2456789]{1,10}-' in selector(sources)


def test_and_so_they_are_for_the_past():
    sources, _, _ = world()
    assert 'pod=~"chat-[bcdfgh' in selector(as_of(NOW, sources))


def test_why_there_are_no_metrics():
    def told(**answers):
        return why_silent(FakeMetrics(answers), 'pod="a"')

    down, up = (Answer((Sample({"pod": "a"}, value, NOW),)) for value in (0, 1))
    renamed = Answer((Sample({"__name__": "kserve_vllm:num_requests_running"}, 3, NOW),))
    assert told() == "Prometheus scrapes none of its pods"
    assert told(**{"up{": down}) == "Prometheus cannot scrape its 1 pods (up is 0)"
    assert "kserve_vllm:num_requests_running is: was it renamed" in told(**{"up{": up, "__name__": renamed})
    assert "--disable-log-stats" in told(**{"up{": up})


def test_pods_on_their_way_out_do_not_serve():
    sources, cluster, _ = world()
    cluster.pods[0] = replace(cluster.pods[0], deleted_at=NOW)
    cluster.pods[1] = replace(cluster.pods[1], phase="Failed")
    assert len(pods_of(sources, service_of(sources, "chat"))) == 1


def test_what_a_pod_runs_with_follows_from_its_arguments_image_and_node():
    sources, _, _ = world(args=("org/model", "--gpu-memory-utilization=0.8"))
    first, *_ = serving_pods(sources, service_of(sources, "chat"))
    assert first.arguments.model == "org/model"
    assert first.effective.max_num_seqs == 1024  # an H100's default
    assert first.effective.gpu_memory_utilization == 0.8
    assert first.version == (0, 32)


def test_its_address_is_the_engines_port_not_the_sidecars():
    sources, cluster, ref = world()
    proxy = container("proxy", image="proxy:1", ports={"http": 8000}, gpus=0)
    engine = container("vllm", args=("m", "--port", "8200"), ports={"metrics": 8200})
    pod = cluster.add_pod(ref, containers=[proxy, engine])
    last = serving_pods(sources, service_of(sources, "chat"))[-1]
    assert last.address == f"{pod.ip}:8200"


def test_a_pod_without_an_engine_is_left_out():
    sources, cluster, ref = world(replicas=0)
    cluster.add_pod(ref, containers=[container("web", image="nginx:1", gpus=0)])
    assert serving_pods(sources, service_of(sources, "chat")) == ()


def test_room_is_unknown_where_no_gpus_are_asked_for():
    sources, _, _ = world()  # the fake's template asks for none
    assert room_for(sources, service_of(sources, "chat")) is None


# ------------------------------------------------------------------------------------------- a --config file


def with_options(data=None, *, minutes_before_start=5, mounted=True):
    """One replica, which has its options from a ConfigMap; `data` None: the bot may not read it."""
    sources, cluster, _ = world(args=("org/model", "--config", "/etc/vllm/serve.yaml"), replicas=1)
    serving = cluster.pods[0].containers[0]
    mounts = (ConfigMount("/etc/vllm", "options"),) if mounted else ()
    cluster.pods[0] = replace(cluster.pods[0], containers=(replace(serving, config_mounts=mounts),))
    if data is not None:
        changed = serving.state.at - timedelta(minutes=minutes_before_start)
        cluster.config_maps = {("llm", "options"): ConfigMap(data, changed)}
    (pod,) = serving_pods(sources, service_of(sources, "chat"))
    return pod


def test_a_config_file_from_a_config_map_is_read():
    pod = with_options({"serve.yaml": "max-num-seqs: 48"})
    assert (pod.effective.max_num_seqs, pod.arguments.hidden) == (48, None)
    assert pod.effective.chunked_prefill is True  # the default holds, as all is seen


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "may not get configmaps"),
        ({"data": {"other.yaml": ""}}, "has no serve.yaml"),
        ({"data": {"serve.yaml": "max-num-seqs: 48"}, "minutes_before_start": -5}, "may have changed since"),
        ({"data": {"serve.yaml": "- max-num-seqs"}}, "no list of options"),
        ({"data": {"serve.yaml": "max-num-seqs: 48"}, "mounted": False}, "a --config file holds more options"),
    ],
)
def test_a_config_file_that_cannot_be_read_for_sure_stays_hidden(options, why):
    pod = with_options(**options)
    assert pod.effective.max_num_seqs is None and pod.effective.chunked_prefill is None
    assert pod.arguments.hidden.startswith("a --config file holds more options") and why in pod.arguments.hidden
