"""A small world around remediation: a real store on SQLite, a fake cluster whose controllers run when time passes,
and workflows that run in the test's own thread."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bot.fleet import Fleet, Role, Service, WorkloadRef
from bot.incidents.incident import Incident, Round, RoundReason, SignalReading, Target
from bot.incidents.judge import Finding, Verdict
from bot.outbound.store import SqlStore
from bot.ports import Json, SourceError, Sources
from bot.remediation.approve import Approve, Decision
from bot.remediation.due import Remediation
from bot.remediation.execute import Execution
from bot.remediation.proposal import Proposal, ProposalState
from bot.remediation.propose import Propose
from bot.remediation.review import Review
from bot.remediation.world import Rules, World
from bot.runbook.schema import Severity, Suggestion
from tests.fakes import FakeCluster, FakeMetrics, fake_controls, fake_sources
from tests.fixtures_store import NOW, an_incident

ALICE, BOB, MALLORY = "UALICE", "UBOB", "UMALLORY"
GPUS = 4
MORE = Suggestion(action="scale_workload", **{"with": {"add": 1}}, why="138 requests wait")
BACK = Suggestion(action="rollback_workload", why="it began with revision 2")


class Crash(BaseException):
    """kill -9: nothing of the process is left but what was committed."""


@dataclass
class Journal:
    """What the engine has of one workflow: checkpoints and messages. It survives crashes."""

    records: list[tuple[str, str]] = field(default_factory=list)  # operation, JSON
    messages: list[tuple[str, Json]] = field(default_factory=list)


class InlineWorkflow:
    """ports.Workflow with checkpoints, as the engine keeps them. `crash(when, index)` may raise Crash."""

    def __init__(self, stage: "Stage", journal: Journal, crash: Callable[[str, int], None] = lambda *_: None) -> None:
        self._stage = stage
        self._journal = journal
        self._crash = crash
        self._index = 0

    def step(self, name: str, work: Any, *args: Json) -> Json:
        if (known := self._known(f"step {name}")) is not None:
            return known[0]
        answer = work(*json.loads(json.dumps(args)))
        self._crash("after the effect, before its checkpoint", self._index)
        return self._keep(f"step {name}", answer)

    def transaction(self, name: str, work: Any, *args: Json) -> Json:
        if (known := self._known(f"transaction {name}")) is not None:
            return known[0]
        with self._stage.store.write() as tx:
            answer = work(tx, *json.loads(json.dumps(args)))
            self._crash("before the commit", self._index)
        # Its rows and its checkpoint are one commit.
        return self._keep(f"transaction {name}", answer)

    def wait(self, topic: str, seconds: float) -> Json | None:
        if (known := self._known(f"wait {topic}")) is not None:
            return known[0]
        found = next((m for m in self._journal.messages if m[0] == topic), None)
        if found is not None:
            self._journal.messages.remove(found)
            return self._keep(f"wait {topic}", found[1])
        self._stage.pass_time(seconds)
        return self._keep(f"wait {topic}", None)

    def _known(self, operation: str) -> tuple[Json] | None:
        self._index += 1
        if self._index > len(self._journal.records):
            self._crash("before it", self._index)
            return None
        recorded, answer = self._journal.records[self._index - 1]
        assert recorded == operation, f"the replay asks for {operation}, where {recorded} was recorded"
        return (json.loads(answer),)

    def _keep(self, operation: str, answer: Json) -> Json:
        self._journal.records.append((operation, json.dumps(answer)))
        self._crash("after its checkpoint", self._index)
        return json.loads(self._journal.records[-1][1])


@dataclass
class FakeEngine:
    started: list[str] = field(default_factory=list)
    journals: dict[str, Journal] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    _keys: set[str] = field(default_factory=set)

    def start(self, kind: str, row_id: str) -> None:
        assert kind == "execution"
        if row_id not in self.started:
            self.started.append(row_id)
            self.journals.setdefault(row_id, Journal())

    def send(self, kind: str, row_id: str, topic: str, message: Json, *, key: str) -> None:
        if key not in self._keys:
            self._keys.add(key)
            self.journals[row_id].messages.append((topic, message))

    def dead(self, kind: str, row_ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(i for i in row_ids if i in self.broken)


class Stage:
    """chat-70b, three replicas on two nodes of 8 GPUs, in trouble. Time passes only when somebody waits."""

    def __init__(self, store: SqlStore, **rules: Any) -> None:
        self.store = store
        self.now = NOW
        self.engine = FakeEngine()
        self.metrics = FakeMetrics()
        self.cluster = FakeCluster()
        for number in (1, 2):
            self.cluster.add_node(f"gpu-{number:02}", gpus=8)
        self.ref = self.cluster.add_workload(name="chat-70b", replicas=3, args=["--max-num-seqs=256"])
        self.cluster.pods[2] = replace(self.cluster.pods[2], node="gpu-02")
        self._prepare_workload()
        self.group: frozenset[str] | SourceError = frozenset({BOB})
        self.latency: Callable[[], tuple[float, float] | None] = lambda: (2.5, 5.0)
        self.traffic: float | None = 10.0
        self.on_time: list[Callable[[], None]] = [self.settle, self.end_rounds]
        self.fleet = fleet(self.ref)
        self.world = World(
            store=store,
            fleet=self.fleet,
            sources=self.sources,
            controls=fake_controls(cluster=self.cluster),
            members=self.members,
            engine=self.engine,
            signal=lambda incident, sources: self.signal(),
            clock=lambda: self.now,
            rules=Rules(**{"poll_seconds": 5, **rules}),
        )
        with store.write() as tx:
            tx.save_incident(an_incident(target=Target("chat-70b", self.ref), opened_at=NOW, began_at=NOW))

    # ------------------------------------------------------------------------------------------------ the world

    def _prepare_workload(self) -> None:
        there = self.cluster.workloads[self.ref]
        one = {**there.template["spec"]["containers"][0], "resources": {"limits": {"nvidia.com/gpu": str(GPUS)}}}
        template = {**there.template, "spec": {"containers": [one]}}
        self.change(template=template, max_surge=1, max_unavailable=0)
        history = self.cluster.history[self.ref]
        history[0] = replace(history[0], template=template)

    @property
    def workload(self) -> Any:
        return self.cluster.workloads[self.ref]

    def change(self, **fields: Any) -> None:
        """Somebody else's doing."""
        self.cluster.workloads[self.ref] = replace(self.cluster.workloads[self.ref], **fields)

    def bad_revision(self) -> None:
        before = self.workload.template
        one = {**before["spec"]["containers"][0], "args": ["--max-num-seqs=16"]}
        self.cluster.set_template(self.ref, before=before, after={**before, "spec": {"containers": [one]}}, cause="bad")
        self.settle()
        self.cluster.changes.clear()

    def settle(self) -> None:
        """The controllers run: as many replicas come up as there are GPUs for."""
        if self.workload.desired == self.workload.ready and self.workload.updated == self.workload.desired:
            return
        room = {node.name: node.gpus // GPUS for node in self.cluster.machines.values() if node.schedulable}
        hosts = [name for name, count in room.items() for _ in range(count)][: self.workload.desired]
        self.cluster.settle(self.ref, ready=len(hosts))
        for number, pod in enumerate(self.cluster.pods):
            words = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
            placed = number < len(hosts)
            self.cluster.pods[number] = (
                replace(pod, node=hosts[number])
                if placed
                else replace(pod, node=None, ready=False, phase="Pending", unschedulable=words)
            )

    def sources(self, now: datetime) -> Sources:
        return fake_sources(cluster=self.cluster, metrics=self.metrics, fleet=self.fleet, now=now, window_seconds=60)

    def members(self, group: str) -> frozenset[str]:
        if isinstance(self.group, SourceError):
            raise self.group
        return self.group

    def signal(self) -> SignalReading:
        edges = self.latency()
        if edges is None:
            return SignalReading("TTFT P99", "seconds", 1.0, "above", None, traffic=self.traffic)
        return SignalReading("TTFT P99", "seconds", 1.0, "above", sum(edges) / 2, *edges, self.traffic)

    def better_with(self, replicas: int) -> None:
        self.latency = lambda: (0.25, 0.5) if self.workload.ready >= replicas else (2.5, 5.0)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for happens in self.on_time:
            happens()

    def end_rounds(self) -> None:
        with self.store.write() as tx:
            for due in tx.due_rounds(self.now):
                tx.save_round(replace(due, started_at=self.now, ended_at=self.now, signal=self.signal()))

    # ------------------------------------------------------------------------------------------------ what people do

    def round(self, *findings: Finding, number: int = 1, **fields: Any) -> Round:
        made = Round(1, number, "high_latency", RoundReason.START, self.now, self.now, self.now, findings=findings)
        return replace(made, **fields)

    def suggested(self, *findings: Finding, **fields: Any) -> list[Proposal]:
        """A round with these findings ends. The proposals that are pending then."""
        round = self.round(*findings, **fields)
        write = Propose(self.world).prepare(self.incident(), round)
        with self.store.write() as tx:
            write(tx)
        return [p for p in self.proposals() if p.state is ProposalState.PENDING]

    def scale_up(self) -> Proposal:
        (proposal,) = self.suggested(finding(MORE))
        return proposal

    def press(self, proposal: Proposal | str, user: str = ALICE, **inputs: str) -> Decision:
        id = proposal if isinstance(proposal, str) else proposal.id
        return Approve(self.world).submitted(id, user, inputs, self.now)

    def review(self, subject: str, user: str = ALICE, click: str = "review") -> Any:
        return Review(self.world, Propose(self.world)).contract(click, subject, user, self.now)

    def run(self, proposal: Proposal | str, crash: Callable[[str, int], None] = lambda *_: None) -> Proposal:
        """The leader's loop begins it, and its workflow runs to its end."""
        id = proposal if isinstance(proposal, str) else proposal.id
        Remediation(self.world).step(self.now)
        self.work(id, crash)
        return self.proposal(id)

    def work(self, id: str, crash: Callable[[str, int], None] = lambda *_: None) -> None:
        journal = self.engine.journals.get(id)
        assert journal is not None, f"the engine was never asked to run {id}"
        Execution(self.world).run(InlineWorkflow(self, journal, crash), id)

    # ------------------------------------------------------------------------------------------------ what there is

    def incident(self) -> Incident:
        with self.store.read() as tx:
            found = tx.incident(1)
        assert found is not None
        return found

    def proposal(self, id: str) -> Proposal:
        with self.store.read() as tx:
            found = tx.proposal(id)
        assert found is not None
        return found

    def proposals(self) -> Sequence[Proposal]:
        with self.store.read() as tx:
            return tx.proposals_of(1)

    def manuals(self) -> Sequence[Any]:
        with self.store.read() as tx:
            return tx.manuals_of(1)

    def rounds(self) -> Sequence[Round]:
        with self.store.read() as tx:
            return tx.rounds_of(1)

    def said(self) -> Mapping[str, str]:
        """The thread's messages that remediation wrote itself: key to text."""
        with self.store.write() as tx:  # those of an incident whose card is there
            tx.show(1)
            tx.card_shown(1, "17.01", "digest", tx.card_mark(1))
        told: dict[str, str] = {}
        while True:
            with self.store.write() as tx:
                waiting = tx.waiting_messages(50)
                for one in waiting:
                    told[one.message.key] = one.message.report.text
                    tx.message_posted(one.id, "17.02")
            if not waiting:
                return told

    def audited(self) -> list[str]:
        with self.store.read() as tx:
            return [link.entry.action for link in tx.audit_chain()]


def finding(*suggest: Suggestion, rule: str = "under_provisioned", **fields: Any) -> Finding:
    made = Finding(rule, Verdict.CONFIRMED, Severity.CRITICAL, "Under-provisioned", "138 wait", suggest=suggest)
    return replace(made, **fields)


def fleet(ref: WorkloadRef, **changes: Any) -> Fleet:
    service = Service(
        name="chat-70b", workloads=(ref,), channel="#llm", minimum_ready_replicas=2, cold_start_seconds=30
    )
    return Fleet(
        services=(service,),
        default_channel="#oncall",
        roles={"oncall": Role(users=(ALICE,), groups=("SONCALL",)), "heads": Role(users=("UEVE",))},
        approvals={"low": "oncall", "medium": "oncall", "high": "oncall"},
        **{"break_glass": "heads", **changes},
    )
