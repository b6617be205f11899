"""A proposal, its approvals and its execution: values, legal moves, and what this floor needs of the store."""

import enum
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bot.incidents.incident import IncidentTx
from bot.ports import Risk


class ProposalState(enum.Enum):
    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


MOVES: Mapping[ProposalState, frozenset[ProposalState]] = {
    ProposalState.PENDING: frozenset(
        {ProposalState.APPROVED, ProposalState.DECLINED, ProposalState.EXPIRED, ProposalState.SUPERSEDED}
    ),
    ProposalState.APPROVED: frozenset({ProposalState.RUNNING, ProposalState.REFUSED}),
    ProposalState.RUNNING: frozenset({ProposalState.ENDED, ProposalState.FAILED, ProposalState.INTERRUPTED}),
}


class Applied(enum.Enum):
    YES = "yes"
    PARTLY = "partly"
    NO = "no"


class Helped(enum.Enum):
    YES = "yes"
    NO = "no"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One field that changes: `path` as people write it ("spec.replicas"), None where there is nothing."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Proposal:
    """A concrete change that somebody may approve. Identity: action + params, so one survives from round to round."""

    incident: int
    number: int
    action: str
    params: Mapping[str, Any]  # absolute and JSON-able
    risk: Risk
    description: str  # "Scale chat-70b from 3 to 4 replicas"
    button: str  # "scale 3 -> 4"
    why: str
    state: ProposalState
    created_at: datetime
    expires_at: datetime
    service: str | None
    rule: str | None  # the finding that suggested it; None when made by hand
    proposed_by: str = "bot"  # or a Slack user id
    diff: tuple[DiffLine, ...] = ()
    before: Mapping[str, Any] | None = None  # what undo and the click-time test need
    objections: tuple[str, ...] = ()  # shown in the review; any objection refuses the approval
    blast_radius: str = ""
    undoes: str | None = None  # id of the proposal whose change this takes back
    aborts: str | None = None
    pinned_until: datetime | None = None  # a review was opened: till then no round swaps the numbers under the reader
    decided_by: str | None = None
    decided_at: datetime | None = None
    refusal: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: str | None = None
    applied: Applied | None = None
    helped: Helped | None = None
    outcome: str | None = None  # the sentence for the thread and the card

    @property
    def id(self) -> str:
        return f"inc-{self.incident}-p{self.number}"

    def is_pinned(self, now: datetime) -> bool:
        return self.pinned_until is not None and now < self.pinned_until


@dataclass(frozen=True, slots=True)
class Approval:
    proposal: str
    user: str
    at: datetime
    break_glass_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Manual:
    """A suggestion that cannot be a button now: what to do by hand, and why it is not offered."""

    incident: int
    rule: str
    action: str
    text: str
    command: str | None
    reason: str


class RemediationTx(IncidentTx, Protocol):
    def next_proposal_number(self, incident: int) -> int: ...
    def save_proposal(self, proposal: Proposal) -> None:
        """Insert or update. Refuses (ValueError) a move that MOVES does not allow; the same state is no move."""
        ...

    def proposal(self, id: str) -> Proposal | None: ...
    def proposals_of(self, incident: int) -> Sequence[Proposal]: ...
    def proposals_in(self, *states: ProposalState) -> Sequence[Proposal]: ...
    def started_since(self, moment: datetime) -> Sequence[Proposal]:
        """Executions begun at or after `moment`, for the guard's arithmetic."""
        ...

    def save_approval(self, approval: Approval) -> None: ...
    def approvals_of(self, proposal: str) -> Sequence[Approval]: ...
    def save_manuals(self, incident: int, manuals: Sequence[Manual]) -> None:
        """Replace the incident's list."""
        ...

    def manuals_of(self, incident: int) -> Sequence[Manual]: ...
    def frozen(self) -> str | None:
        """Who froze changes and why, in words; None when nothing is frozen."""
        ...

    def freeze(self, user: str, reason: str, at: datetime) -> None: ...
    def unfreeze(self, user: str, at: datetime) -> bool:
        """Lifts every freeze; False if there was none."""
        ...


class Store(Protocol):
    """Transactions on our database. `write` commits at the end of the block or not at all; writers follow one
    another, so what a block has read still holds when it writes. `read` is one snapshot."""

    def write(self) -> AbstractContextManager[RemediationTx]: ...
    def read(self) -> AbstractContextManager[RemediationTx]: ...
