"""Replace all replicas of a workload by new ones of the same template, as `kubectl rollout restart` does.

That writes the time into an annotation of the pod template; the workload's own strategy does the rest.
"""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bot.actions import rolling
from bot.actions.contract import Aim, CapacityChange, Effect, Preview, Progress
from bot.fleet import NAME, WorkloadRef
from bot.ports import ConflictError, Controls, Risk, Sources, Workload
from bot.vllm.stuck import first_stuck, living

RISK = Risk.MEDIUM
_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_NOW = "now"


class Params(BaseModel):
    """What the annotation says before and after; None: it is not there. "now" becomes the time of the approval, so that
    the same suggestion in the next round is the same proposal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, Field(pattern=NAME)]
    kind: Literal["Deployment", "StatefulSet"] = "Deployment"
    name: Annotated[str, Field(pattern=NAME)]
    before: str | None
    after: str | None = _NOW

    @property
    def ref(self) -> WorkloadRef:
        return WorkloadRef(namespace=self.namespace, kind=self.kind, name=self.name)

    @model_validator(mode="after")
    def _it_is_a_change(self) -> Self:
        if self.before == self.after:
            raise ValueError(f"{self.name} says already that it was restarted at {self.before}")
        return self


class Words(BaseModel):
    """Nothing needs to be said: the incident's workload is meant."""

    model_config = ConfigDict(extra="forbid")


def relative(with_: Mapping[str, Any], aim: Aim, sources: Sources) -> Params:
    if aim.workload is None:
        raise ValueError("it is not known which workload to restart: the alert names no service of fleet.yaml")
    try:
        Words.model_validate(dict(with_))
    except ValidationError as error:
        raise ValueError(f"restart_rollout takes no parameters; said was: {', '.join(with_)}") from error
    workload = sources.cluster.workload(aim.workload)
    if workload is None:
        raise ValueError(f"{aim.workload} does not exist")
    return Params(**aim.workload.model_dump(), before=_restarted_at(workload.template))


def _restarted_at(template: Mapping[str, Any]) -> str | None:
    found: str | None = ((template.get("metadata") or {}).get("annotations") or {}).get(_RESTARTED_AT)
    return found


def _restarted(template: Mapping[str, Any], at: str | None) -> dict[str, Any]:
    metadata = dict(template.get("metadata") or {})
    others = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _RESTARTED_AT}
    return {**template, "metadata": {**metadata, "annotations": {**others, **({_RESTARTED_AT: at} if at else {})}}}


def describe(params: Params) -> str:
    if params.after != _NOW:
        return (
            f"Take the restart of {params.name} back: its replicas are replaced once more, by those of before. "
            f"Undo: restart it again."
        )
    return (
        f"Restart all replicas of {params.name}, as its rollout strategy says. Undo: none is needed, since the new "
        f"ones have the same template; a restart that hangs can be aborted."
    )


def button(params: Params) -> str:
    return f"restart {params.name}" if params.after == _NOW else f"take back the restart of {params.name}"


def preview(params: Params, sources: Sources, controls: Controls) -> Preview:
    workload = _there(params, sources)
    if (stands := _restarted_at(workload.template)) != params.before:
        raise ConflictError("Kubernetes", _restarted_meanwhile(params, stands))
    template = dict(workload.template)
    at = sources.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if params.after == _NOW else params.after
    change = controls.cluster.set_template(
        params.ref, before=template, after=_restarted(template, at), cause=_cause(params), dry_run=True
    )
    return Preview(change, {"template": template, "at": at})


def _there(params: Params, sources: Sources) -> Workload:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        raise ConflictError("Kubernetes", f"{params.ref} does not exist any more")
    return workload


def _restarted_meanwhile(params: Params, at: str | None) -> str:
    return f"somebody restarted {params.name} meanwhile ({at or 'the annotation that says when is gone'})"


def _cause(params: Params) -> str:
    return "vllm-oncall: restart" if params.after == _NOW else "vllm-oncall: take the restart back"


def objections(params: Params, sources: Sources) -> tuple[str, ...]:
    """Argo CD, Flux and Helm leave the annotation alone, so a workload of theirs may be restarted."""
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return (f"{params.ref} does not exist",)
    if workload.desired == 0:
        return (f"{params.name} has no replicas",)
    stands = _restarted_at(workload.template)
    found = [
        _restarted_meanwhile(params, stands) if stands != params.before else None,
        # The way back is there for a restart that hangs.
        rolling.busy(workload) if params.after == _NOW else None,
        _rolls_by_hand(workload),
        rolling.no_room(workload, workload.template, sources) if params.after == _NOW else None,
    ]
    return tuple(reason for reason in found if reason is not None)


def _rolls_by_hand(workload: Workload) -> str | None:
    if workload.ref.kind == "StatefulSet" and workload.max_unavailable is None:
        return (
            f"{workload.ref.name} has updateStrategy OnDelete: nothing restarts until its pods are deleted one by one"
        )
    return None


def execute(params: Params, before: Mapping[str, Any], sources: Sources, controls: Controls) -> None:
    workload = _there(params, sources)
    template, at = before["template"], before["at"]
    if _restarted_at(workload.template) != at:
        controls.cluster.set_template(params.ref, before=template, after=_restarted(template, at), cause=_cause(params))


def took_effect(params: Params, sources: Sources) -> Effect:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return Effect(Progress.NO, f"{params.ref} does not exist any more")
    stands = _restarted_at(workload.template)
    if stands == params.before if params.after == _NOW else stands != params.after:
        return Effect(Progress.NO, f"the template of {params.name} is not the one that was set: somebody changed it")
    standing = f"{workload.updated} of {workload.desired} replicas are new, {workload.ready} ready"
    pods = living(sources.cluster.pods_of(params.ref))
    if workload.settled and len(pods) == workload.desired:
        return Effect(Progress.YES, f"all {workload.desired} replicas of {params.name} are new and ready")
    if stuck := first_stuck(pods):
        return Effect(Progress.PARTLY, f"{standing}; {stuck}")
    return Effect(Progress.NOT_YET, standing)


def undo(params: Params, before: Mapping[str, Any]) -> Params | None:
    """For one that hangs. A restart that went through needs none, but nothing tells the two apart here."""
    if "at" not in before:
        return None
    return params.model_copy(update={"before": before["at"], "after": params.before})


def capacity_change(params: Params, sources: Sources) -> CapacityChange:
    workload = sources.cluster.workload(params.ref)
    if workload is None:
        return CapacityChange(replicas=0, ready=0)
    return rolling.capacity_change(workload, workload.template)


def by_hand(params: Params) -> str:
    verb = "restart" if params.after == _NOW else "undo"
    return f"kubectl -n {params.namespace} rollout {verb} {params.kind.lower()}/{params.name}"
