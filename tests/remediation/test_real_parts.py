"""Executions on the real engine, both databases and a real control plane; only Prometheus and Slack are played."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bot.fleet import WorkloadRef
from bot.incidents.incident import SignalReading, Target
from bot.outbound.engine import DbosEngine
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.outbound.store import SqlStore
from bot.ports import Change, Controls
from bot.remediation.due import Remediation
from bot.remediation.execute import KIND, Execution
from bot.remediation.proposal import Applied, Helped, Proposal, ProposalState
from bot.remediation.world import Rules
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from tests.fakes import FakeAlerts, fake_sources
from tests.remediation.stage import ALICE, Stage, finding, fleet
from tests.remediation.stage import MORE as SCALE_UP


class RealStage(Stage):
    """chat-70b, three replicas of 8 GPUs each on the four nodes: there is room for one more."""

    def __init__(self, store: SqlStore, reader: KubernetesReader, writer: KubernetesWriter, ref: WorkloadRef) -> None:
        super().__init__(store)
        self.reader, self.ref = reader, ref
        self.window_seconds = 1.0
        self.fleet = fleet(ref)
        self.real_engine = DbosEngine(store, lambda: None, slots=5)
        self.world = replace(
            self.world,
            fleet=self.fleet,
            sources=lambda now: fake_sources(  # type: ignore[arg-type]
                cluster=reader, metrics=self.metrics, fleet=self.fleet, now=now, window_seconds=self.window_seconds
            ),
            controls=Controls(writer, FakeAlerts()),
            engine=self.real_engine,
            clock=lambda: datetime.now(UTC),
            rules=Rules(poll_seconds=0.1, settle_seconds=3),
        )
        with store.write() as tx:
            tx.save_incident(replace(self.incident(), target=Target("chat-70b", ref)))
        self.remediation = Remediation(self.world)
        self.real_engine.register(KIND, Execution(self.world).run)
        self.real_engine.launch()
        self._stopping = threading.Event()
        self._loop = threading.Thread(target=self._lead, daemon=True)
        self._loop.start()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @now.setter
    def now(self, at: datetime) -> None:
        """Real time is not set."""

    def signal(self) -> SignalReading:
        workload = self.reader.workload(self.ref)
        assert workload is not None
        low, high = (0.25, 0.5) if workload.ready >= 4 else (2.5, 5.0)
        return SignalReading("TTFT P99", "seconds", 1.0, "above", (low + high) / 2, low, high, 10.0)

    def _lead(self) -> None:
        while not self._stopping.wait(0.05):
            self.remediation.step(self.now)
            self.end_rounds()

    def close(self) -> None:
        self._stopping.set()
        self._loop.join(10)
        self.real_engine.stop(1)

    def ended(self, id: str, *states: ProposalState) -> Proposal:
        return self.until(lambda p: p.state in (states or (ProposalState.ENDED,)), id)

    def until(self, true: Callable[[Proposal], object], id: str, seconds: float = 40) -> Proposal:
        deadline = time.monotonic() + seconds
        while not true(found := self.proposal(id)):
            assert time.monotonic() < deadline, f"after {seconds} s it is {found}"
            time.sleep(0.05)
        return found


@pytest.fixture
def real(
    control_plane: ControlPlane, cluster: Cluster, bot_namespace: str, bot_token_file: Path, store: SqlStore
) -> Iterator[RealStage]:
    cluster.deploy(VllmDeployment(bot_namespace, replicas=3, gpus=8, cold_start_seconds=0.1, minimum_available=0))
    cluster.wait_until_rolled_out(bot_namespace, "chat-70b")
    http = KubernetesHttp(control_plane.url, token_file=bot_token_file, ca_file=control_plane.ca, timeout_seconds=10)
    writer = KubernetesWriter(http, still_leader=lambda: True)
    stage = RealStage(store, KubernetesReader(http), writer, WorkloadRef(namespace=bot_namespace, name="chat-70b"))
    yield stage
    stage.close()


def desired(cluster: Cluster, real: RealStage) -> int:
    return int(cluster.deployment(real.ref.namespace, "chat-70b")["spec"]["replicas"])


def test_a_scale_is_done_helps_and_is_undone(real: RealStage, cluster: Cluster) -> None:
    (proposal,) = real.suggested(finding(SCALE_UP))
    assert proposal.objections == ()
    assert real.press(proposal).starts
    ended = real.ended(proposal.id)
    assert (ended.applied, ended.helped) == (Applied.YES, Helped.YES), ended
    assert desired(cluster, real) == 4
    undo = real.review(ended.id, click="undo")
    assert real.press(undo.token).starts
    assert real.ended(undo.token).outcome == "undone: 3 of 3 ready"
    assert desired(cluster, real) == 3


@pytest.fixture
def gpus_vanish(real: RealStage, cluster: Cluster) -> Iterator[None]:
    """The last node with room is cordoned between the last look and the change."""
    node = next(name for name, free in cluster.free_gpus().items() if free == 8)
    scale = real.world.controls.cluster.scale

    def too_late(*args: Any, dry_run: bool = False, **named: Any) -> Change:
        if not dry_run:
            cluster.set_schedulable(node, False)
        return scale(*args, dry_run=dry_run, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(real.world.controls.cluster, "scale", too_late)
        yield
    cluster.set_schedulable(node, True)


@pytest.mark.usefixtures("gpus_vanish")
def test_gpus_that_vanish_after_the_approval_end_in_applied_partly_and_name_the_pod(real: RealStage) -> None:
    (proposal,) = real.suggested(finding(SCALE_UP))
    assert real.press(proposal).starts
    ended = real.ended(proposal.id)
    assert (ended.applied, ended.helped) == (Applied.PARTLY, Helped.NO)
    (pending,) = [p.name for p in real.reader.pods_of(real.ref) if p.node is None]
    assert f"3 of 4 ready; {pending} is Pending: 0/4 nodes are available" in str(ended.outcome)
    assert real.review(ended.id, click="undo").submit == "Scale 4 → 3"


@pytest.mark.usefixtures("gpus_vanish")
def test_a_change_that_stands_still_is_aborted_and_rolled_back_in_one_review(real: RealStage, cluster: Cluster) -> None:
    real.window_seconds = 30.0  # so long it is waited for: the people come before its end
    (proposal,) = real.suggested(finding(SCALE_UP))
    assert real.press(proposal).starts
    real.until(lambda p: p.progress and "is Pending" in p.progress, proposal.id)
    abort = real.review(proposal.id, click="abort")
    assert abort.submit == "Scale 4 → 3"
    assert real.press(abort.token).starts
    ended = real.ended(proposal.id)
    assert (ended.applied, ended.outcome) == (Applied.NO, f"aborted by <@{ALICE}> and rolled back: 3 of 3 ready")
    assert real.ended(abort.token).applied is Applied.YES
    assert desired(cluster, real) == 3


def test_a_review_objects_where_there_is_no_room(real: RealStage, cluster: Cluster) -> None:
    node = next(name for name, free in cluster.free_gpus().items() if free == 8)
    cluster.set_schedulable(node, False)
    try:
        (proposal,) = real.suggested(finding(SCALE_UP))
        assert "no free GPUs for 1 replica more" in proposal.objections[0]
        assert real.review(proposal.id, ALICE).submit is None
        assert "no free GPUs" in real.press(proposal).text
    finally:
        cluster.set_schedulable(node, True)
    assert real.press(proposal).starts  # the room is back
    assert real.ended(proposal.id).applied is Applied.YES
