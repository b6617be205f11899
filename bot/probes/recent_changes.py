"""What was rolled out before the trouble began, and what does it change?"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from bot.ports import Sources
from bot.probes.rollouts import Rollout, last_rollout
from bot.probes.served import service_of
from bot.report import duration
from bot.vllm.differences import differences


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str
    began: AwareDatetime | None = None  # when the trouble began; None: now


@dataclass(frozen=True, slots=True)
class Reading:
    workload: str | None = None  # of the last rollout
    revision: int | None = None
    previous_revision: int | None = None
    minutes_before_start: float | None = None  # negative: it came after the trouble began
    rolled_out: str | None = None  # "18 s before it began", "4 min after it began"
    changed: str | None = None  # "image vllm-openai v0.31.0 → v0.32.0; --max-num-seqs 256 → 64"
    image_changed: bool | None = None
    arguments_changed: bool | None = None
    restart_only: bool | None = None  # `kubectl rollout restart`, a label: what runs in the pods is the same
    first_revision: bool | None = None  # the workload was created by it: there is nothing to compare with
    went_back: bool | None = None  # to a template that had been there before
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    rollout = last_rollout(sources, service_of(sources, params.service))
    if rollout is None:
        return Reading(missing="no rollout can be told: the workload has no pods or ReplicaSets")
    return _told(rollout, params.began or sources.now)


def _told(rollout: Rollout, began: datetime) -> Reading:
    to, previous = rollout.to, rollout.previous
    changes = differences(previous.template, to.template) if to is not None and previous is not None else None
    before = began - rollout.began_at
    return Reading(
        workload=rollout.workload.name,
        revision=to.number if to else None,
        previous_revision=previous.number if previous else None,
        minutes_before_start=before.total_seconds() / 60,
        rolled_out=f"{duration(abs(before))} {'after' if before < timedelta() else 'before'} it began",
        changed=changes.text if changes else None,
        image_changed=changes.image if changes else None,
        arguments_changed=changes.arguments if changes else None,
        restart_only=changes.restart if changes else None,
        first_revision=to is not None and to.number == 1,
        went_back=rollout.back,
        missing=None if changes else f"what changed cannot be told: {_why(rollout)}",
    )


def _why(rollout: Rollout) -> str:
    if rollout.to is None:
        return f"a {rollout.workload.kind} keeps no old templates that this bot reads"
    return f"revision {rollout.to.number} is the only one there"
