"""Which revisions were there, for how long, and what did each change?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from bot.ports import Revision, Sources, Workload
from bot.probes.asking import Later
from bot.probes.known_good import known_good
from bot.probes.rollouts import last_rollout
from bot.probes.served import service_of
from bot.vllm.differences import differences
from bot.vllm.redaction import redact

_SHOWN = 6


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the workload that was rolled out last."""

    workload: str | None = None
    revisions: int | None = None  # that can be gone back to, the current one among them
    current_revision: int | None = None
    current_minutes: float | None = None  # since its rollout began
    previous_revision: int | None = None
    known_good_revision: int | None = None
    known_good: str | None = None  # on what that rests
    rollouts_last_day: int | None = None
    last_cause: str | None = None  # kubernetes.io/change-cause of the current one
    went_back: bool | None = None
    log_excerpt: str | None = None  # "7  02:01  image v0.31.0 → v0.32.0  (kubectl set image …)"
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    rollout = last_rollout(sources, service)
    if rollout is None:
        return Reading(missing="no rollout can be told: the workload has no pods or ReplicaSets")
    ref = rollout.workload
    asked = Later(lambda: sources.cluster.workload(ref))
    revisions = sorted(sources.cluster.revisions(ref), key=lambda r: r.number, reverse=True)
    minutes = (sources.now - rollout.began_at).total_seconds() / 60
    if not revisions:
        why = f"a {ref.kind} keeps no old templates that this bot reads"
        return Reading(workload=ref.name, current_minutes=minutes, went_back=rollout.back, missing=why)
    good_number, good_words, why_not = _good(asked.get(), revisions)
    day = sources.now - timedelta(days=1)
    return Reading(
        workload=ref.name,
        revisions=len(revisions),
        current_revision=revisions[0].number,
        current_minutes=minutes,
        previous_revision=revisions[1].number if len(revisions) > 1 else None,
        known_good_revision=good_number,
        known_good=good_words,
        rollouts_last_day=sum(r.created_at >= day for r in revisions[:-1]) + rollout.back,
        last_cause=redact(revisions[0].change_cause) if revisions[0].change_cause else None,
        went_back=rollout.back,
        log_excerpt="\n".join(_lines(revisions)),
        missing=why_not,
    )


def _good(workload: Workload | None, revisions: Sequence[Revision]) -> tuple[int | None, str | None, str | None]:
    if workload is None:
        return None, None, "the workload does not exist"
    found, why = known_good(workload, revisions)
    return (None, None, why) if found is None else (found.revision.number, found.words, None)


def _lines(revisions: Sequence[Revision]) -> list[str]:
    lines = []
    for revision, before in zip(revisions[:_SHOWN], [*revisions[1:], None], strict=False):
        changed = differences(before.template, revision.template).text if before is not None else "the oldest there is"
        cause = f"  ({redact(revision.change_cause)})" if revision.change_cause else ""
        ready = f"{revision.ready} of {revision.replicas} ready" if revision.replicas else "no replicas"
        made = f"{revision.created_at:%m-%d %H:%M}"
        lines.append(f"{revision.number:>3}  {made}  {ready}  {changed or 'nothing that this bot tells apart'}{cause}")
    return lines
