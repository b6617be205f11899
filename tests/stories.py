"""The overload of chat-70b, and its relatives, as values: what the store holds at each turn of the story."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.announce.view import View
from bot.fleet import Fleet, Role, Service, Slo, WorkloadRef
from bot.incidents.alert import Alert, AlertStatus
from bot.incidents.incident import Incident, IncidentState, Round, RoundReason, SignalReading, Target
from bot.incidents.judge import Finding, Observation, Query, Verdict
from bot.outbound.terminal import render
from bot.ports import Risk
from bot.remediation.proposal import Applied, Approval, Helped, Manual, Proposal, ProposalState
from bot.report import Report
from bot.runbook.schema import Runbook, Severity

ALICE, BOB, ONCALL = "U01ALICE", "U02BOB", "S01ONCALL"
CHANNEL, DEFAULT_CHANNEL = "C01INCCHAT", "C03ONCALL"
START = datetime(2026, 11, 24, 2, 7, tzinfo=UTC)


def said(report: Report) -> str:
    """A report as one reads it, in UTC and in long lines."""
    return render(report, zone=UTC, width=10_000)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


CHAT = WorkloadRef(namespace="llm", name="chat-70b")
FLEET = Fleet(
    services=(
        Service(name="chat-70b", workloads=(CHAT,), slo=Slo(ttft_p99_seconds=1), channel=CHANNEL, oncall=ALICE),
        Service(
            name="code-7b",
            workloads=(WorkloadRef(namespace="llm", name="code-7b"),),
            channel="C02INCCODE",
            oncall=ONCALL,
        ),
    ),
    default_channel=DEFAULT_CHANNEL,
    default_oncall=ALICE,
    roles={"sre": Role(users=(ALICE,))},
    approvals={"low": "sre", "medium": "sre", "high": "sre"},
)
RUNBOOK = Runbook.model_validate(
    {
        "name": "high_latency",
        "title": "High latency",
        "owner": "ml-platform",
        "symptoms": "Users wait for the first token.",
        "match": [{"alertname": ["VLLMHighTTFT", "VLLMQueueLong"]}],
        "signal": {"name": "TTFT P99", "query": "x", "unit": "seconds", "threshold": "$slo.ttft_p99_seconds"},
        "steps": [{"id": "queue", "probe": "vllm_queue", "ask": "How many requests wait?"}],
        "rules": [
            {
                "id": "under_provisioned",
                "when": ["queue.waiting > 50"],
                "severity": "critical",
                "title": "Under-provisioned",
                "finding": "${queue.waiting} requests wait",
                "suggest": [{"action": "scale_workload", "with": {"add": 1}, "why": "all replicas are saturated"}],
            }
        ],
    }
)
RUNBOOKS = {"high_latency": RUNBOOK}


def incident(number: int = 142, **changes: object) -> Incident:
    made = Incident(
        number=number,
        state=IncidentState.OPEN,
        severity=Severity.CRITICAL,
        title="VLLMHighTTFT",
        target=Target(service="chat-70b", workload=CHAT, namespace="llm"),
        runbook="high_latency",
        channel=CHANNEL,
        opened_at=at(0.1),
        began_at=START,
        alert_names=("VLLMHighTTFT", "VLLMQueueLong"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def alert(name: str = "VLLMHighTTFT", status: AlertStatus = AlertStatus.FIRING, **changes: object) -> Alert:
    made = Alert(
        fingerprint=f"fp-{name}",
        status=status,
        labels={"alertname": name, "severity": "critical", "service": "chat-70b"},
        annotations={},
        starts_at="2026-11-24T02:07:00.000Z",
        ends_at="",
        generator_url="http://127.0.0.1:9090/graph",
        received_at=at(0.1),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


SLOW = SignalReading("TTFT P99", "seconds", 1.0, "above", 3.9, low=2.5, high=5.0, traffic=12.0)
FAST = SignalReading("TTFT P99", "seconds", 1.0, "above", 0.4, low=0.25, high=0.5, traffic=12.1)

UNDER_PROVISIONED = Finding(
    rule="under_provisioned",
    verdict=Verdict.CONFIRMED,
    severity=Severity.CRITICAL,
    title="Under-provisioned",
    text="138 requests wait, all 3 replicas are saturated",
    because=(
        "Queue 138 (critical 200), +9/min",
        "KV cache 91 % (warning 85 %)",
        "GPU 97 % busy",
        "Prefill P99 < 0.3 s: no long prompts",
    ),
)
NO_LONG_PROMPTS = Finding("long_prompts", Verdict.RULED_OUT, Severity.WARNING, "Long prompts", "")
GPU_UNCLEAR = Finding(
    "gpu_errors",
    Verdict.INCONCLUSIVE,
    Severity.CRITICAL,
    "GPU memory errors",
    "",
    unknown=("gpu_memory.uncorrected: not exported by dcgm-exporter",),
)

QUEUE = Observation(
    "queue",
    "vllm_queue",
    "How many requests wait?",
    {"waiting": 138, "running": 192, "growth_per_minute": 9.2, "oldest_seconds": None},
    None,
    0.2,
    queries=(Query('sum(vllm:num_requests_waiting{namespace="llm"})', "138", "http://127.0.0.1:9090/graph?g0.expr=x"),),
)
GPU_DOWN = Observation("gpu_memory", "gpu_memory_errors", "GPU memory errors?", None, "no agent on gpu-03", 0.1)


def round_of(number: int = 1, minutes: float = 0.12, **changes: object) -> Round:
    made = Round(
        incident=142,
        number=number,
        runbook="high_latency",
        reason=RoundReason.START,
        due_at=at(minutes),
        started_at=at(minutes),
        ended_at=at(minutes) + timedelta(seconds=1.4),
        signal=SLOW,
        observations=(QUEUE, GPU_DOWN),
        findings=(UNDER_PROVISIONED, NO_LONG_PROMPTS),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


INCONCLUSIVE = round_of(
    observations=(
        replace(QUEUE, reading=None, queries=(), error="Prometheus did not answer within 8 s (http://prometheus:9090)"),
        GPU_DOWN,
    ),
    signal=replace(SLOW, value=None, low=None, high=None, error="Prometheus did not answer within 8 s"),
    findings=(
        replace(UNDER_PROVISIONED, verdict=Verdict.INCONCLUSIVE, because=(), unknown=("queue: not answered",)),
        GPU_UNCLEAR,
        NO_LONG_PROMPTS,
    ),
)


def proposal(number: int = 2, **changes: object) -> Proposal:
    made = Proposal(
        incident=142,
        number=number,
        action="scale_workload",
        params={"namespace": "llm", "kind": "Deployment", "name": "chat-70b", "before": 3, "after": 4},
        risk=Risk.MEDIUM,
        description="Scale chat-70b from 3 to 4 replicas. Undo: scale it back to 3.",
        button="scale 3 → 4",
        why="all replicas are saturated",
        state=ProposalState.PENDING,
        created_at=at(0.15),
        expires_at=at(30),
        service="chat-70b",
        rule="under_provisioned",
        before={"replicas": 3},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


APPROVED = Approval("inc-142-p2", BOB, at(2))
RUNNING = proposal(
    state=ProposalState.RUNNING,
    decided_by=BOB,
    decided_at=at(2),
    started_at=at(2.1),
    progress="3 of 4 ready; starting: chat-70b-7f9c-x2k",
)
HELPED = replace(
    RUNNING,
    state=ProposalState.ENDED,
    ended_at=at(12),
    applied=Applied.YES,
    helped=Helped.YES,
    outcome="TTFT P99 2.5–5 s → 0.25–0.5 s (limit 1 s), with 101% of the traffic of before",
)
MANUAL = Manual(
    142,
    "under_provisioned",
    "set_engine_args",
    "raise max-num-seqs from 256 to 384",
    "kubectl -n llm edit deployment/chat-70b",
    "set_engine_args is not a button yet",
)


def view(*rounds: Round, **changes: object) -> View:
    made = View(
        incident=incident(),
        rounds=rounds,
        alerts=(alert(), alert("VLLMQueueLong")),
        runbook=RUNBOOK,
        service=FLEET.services[0],
        oncall=ALICE,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def with_verdict(*proposals: Proposal, **changes: object) -> View:
    return view(round_of(), proposals=proposals or (proposal(),), **changes)


def inconclusive() -> View:
    return view(INCONCLUSIVE)


def without_runbook() -> View:
    strange = incident(
        title="KubeletTooManyPods",
        target=Target(unresolved="no service of fleet.yaml matches its labels (instance=10.0.3.7:9100)"),
        runbook=None,
        channel=DEFAULT_CHANNEL,
        alert_names=("KubeletTooManyPods",),
    )
    return view(incident=strange, alerts=(alert("KubeletTooManyPods"),), runbook=None, service=None)


def running() -> View:
    acked = incident(acked_by=BOB, acked_at=at(1))
    return with_verdict(RUNNING, incident=acked, approvals={RUNNING.id: (APPROVED,)}, manuals=(MANUAL,))


def resolved(*, signal: SignalReading = FAST, proposals: Sequence[Proposal] = (HELPED,)) -> View:
    over = incident(
        state=IncidentState.RESOLVED,
        resolved_at=at(14),
        resolution="all alerts resolved",
        acked_by=BOB,
        acked_at=at(1),
    )
    last = round_of(
        3,
        14.05,
        reason=RoundReason.RESOLVING,
        signal=signal,
        findings=(replace(UNDER_PROVISIONED, verdict=Verdict.RULED_OUT), NO_LONG_PROMPTS),
    )
    done = tuple(alert(n, AlertStatus.RESOLVED) for n in ("VLLMHighTTFT", "VLLMQueueLong"))
    approvals = {p.id: (APPROVED,) for p in proposals}
    return view(round_of(), last, incident=over, proposals=tuple(proposals), approvals=approvals, alerts=done)
