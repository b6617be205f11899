from pathlib import Path

import pytest

from bot.announce.announcer import Backlog
from bot.commands import status
from bot.commands.words import UsageError
from bot.gpu_readings import GpuNode
from bot.incidents.incident import Target
from bot.ports import SourceError
from bot.runbook.loading import Mistake
from tests import stories as s
from tests.fakes import FakeGpus, fake_sources


def test_quiet_times(bench):
    shown = s.said(status.run([], bench.context()))
    assert "No open incident" in shown
    assert "chat-70b · 3 of 3 ready" in shown and "code-7b · 2 of 2 ready" in shown
    assert "Blind" not in shown


def test_a_service_in_trouble_shows_its_incident_and_its_change(bench):
    bench.opened(s.incident(), rounds=(s.round_of(),))
    with bench.store.write() as tx:
        for state in (s.proposal(), s.proposal(state=s.ProposalState.APPROVED), s.RUNNING):
            tx.save_proposal(state)
    report = status.run([], bench.context())
    shown = s.said(report)
    assert report.text == "1 of 2 services in trouble"
    assert "!! chat-70b" in shown and "inc-142 since 2026-11-24 02:07: Under-provisioned" in shown
    assert "scale 3 → 4: 3 of 4 ready" in shown


def test_one_service_alone(bench):
    shown = s.said(status.run(["code-7b"], bench.context()))
    assert "code-7b" in shown and "chat-70b" not in shown
    with pytest.raises(UsageError, match="did you mean code-7b"):
        status.run(["code-7"], bench.context())


def test_an_incident_without_a_service_is_not_forgotten(bench):
    bench.opened(s.incident(target=Target(unresolved="?"), runbook=None))
    assert "Without a service" in s.said(status.run([], bench.context()))


def test_where_it_is_blind_is_said_and_absence_of_data_is_never_fine(bench):
    bench.cluster.down = SourceError("Kubernetes", "did not answer within 10 s")
    bench.metrics.down = SourceError("Prometheus", "did not answer within 10 s")
    backlog = Backlog(cards=2, threads=3, trouble="Slack: cannot be reached")
    report = status.run([], bench.context(backlog=lambda: backlog))
    shown = s.said(report)
    assert "replicas not known" in shown
    assert "Kubernetes: did not answer" in shown and "Prometheus: did not answer" in shown
    assert "Slack: cannot be reached (5 messages wait)" in shown
    assert "blind: Kubernetes" in report.text


def test_a_prometheus_without_vllm_metrics_is_blind_too(bench):
    bench.metrics.answers = {}
    assert "has no vLLM metrics" in s.said(status.run([], bench.context()))


def test_a_workload_that_does_not_exist_is_said(bench):
    bench.cluster.workloads.clear()
    assert "llm/Deployment/chat-70b does not exist" in s.said(status.run([], bench.context()))


def test_frozen_changes_are_said(bench):
    with bench.store.write() as tx:
        tx.freeze(s.BOB, "release weekend", s.at(0))
    assert "Changes are frozen" in s.said(status.run([], bench.context()))


def test_what_is_seen_of_the_replicas_is_counted(bench):
    shown = s.said(status.run(["chat-70b"], bench.context()))
    assert "Metrics of 1 replica in Prometheus" in shown


def test_agents_that_are_not_asked_or_silent_are_said(bench):
    assert "GPU agents are not asked" in s.said(status.run([], bench.context()))
    agents = FakeGpus({})

    def sources(at):
        return fake_sources(cluster=bench.cluster, metrics=bench.metrics, fleet=s.FLEET, now=at, gpus=agents)

    assert "gpu-01: GPU agent: runs on no node gpu-01" in s.said(status.run([], bench.context(sources=sources)))


def test_slacks_backlog_and_broken_runbooks_are_told(bench):
    broken = (Mistake(Path("/etc/runbooks/mine.yaml"), 4, 1, "x"),)
    shown = s.said(status.run([], bench.context(backlog=lambda: Backlog(threads=3), broken=broken)))
    assert "Slack lacks 3 messages" in shown and "Not used: /etc/runbooks/mine.yaml" in shown
    assert "Slack has everything" in s.said(status.run([], bench.context(backlog=Backlog)))


def test_nodes_that_are_blind_for_the_same_reason_are_said_together(bench):
    for number in (2, 3):
        bench.cluster.add_node(f"gpu-0{number}", gpus=8)
    agents = FakeGpus({"gpu-01": GpuNode("gpu-01", s.at(3), problem="the driver sees no GPU")})

    def sources(at):
        return fake_sources(cluster=bench.cluster, metrics=bench.metrics, fleet=s.FLEET, now=at, gpus=agents)

    shown = s.said(status.run([], bench.context(sources=sources)))
    assert "gpu-01: the driver sees no GPU" in shown
    assert "gpu-02, gpu-03: GPU agent: runs on none of them" in shown
