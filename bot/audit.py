"""The audit chain: who did what, when, to what, with which result; each entry carries the hash of the one before."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rfc8785

VERSION = 1
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that happened. `actor` is a Slack user id, "bot", or "terminal:<user>"."""

    at: datetime
    actor: str
    action: str  # "incident.opened", "proposal.approved", "execution.refused" ...
    subject: str  # "inc-142", "inc-142-p2"
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    sequence: int
    previous: str
    hash: str
    entry: AuditEntry


def chained(entry: AuditEntry, sequence: int, previous: str) -> ChainedEntry:
    """SHA-256 over canonical JSON (RFC 8785) of version, sequence, previous hash and the entry."""
    return ChainedEntry(sequence, previous, _digest(entry, sequence, previous), entry)


def broken_link(chain: Iterable[ChainedEntry]) -> str | None:
    """The first place where the chain does not hold, in words; None if it holds from its first entry on."""
    previous = GENESIS
    for sequence, link in enumerate(chain, start=1):
        if link.sequence != sequence:
            return f"entry {sequence} is missing (next is {link.sequence})"
        if link.previous != previous:
            return f"entry {sequence} does not follow entry {sequence - 1}"
        if link.hash != _digest(link.entry, link.sequence, link.previous):
            return f"entry {sequence} was changed after it was written"
        previous = link.hash
    return None


def _digest(entry: AuditEntry, sequence: int, previous: str) -> str:
    body: dict[str, Any] = {
        "version": VERSION,
        "sequence": sequence,
        "previous": previous,
        # Microseconds as text: RFC 8785 numbers are doubles, exact only up to 2^53.
        "at": str(round(entry.at.timestamp() * 1_000_000)),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": dict(entry.detail),
    }
    return hashlib.sha256(rfc8785.dumps(body)).hexdigest()
