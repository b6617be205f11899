"""Which revision of a Deployment was known to be good: the one that its people name, else the last that served long.

A rollback gives an old ReplicaSet a new number, so a ReplicaSet's name keeps for good, and a number only until then.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from bot.ports import Revision, Workload
from bot.vllm.references import KNOWN_GOOD_REVISION

# What served for so long was looked at by enough people. What was replaced sooner may have been replaced for a reason.
LONG = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class KnownGood:
    """declared: by the annotation. `words` says on what it rests: "revision 6, which served for 9 days"."""

    revision: Revision
    declared: bool
    words: str


def known_good(workload: Workload, revisions: Sequence[Revision]) -> tuple[KnownGood | None, str | None]:
    """The revision to compare with, or why there is none. The current one is never it, unless it is declared so."""
    named = workload.annotations.get(KNOWN_GOOD_REVISION)
    if named is not None:
        found = next((r for r in revisions if named in (str(r.number), r.replica_set)), None)
        if found is None:
            known = ", ".join(str(r.number) for r in revisions) or "none"
            return None, f"annotation {KNOWN_GOOD_REVISION} names {named}, which is not there; there are: {known}"
        return KnownGood(found, True, f"revision {found.number}, declared to be good"), None
    if len(revisions) < 2:
        return None, f"there is no other revision to compare with (annotation {KNOWN_GOOD_REVISION} may name one)"
    current = max(revisions, key=lambda r: r.number)
    if any(r.created_at > current.created_at for r in revisions):
        return None, f"revision {current.number} was itself put back in place of a later one"
    by_age = sorted(revisions, key=lambda r: r.created_at)
    lived = {one.replica_set: after.created_at - one.created_at for one, after in itertools.pairwise(by_age)}
    older = sorted((r for r in revisions if r is not current), key=lambda r: r.number, reverse=True)
    for revision in older:
        if lived.get(revision.replica_set, timedelta()) >= LONG:
            days = lived[revision.replica_set].total_seconds() / 86400
            return KnownGood(revision, False, f"revision {revision.number}, which served for {days:.0f} days"), None
    short = lived.get(older[0].replica_set)
    for_how_long = f" and served for {short.total_seconds() / 60:.0f} min only" if short is not None else ""
    return KnownGood(older[0], False, f"revision {older[0].number}, the one before{for_how_long}"), None
