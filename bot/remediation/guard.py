"""The arithmetic that no approval overrides: may one more change begin now? Pure; it returns reasons, none means yes.

It runs inside the transaction that sets running, over rows read there, and over what the cluster said just before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.remediation.proposal import Proposal, ProposalState
from bot.report import moment


@dataclass(frozen=True, slots=True)
class Limits:
    changes_per_hour: int = 6
    storm_services: int = 8  # open incidents over so many services: a common cause is likely
    cool_down_seconds: float = 300  # in a storm, between the begin of one change and the next


@dataclass(frozen=True, slots=True)
class Share:
    """What the change takes from a service that is not the proposal's own: a drain may hit several."""

    service: str
    ready: int
    minimum_ready: int
    lost: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cluster said. JSON-able (`facts_json`, `facts_of`): it passes through a checkpoint."""

    ready: int  # of the service, over all its workloads
    minimum_ready: int
    lost: int = 0  # ready replicas missing at the worst moment while the change runs
    node: str | None = None  # that the change takes out
    nodes_out: tuple[str, ...] = ()  # GPU nodes that are cordoned or not ready
    bot_node: str | None = None  # None: not known
    others: tuple[Share, ...] = ()


def facts_json(facts: Facts) -> dict[str, Any]:
    return {**asdict(facts), "nodes_out": list(facts.nodes_out), "others": [asdict(share) for share in facts.others]}


def facts_of(stored: Mapping[str, Any]) -> Facts:
    others = tuple(Share(**share) for share in stored.get("others", ()))
    return Facts(**{**stored, "nodes_out": tuple(stored["nodes_out"]), "others": others})


@dataclass(frozen=True, slots=True)
class Rows:
    """What the store says, read in the same transaction."""

    under_way: Sequence[Proposal]  # approved or running
    began_within_the_hour: Sequence[Proposal]
    services_in_trouble: int  # with an open incident


def reasons(proposal: Proposal, facts: Facts, rows: Rows, limits: Limits, now: datetime) -> tuple[str, ...]:
    found = [
        _same_service(proposal, facts, rows),
        _capacity(proposal.service or "the service", facts.ready, facts.minimum_ready, facts.lost),
        *(_capacity(share.service, share.ready, share.minimum_ready, share.lost) for share in facts.others),
        *_node(facts, proposal, rows),
        # The way back stays open: whoever is at the limit must still be able to undo what was done.
        *(() if _is_way_back(proposal) else (_hourly(rows, limits), _storm(rows, limits, now))),
    ]
    return tuple(reason for reason in found if reason is not None)


def _is_way_back(proposal: Proposal) -> bool:
    return proposal.undoes is not None or proposal.aborts is not None


def _others(proposal: Proposal, rows: Rows) -> list[Proposal]:
    return [p for p in rows.under_way if p.id not in (proposal.id, proposal.aborts)]


def _same_service(proposal: Proposal, facts: Facts, rows: Rows) -> str | None:
    mine = _touched(proposal, (share.service for share in facts.others))
    for other in _others(proposal, rows):
        # What a change of several services touches stands in its `before`.
        if both := sorted(mine & _touched(other, (other.before or {}).get("services", ()))):
            state = "is running" if other.state is ProposalState.RUNNING else "is approved"
            return f"one change at a time: {other.id} ({other.button}) {state} on {', '.join(both)}"
    return None


def _touched(proposal: Proposal, more: Iterable[str]) -> set[str]:
    return {*more, *([proposal.service] if proposal.service is not None else [])}


def _capacity(service: str, ready: int, minimum: int, lost: int) -> str | None:
    """A change that takes nothing away is allowed below the minimum too: it may be the one that brings it back."""
    left = ready - lost
    if lost <= 0 or left >= minimum:
        return None
    return (
        f"{service} would fall to {left} ready of {ready} while it runs; at least {minimum} must stay "
        f"(minimum_ready_replicas)"
    )


def takes_out(params: Mapping[str, Any]) -> str | None:
    """The node that a change with these params takes out of service. None for those that bring one back: they are never
    held up."""
    return None if params.get("schedulable") else params.get("node")


def _node(facts: Facts, proposal: Proposal, rows: Rows) -> list[str | None]:
    if facts.node is None:
        return []
    out = [n for n in facts.nodes_out if n != facts.node]
    taking = [f"{p.id} takes out {p.params['node']}" for p in _others(proposal, rows) if takes_out(p.params)]
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
