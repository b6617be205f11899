"""Drains on the real engine and a real control plane, killed with -9 in their middle. The audit log counts."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.incidents.incident import Incident, Target
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.store import SqlStore
from bot.remediation.approve import Approve
from bot.remediation.proposal import Applied, Proposal, ProposalState
from bot.remediation.propose import Propose
from bot.remediation.world import World
from sandbox.controlplane import bot_account
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from tests.fixtures_store import an_incident
from tests.remediation.drain_child import world
from tests.remediation.stage import ALICE, FakeEngine

ROOT = Path(__file__).parents[2]
NODE = "gpu-01"


class Leaders:
    """The bot's leader as a process of its own: one at a time, killed and followed by the next."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None and self.process.poll() is None, f"it died by itself: {self.tail()}"
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        return self._log.read_text()[-3000:]


class Here:
    def __init__(self, plane: ControlPlane, cluster: Cluster, namespace: str, token_file: Path, folder: Path) -> None:
        self.plane, self.cluster, self.namespace = plane, cluster, namespace
        url = f"sqlite:///{folder}/oncall.sqlite"
        self.store = SqlStore.open(url)
        http = KubernetesHttp(plane.url, token_file=token_file, ca_file=plane.ca, timeout_seconds=10)
        # This one takes in, as any replica does: it never leads, so what it sent would be refused.
        self.world: World = world(self.store, http, namespace, FakeEngine(), minimum=2, leads=threading.Event())
        command = [sys.executable, "-m", "tests.remediation.drain_child", url, plane.url, str(token_file)]
        self.leaders = Leaders([*command, str(plane.ca), namespace], folder / "leaders.log")
        with self.store.write() as tx:
            target = Target("chat-70b", self.world.fleet.services[0].workloads[0], node=NODE)
            tx.save_incident(an_incident(target=target))

    def two_on_the_node(self, *, budget: int) -> None:
        """Three replicas of 4 GPUs, two of them on NODE; each takes a second to end and one to start."""
        others = [n["metadata"]["name"] for n in self.cluster.nodes() if n["metadata"]["name"] != NODE]
        for name in others:
            self.cluster.set_schedulable(name, False)
        manifests = VllmDeployment(self.namespace, "chat-70b", 2, 4, minimum_available=budget).manifests()
        times = {"vllm-oncall.sandbox/termination": "1s", "vllm-oncall.sandbox/cold-start": "1s"}
        manifests[0]["spec"]["template"]["metadata"]["annotations"] = times
        for manifest in manifests:
            self.plane.api.apply(manifest)
        self.cluster.wait_until_rolled_out(self.namespace, "chat-70b")
        for name in others:
            self.cluster.set_schedulable(name, True)
        self.cluster.scale(self.namespace, "chat-70b", 3)
        self.cluster.wait_until_rolled_out(self.namespace, "chat-70b")

    def approved(self) -> Proposal:
        incident = self._incident()
        now = self.world.clock()
        proposal = Propose(self.world).by_hand(incident, "drain_node", {}, ALICE, now)
        decision = Approve(self.world).submitted(proposal.id, ALICE, {}, now)
        assert decision.starts, decision.text
        return proposal

    def _incident(self) -> Incident:
        with self.store.read() as tx:
            found = tx.incident(1)
        assert found is not None
        return found

    def proposal(self, id: str) -> Proposal:
        with self.store.read() as tx:
            found = tx.proposal(id)
        assert found is not None
        return found

    def ended(self, id: str, seconds: float = 60) -> Proposal:
        done = (ProposalState.ENDED, ProposalState.FAILED, ProposalState.INTERRUPTED, ProposalState.REFUSED)
        self.until(lambda: self.proposal(id).state in done, seconds)
        return self.proposal(id)

    def until(self, true: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not there after {seconds} s; the leaders said: {self.leaders.tail()}"
            time.sleep(0.02)

    def on_node(self) -> list[str]:
        pods = self.cluster.pods(self.namespace, "chat-70b")
        return sorted(pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == NODE)

    def asked(self) -> list[tuple[str, str, int]]:
        """What the bot has really asked to be changed: subresource or resource, name, answer."""
        return [
            (entry.subresource or entry.resource, entry.name, entry.code)
            for entry in self.plane.audit(bot_account.USER)
            if entry.verb in ("create", "patch", "delete") and "dryRun" not in entry.uri
            if entry.namespace == self.namespace or (entry.resource, entry.name) == ("nodes", NODE)
        ][self.skip :]

    skip = 0

    def evicted(self) -> list[str]:
        return [name for what, name, code in self.asked() if (what, code) == ("eviction", 201)]


@pytest.fixture
def here(
    control_plane: ControlPlane, cluster: Cluster, bot_namespace: str, bot_token_file: Path, tmp_path: Path
) -> Iterator[Here]:
    made = Here(control_plane, cluster, bot_namespace, bot_token_file, tmp_path)
    made.skip = len(made.asked())
    yield made
    if made.leaders.process is not None and made.leaders.process.poll() is None:
        made.leaders.process.kill()
        made.leaders.process.wait()
    made.store.close()
    for node in cluster.nodes():
        cluster.set_schedulable(node["metadata"]["name"], True)


def test_a_leader_that_is_killed_after_the_first_eviction_is_followed_by_one_that_goes_on(here: Here) -> None:
    here.two_on_the_node(budget=2)
    tenants = here.on_node()
    proposal = here.approved()
    here.leaders.start()
    here.until(here.evicted)
    here.leaders.kill()
    assert here.proposal(proposal.id).state is ProposalState.RUNNING
    here.leaders.start()
    ended = here.ended(proposal.id)
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.YES), ended.outcome
    assert sorted(here.evicted()) == tenants  # nobody twice
    assert [name for what, name, _ in here.asked() if what == "nodes"] == [NODE]  # cordoned once
    assert here.on_node() == []


def test_leaders_that_are_killed_at_any_moment_end_the_drain_right(here: Here) -> None:
    here.two_on_the_node(budget=2)
    tenants = here.on_node()
    proposal = here.approved()
    seed = random.randrange(10_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(6):
        here.leaders.start()
        here.until(lambda: here.proposal(proposal.id).state is not ProposalState.APPROVED)
        time.sleep(chance.uniform(0.5, 3.0))  # the next process needs a second or two to lead
        if here.proposal(proposal.id).state is ProposalState.ENDED:
            break
        here.leaders.kill()
    else:
        here.leaders.start()
    ended = here.ended(proposal.id)
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.YES), f"seed {seed}: {ended.outcome}"
    assert sorted(here.evicted()) == tenants, f"seed {seed}"
    assert here.on_node() == []


def test_a_drain_that_is_blocked_until_its_deadline_ends_partly_and_offers_the_way_back(here: Here) -> None:
    here.two_on_the_node(budget=2)
    proposal = here.approved()
    here.leaders.start()
    here.until(here.evicted)
    # Somebody wants one more from now on; the replacement comes, and the second one may not go.
    path = f"/apis/policy/v1/namespaces/{here.namespace}/poddisruptionbudgets/chat-70b"
    here.plane.api.patch(path, {"spec": {"minAvailable": 3}})
    ended = here.ended(proposal.id, seconds=90)
    (left,) = here.on_node()
    assert (ended.state, ended.applied) == (ProposalState.ENDED, Applied.PARTLY)
    words = "The disruption budget chat-70b needs 3 healthy pods and has 3 currently"
    assert f"1 of 2 pods gone; {left} waits: {words}" in str(ended.outcome)
    assert here.plane.api.get(f"/api/v1/nodes/{NODE}")["spec"]["unschedulable"] is True
    assert len(here.evicted()) == 1
    undo = Propose(here.world).undo(ended.id, ALICE, here.world.clock())
    assert (undo.action, undo.objections) == ("uncordon_node", ())
    assert Approve(here.world).submitted(undo.id, ALICE, {}, here.world.clock()).starts
    assert here.ended(undo.id).outcome == f"undone: {NODE} takes new pods again"
    assert "unschedulable" not in here.plane.api.get(f"/api/v1/nodes/{NODE}")["spec"]
