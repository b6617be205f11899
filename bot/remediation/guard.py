"""The arithmetic that no approval overrides: may one more change begin now? Pure; it returns reasons, none means yes.

It runs inside the transaction that sets running, over rows read there, and over what the cluster said just before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.remediation.proposal import Proposal, ProposalState
from bot.report import moment


@dataclass(frozen=True, slots=True)
class Limits:
    changes_per_hour: int = 6
    storm_services: int = 8  # open incidents over so many services: a common cause is likely
    cool_down_seconds: float = 300  # in a storm, between the begin of one change and the next


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cluster said. JSON-able: it passes through a checkpoint."""

    ready: int  # of the service, over all its workloads
    minimum_ready: int
    lost: int = 0  # ready replicas missing at the worst moment while the change runs
    node: str | None = None  # that the change takes out
    nodes_out: tuple[str, ...] = ()  # GPU nodes that are cordoned or not ready
    bot_node: str | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class Rows:
    """What the store says, read in the same transaction."""

    under_way: Sequence[Proposal]  # approved or running
    began_within_the_hour: Sequence[Proposal]
    services_in_trouble: int  # with an open incident


def reasons(proposal: Proposal, facts: Facts, rows: Rows, limits: Limits, now: datetime) -> tuple[str, ...]:
    found = [
        _same_service(proposal, rows),
        _capacity(proposal, facts),
        *_node(facts, proposal, rows),
        # The way back stays open: whoever is at the limit must still be able to undo what was done.
        *(() if _is_way_back(proposal) else (_hourly(rows, limits), _storm(rows, limits, now))),
    ]
    return tuple(reason for reason in found if reason is not None)


def _is_way_back(proposal: Proposal) -> bool:
    return proposal.undoes is not None or proposal.aborts is not None


def _others(proposal: Proposal, rows: Rows) -> list[Proposal]:
    return [p for p in rows.under_way if p.id not in (proposal.id, proposal.aborts)]


def _same_service(proposal: Proposal, rows: Rows) -> str | None:
    for other in _others(proposal, rows):
        if other.service is not None and other.service == proposal.service:
            state = "is running" if other.state is ProposalState.RUNNING else "is approved"
            return f"one change at a time: {other.id} ({other.button}) {state} on {other.service}"
    return None


def _capacity(proposal: Proposal, facts: Facts) -> str | None:
    """A change that takes nothing away is allowed below the minimum too: it may be the one that brings it back."""
    left = facts.ready - facts.lost
    if facts.lost <= 0 or left >= facts.minimum_ready:
        return None
    return (
        f"{proposal.service or 'the service'} would fall to {left} ready of {facts.ready} while it runs; at least "
        f"{facts.minimum_ready} must stay (minimum_ready_replicas)"
    )


def _node(facts: Facts, proposal: Proposal, rows: Rows) -> list[str | None]:
    if facts.node is None:
        return []
    out = [n for n in facts.nodes_out if n != facts.node]
    taking = [f"{p.id} takes out {p.params['node']}" for p in _others(proposal, rows) if p.params.get("node")]
    found: list[str | None] = []
    if out or taking:
        found.append(f"one GPU node out at a time: {', '.join([*(f'{n} is out' for n in out), *taking])}")
    if facts.bot_node is None:
        found.append("it is not known which node this bot runs on (set VLLM_ONCALL_NODE), so no node is touched")
    elif facts.node == facts.bot_node:
        found.append(f"this bot runs on {facts.node}: it would end itself in the middle of the change")
    return found


def _hourly(rows: Rows, limits: Limits) -> str | None:
    began = sorted(p.started_at for p in rows.began_within_the_hour if p.started_at and not _is_way_back(p))
    if len(began) < limits.changes_per_hour:
        return None
    again = began[len(began) - limits.changes_per_hour] + timedelta(hours=1)
    return f"{len(began)} changes within the hour, {limits.changes_per_hour} are allowed; next at {moment(again)}"


def _storm(rows: Rows, limits: Limits, now: datetime) -> str | None:
    if rows.services_in_trouble < limits.storm_services:
        return None
    last = max((p.started_at for p in rows.began_within_the_hour if p.started_at), default=None)
    calm = last + timedelta(seconds=limits.cool_down_seconds) if last else now
    if calm <= now:
        return None
    return (
        f"{rows.services_in_trouble} services are in trouble at once, so a common cause is likely: one change, then "
        f"a look; next at {moment(calm)}"
    )
