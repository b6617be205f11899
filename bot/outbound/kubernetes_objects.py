"""From the API server's JSON to the values of `ports`: pure, one function per kind.

What the API server leaves out is empty, as Go leaves it; what is not known stays None.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bot.fleet import WorkloadRef
from bot.outbound import kubernetes_forms as forms
from bot.ports import (
    Autoscaler,
    Budget,
    ConfigMap,
    ConfigMount,
    Container,
    ContainerState,
    Event,
    Node,
    Pod,
    Requirement,
    Revision,
    SourceError,
    Workload,
)

TEMPLATE_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_CHANGE_CAUSE = "kubernetes.io/change-cause"

_Form = TypeVar("_Form", bound=BaseModel)


def owned(raw: Mapping[str, Any]) -> forms.Meta:
    return _as(forms.Owned, raw).metadata


def pod(raw: Mapping[str, Any]) -> Pod:
    found = _as(forms.Pod, raw)
    meta, conditions = found.metadata, {c.type: c for c in found.status.conditions}
    ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
    is_ready = ready is not None and ready.true
    waits_for_room = scheduled is not None and not scheduled.true and scheduled.reason == "Unschedulable"
    statuses = {s.name: s for s in (*found.status.containerStatuses, *found.status.initContainerStatuses)}
    controller, volumes = meta.controller, found.spec.volumes
    return Pod(
        namespace=meta.namespace,
        name=meta.name,
        labels=meta.labels,
        annotations=meta.annotations,
        node=found.spec.nodeName or None,
        ip=found.status.podIP or None,
        phase=found.status.phase,
        ready=is_ready,
        created_at=meta.creationTimestamp,
        ready_at=ready.lastTransitionTime if ready is not None and is_ready else None,
        deleted_at=meta.deletionTimestamp,
        owner=controller.name if controller else None,
        owner_kind=controller.kind if controller else None,
        unschedulable=scheduled.message if scheduled is not None and waits_for_room else None,
        containers=tuple(_container(c, statuses.get(c.name), volumes) for c in found.spec.containers),
        uid=meta.uid,
        emptydirs=tuple(v.name for v in volumes if v.emptyDir and v.emptyDir.medium != "Memory"),
        init_containers=tuple(_container(c, statuses.get(c.name), volumes) for c in found.spec.initContainers),
    )


def _container(
    spec: forms.ContainerSpec, status: forms.ContainerStatus | None, volumes: Sequence[forms.Volume]
) -> Container:
    return Container(
        name=spec.name,
        image=spec.image,
        command=spec.command,
        args=spec.args,
        env={env.name: None if env.valueFrom else env.value for env in spec.env},
        ports={port.name or str(port.containerPort): port.containerPort for port in spec.ports},
        gpus=spec.resources.gpus,
        ready=status.ready if status else False,
        restart_count=status.restartCount if status else 0,
        state=_state(status.state) if status else None,
        last_state=_state(status.lastState) if status else None,
        image_id=status.imageID if status else "",
        readiness_probe=spec.readinessProbe is not None,
        config_mounts=tuple(_config_mounts(spec, volumes)),
    )


def _config_mounts(spec: forms.ContainerSpec, volumes: Sequence[forms.Volume]) -> Iterator[ConfigMount]:
    by_name = {volume.name: volume.configMap for volume in volumes if volume.configMap is not None}
    for mount in spec.volumeMounts:
        if (source := by_name.get(mount.name)) is None:
            continue
        keys = {item.path: item.key for item in source.items} or None
        if mount.subPath:
            keys = {"": (keys or {}).get(mount.subPath, mount.subPath)}
        yield ConfigMount(mount.mountPath, source.name, keys)


def config_map(raw: Mapping[str, Any]) -> ConfigMap:
    found = _as(forms.ConfigMap, raw)
    times = [one.time for one in found.metadata.managedFields if one.time is not None]
    return ConfigMap(found.data, max([*times, found.metadata.creationTimestamp]))


def _state(state: forms.State) -> ContainerState | None:
    if state.terminated is not None:
        end = state.terminated
        return ContainerState("terminated", end.reason, end.message, end.exitCode, end.finishedAt, end.startedAt)
    if state.running is not None:
        return ContainerState("running", at=state.running.startedAt)
    if state.waiting is not None:
        return ContainerState("waiting", state.waiting.reason, state.waiting.message)
    return None


def requested_gpus(raw: Mapping[str, Any]) -> int:
    """What the scheduler counts for a pod: its containers and sidecars, or more if an init container needs more."""
    spec = _as(forms.Pod, raw).spec
    sidecars = peak = 0
    for init in spec.initContainers:
        if init.restartPolicy == "Always":
            sidecars += init.resources.gpus
        else:
            peak = max(peak, sidecars + init.resources.gpus)
    return max(peak, sidecars + sum(container.resources.gpus for container in spec.containers))


def node_of(raw: Mapping[str, Any]) -> str:
    """ "" if the pod is not scheduled."""
    return _as(forms.Pod, raw).spec.nodeName


def workload(ref: WorkloadRef, raw: Mapping[str, Any]) -> Workload:
    found = _as(forms.Workload, raw)
    meta, spec, status = found.metadata, found.spec, found.status
    deployment = ref.kind == "Deployment"
    surge, unavailable = _rolling_limits(ref, spec)
    revision = meta.annotations.get(_REVISION)
    return Workload(
        ref=ref,
        desired=spec.replicas,
        ready=status.readyReplicas,
        updated=status.updatedReplicas,
        # Only a Deployment counts them itself.
        unavailable=status.unavailableReplicas if deployment else max(0, spec.replicas - status.availableReplicas),
        paused=spec.paused,
        template=spec.template,
        labels=meta.labels,
        annotations=meta.annotations,
        selector=spec.selector.matchLabels,
        revision=int(revision) if revision else None,
        generation=meta.generation,
        observed_generation=status.observedGeneration,
        conditions={c.type: (c.true, c.message) for c in status.conditions},
        managed_by=_managed_by(meta),
        max_surge=surge,
        max_unavailable=unavailable,
    )


def _rolling_limits(ref: WorkloadRef, spec: forms.WorkloadSpec) -> tuple[int | None, int | None]:
    strategy = spec.strategy if ref.kind == "Deployment" else spec.updateStrategy
    if strategy.type != "RollingUpdate":
        return None, None
    limits = strategy.rollingUpdate or forms.RollingUpdate()
    if ref.kind == "StatefulSet":
        return 0, max(1, _pods(limits.maxUnavailable, spec.replicas, up=False))
    surge = _pods(limits.maxSurge, spec.replicas, up=True)
    unavailable = _pods(limits.maxUnavailable, spec.replicas, up=False)
    # The controller's own rule: with both at zero nothing could ever move.
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _pods(limit: int | str | None, replicas: int, *, up: bool) -> int:
    """A number of pods, or a percentage of the replicas."""
    if not isinstance(limit, str):
        return limit or 0
    share = int(limit.rstrip("%")) * replicas
    return math.ceil(share / 100) if up else share // 100


def _managed_by(meta: forms.Meta) -> str | None:
    """Argo CD and Flux before Helm: they may have rendered a chart, and it is they who would undo a change."""
    keys = {*meta.labels, *meta.annotations}
    if any(key.startswith("argocd.argoproj.io/") for key in keys):
        return "Argo CD"
    if any(".toolkit.fluxcd.io/" in key for key in keys):
        return "Flux"
    if "meta.helm.sh/release-name" in keys or meta.labels.get("app.kubernetes.io/managed-by") == "Helm":
        return "Helm"
    return None


def label_selector(raw: Mapping[str, Any]) -> str:
    """A workload's selector, as a list request takes it."""
    selector = _as(forms.Workload, raw).spec.selector
    terms = [f"{key}={value}" for key, value in selector.matchLabels.items()]
    for expression in selector.matchExpressions:
        values = ",".join(expression.values)
        terms.append(
            {
                "In": f"{expression.key} in ({values})",
                "NotIn": f"{expression.key} notin ({values})",
                "Exists": expression.key,
                "DoesNotExist": f"!{expression.key}",
            }[expression.operator]
        )
    return ",".join(terms)


def revision(raw: Mapping[str, Any]) -> Revision:
    """Of a ReplicaSet. The template is what a rollback would put back: without the hash that its controller added."""
    found = _as(forms.Workload, raw)
    meta = found.metadata
    containers = (found.spec.template.get("spec") or {}).get("containers") or ()
    return Revision(
        number=int(meta.annotations.get(_REVISION) or 0),
        replica_set=meta.name,
        created_at=meta.creationTimestamp,
        change_cause=meta.annotations.get(_CHANGE_CAUSE),
        images=tuple(str(container.get("image", "")) for container in containers),
        template=without_hash(found.spec.template),
        replicas=found.spec.replicas,
        ready=found.status.readyReplicas,
    )


def without_hash(template: Mapping[str, Any]) -> dict[str, Any]:
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {key: value for key, value in (meta.get("labels") or {}).items() if key != TEMPLATE_HASH}
    return {**template, "metadata": meta}


def node(raw: Mapping[str, Any]) -> Node:
    found = _as(forms.Node, raw)
    known = {c.type: c.true for c in found.status.conditions if c.status != "Unknown"}
    return Node(
        name=found.metadata.name,
        ready=known.get("Ready"),
        schedulable=not found.spec.unschedulable,
        conditions=known,
        labels=found.metadata.labels,
        annotations=found.metadata.annotations,
        taints=tuple(str(taint) for taint in found.spec.taints),
        gpus=forms.gpu_count(found.status.allocatable),
        gpu_product=found.metadata.labels.get("nvidia.com/gpu.product"),
        gpu_capacity=None if found.status.capacity is None else forms.gpu_count(found.status.capacity),
    )


def event(raw: Mapping[str, Any]) -> Event:
    """Old and new writers of events use different fields for the same."""
    found = _as(forms.Event, raw)
    series = found.series or forms.EventSeries()
    return Event(
        at=series.lastObservedTime or found.lastTimestamp or found.eventTime or found.firstTimestamp,
        kind=found.involvedObject.kind,
        name=found.involvedObject.name,
        type=found.type,
        reason=found.reason,
        message=found.message,
        count=series.count or found.count or 1,
    )


def autoscaler(raw: Mapping[str, Any]) -> tuple[str, str, Autoscaler]:
    """Kind and name of what it scales, and itself."""
    found = _as(forms.Autoscaler, raw)
    meta, spec, status = found.metadata, found.spec, found.status
    keda = any("keda.sh/" in key for key in meta.labels) or meta.name.startswith("keda-hpa-")
    return (
        spec.scaleTargetRef.kind,
        spec.scaleTargetRef.name,
        Autoscaler(
            name=meta.name,
            minimum=1 if spec.minReplicas is None else spec.minReplicas,
            maximum=spec.maxReplicas,
            current=status.currentReplicas,
            desired=status.desiredReplicas,
            keda=keda,
        ),
    )


def budget(raw: Mapping[str, Any]) -> Budget:
    found = _as(forms.Budget, raw)
    meta, spec, status = found.metadata, found.spec, found.status
    return Budget(
        namespace=meta.namespace,
        name=meta.name,
        selector=None if spec.selector is None else _requirements(spec.selector),
        expected=status.expectedPods,
        healthy=status.currentHealthy,
        needed=status.desiredHealthy,
        allowed=status.disruptionsAllowed,
        unready_may_go=spec.unhealthyPodEvictionPolicy == "AlwaysAllow",
    )


def _requirements(selector: forms.Selector) -> tuple[Requirement, ...]:
    labels = tuple(Requirement(key, "In", (value,)) for key, value in selector.matchLabels.items())
    return labels + tuple(Requirement(e.key, e.operator, e.values) for e in selector.matchExpressions)


def by_time(events: Sequence[Event]) -> tuple[Event, ...]:
    """Newest first; those without a time last."""
    return tuple(sorted(events, key=lambda e: (e.at is not None, e.at and e.at.timestamp()), reverse=True))


def _as(form: type[_Form], raw: Mapping[str, Any]) -> _Form:
    try:
        return form.model_validate(raw)
    except ValidationError as error:
        meta = raw.get("metadata") or {}
        what = f"{raw.get('kind') or 'an object'} {meta.get('namespace', '')}/{meta.get('name', '')}"
        raise SourceError("Kubernetes", f"{what} has a form this bot does not know: {error}") from error
