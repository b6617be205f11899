import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.agent import Agent
from bot.gpu_readings import EventPage, Gpu, GpuEvent, GpuNode
from bot.outbound.gpu_agents import LABELS, GpuAgents
from bot.outbound.kernel_log import KernelLine
from bot.ports import Gpus, Pod, SourceError
from bot.settings import AgentSettings
from sandbox.addresses import free_port
from sandbox.gpu_agent.nvml import FakeGpu, FakeNvml
from tests.fakes import FakeCluster, FakeGpus
from tests.outbound.servers import Asked, Hangup, Says, Silence, server

AT = datetime(2026, 11, 25, 2, 7, tzinfo=UTC)
XID = "NVRM: Xid (PCI:0000:00:06): 31, pid=440, name=python3, MMU Fault"
NAMESPACE = "vllm-oncall-agent"


@contextmanager
def agent(folder: Path) -> Iterator[Agent]:
    settings = AgentSettings(
        token="secret",
        node="gpu-01",
        host="127.0.0.1",
        port=0,
        history=folder / "events.jsonl",
        pod_resources=None,
        kmsg=folder / "no-kmsg",
    )
    running = Agent(settings, nvml=FakeNvml(FakeGpu("GPU-a")))
    running.start()
    try:
        yield running
    finally:
        running.stop()


def agents(hosts: dict[str, str] | None = None, *, cluster: FakeCluster | None = None, **more) -> GpuAgents:
    given = {"token": "secret", "namespace": NAMESPACE, "port": 9477, "timeout_seconds": 2.0, **more}
    return GpuAgents(cluster or FakeCluster(), hosts=hosts, **given)


def agent_pod(cluster: FakeCluster, *, node: str = "gpu-01", ip: str = "127.0.0.1", **changed) -> Pod:
    like = cluster.add_pod(cluster.add_workload(namespace=NAMESPACE, name="agent", replicas=0), node=node)
    cluster.pods.remove(like)
    pod = replace(like, labels={**LABELS}, ip=ip, **changed)
    cluster.pods.append(pod)
    return pod


# ---------------------------------------------------------------------------------------------- the contract


@pytest.fixture(params=["fake", "real"])
def gpus(request, tmp_path) -> Iterator[Gpus]:
    if request.param == "fake":
        event = GpuEvent("fake-1", 1, AT, AT, xid=31, gpu_uuid="GPU-a", pid=440)
        yield FakeGpus({"gpu-01": GpuNode("gpu-01", AT, gpus=(Gpu(0, uuid="GPU-a"),))}, {"gpu-01": (event,)})
        return
    with agent(tmp_path) as running:
        running._kernel_line(KernelLine(XID, 88_000_000, AT, live=True))
        yield agents({"gpu-01": f"127.0.0.1:{running.port}"})


def test_a_node_tells_its_gpus(gpus):
    node = gpus.snapshot("gpu-01")
    assert (node.node, [(gpu.uuid, gpu.state) for gpu in node.gpus]) == ("gpu-01", [("GPU-a", "ok")])


def test_a_node_tells_what_happened(gpus):
    page = gpus.events("gpu-01")
    assert [(event.seq, event.xid, event.pid) for event in page.events] == [(1, 31, 440)]
    assert page.last_seq == 1
    assert gpus.events("gpu-01", after=1, ring=page.ring).events == ()
    assert gpus.events("gpu-01", after=1, ring="another").events == page.events


def test_a_node_without_an_agent_is_an_error_that_names_it(gpus):
    with pytest.raises(SourceError, match="runs on no node gpu-99"):
        gpus.snapshot("gpu-99")
    with pytest.raises(SourceError, match="runs on no node gpu-99"):
        gpus.events("gpu-99")


# ---------------------------------------------------------------------------------------------- the real one alone


def test_all_readings_arrive_as_they_were_taken(tmp_path):
    with agent(tmp_path) as running:
        told = agents({"gpu-01": f"127.0.0.1:{running.port}"}).snapshot("gpu-01")
        own = running.snapshot()
    assert told.booted_at is not None and own.booted_at is not None
    assert abs(told.booted_at - own.booted_at) < timedelta(seconds=1)  # reckoned anew from two clocks each time
    own = replace(own, at=told.at, sweep_seconds=told.sweep_seconds, booted_at=told.booted_at)
    assert told == own


def test_agents_are_found_by_label_and_node(tmp_path):
    cluster = FakeCluster()
    agent_pod(cluster)
    with agent(tmp_path) as running:
        found = agents(cluster=cluster, port=running.port)
        assert found.nodes() == ("gpu-01",)
        assert found.snapshot("gpu-01").gpus


def test_a_pod_of_another_namespace_is_not_given_the_token():
    cluster = FakeCluster()
    with server(lambda _: Says(b"{}")) as thief:
        agent_pod(cluster, namespace="somebody")
        with pytest.raises(SourceError, match="runs on no node"):
            agents(cluster=cluster, port=int(thief.url.rpartition(":")[2])).snapshot("gpu-01")
        assert thief.asked == []


@pytest.mark.parametrize("changed", [{"phase": "Pending"}, {"deleted_at": AT}])
def test_a_pod_that_does_not_serve_is_not_asked(changed):
    cluster = FakeCluster()
    agent_pod(cluster, **changed)
    assert agents(cluster=cluster).nodes() == ()


def test_a_replaced_agent_is_found_at_its_new_address(tmp_path):
    cluster = FakeCluster()
    old = agent_pod(cluster, ip="127.0.0.9")
    with agent(tmp_path) as running:
        found = agents(cluster=cluster, port=running.port)
        assert found.nodes() == ("gpu-01",)
        cluster.pods.remove(old)
        agent_pod(cluster)
        assert found.snapshot("gpu-01").gpus


def test_known_agents_are_asked_while_the_api_server_is_down(tmp_path, monkeypatch):
    cluster = FakeCluster()
    agent_pod(cluster)
    with agent(tmp_path) as running:
        found = agents(cluster=cluster, port=running.port)
        found.nodes()
        found._forget()
        cluster.down = SourceError("Kubernetes", "did not answer")
        assert found.snapshot("gpu-01").gpus


def test_without_a_token_nobody_is_asked():
    with server(lambda _: Says(b"{}")) as there, pytest.raises(SourceError, match="VLLM_ONCALL_AGENT__TOKEN"):
        agents({"gpu-01": there.url.removeprefix("http://")}, token=None).snapshot("gpu-01")
    assert there.asked == []


def failing(answer) -> SourceError:
    with server(answer) as there, pytest.raises(SourceError) as caught:
        agents({"gpu-01": there.url.removeprefix("http://")}, timeout_seconds=0.5).snapshot("gpu-01")
    return caught.value


def test_a_wrong_token_is_said_with_the_two_places_where_it_is_set():
    error = failing(lambda _: Says({"detail": "Wrong or missing bearer token."}, 401))
    assert error.why == "the one on gpu-01 refused our token (401)"
    assert "VLLM_ONCALL_AGENT__TOKEN" in error.hint and "namespace vllm-oncall-agent" in error.hint


def test_an_answer_of_another_form_is_said():
    error = failing(lambda _: Says({"hello": "world"}))
    assert "in a form this bot does not know" in error.why
    assert "same version" in error.hint


def test_what_a_newer_agent_adds_does_not_disturb():
    def newer(_: Asked) -> Says:
        return Says({"node": "gpu-01", "at": AT.isoformat(), "gpus": [{"index": 0, "new": 1}], "more": {"x": 1}})

    with server(newer) as there:
        node = agents({"gpu-01": there.url.removeprefix("http://")}).snapshot("gpu-01")
    assert node.gpus == (Gpu(0),)


@pytest.mark.parametrize("answer", [Silence(), Hangup()])
def test_silence_is_an_error_in_time(answer):
    began = time.monotonic()
    assert failing(lambda _: answer).source == "GPU agent"
    assert time.monotonic() - began < 3


def test_nobody_listening_is_an_error():
    with pytest.raises(SourceError, match="cannot be reached"):
        agents({"gpu-01": f"127.0.0.1:{free_port()}"}).snapshot("gpu-01")


def test_a_wait_may_take_longer_than_an_answer():
    def later(asked: Asked) -> Says:
        time.sleep(1)
        return Says({"ring": "r", "last_seq": 3, "events": []})

    with server(later) as there:
        page = agents({"gpu-01": there.url.removeprefix("http://")}, timeout_seconds=0.5).events(
            "gpu-01", after=3, ring="r", wait_seconds=2
        )
    assert page == EventPage("r", 3)
    assert there.asked[0].query == {"after": "3", "wait": "2", "ring": "r"}
