"""Is the model that is served the one known to be good: checkpoint, revision, quantization, tokenizer, image?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from bot.fleet import Service, WorkloadRef
from bot.ports import Pod, SourceError, Sources, Workload
from bot.probes.asking import Later
from bot.probes.known_good import KnownGood, known_good
from bot.probes.naming import first, names
from bot.probes.served import ServingPod, service_of, serving_pods
from bot.vllm.differences import differences
from bot.vllm.identity import Identity, images_differ, numbers_differ, of_container, of_template

_ASKED = 8  # replicas that are asked what they have loaded


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    service: str


@dataclass(frozen=True, slots=True)
class Reading:
    """`…_changed`: the template that is in force now, against the known-good revision; None where there is none to
    compare with, or arguments cannot be seen."""

    model: str | None = None
    model_revision: str | None = None  # --revision, as given
    quantization: str | None = None  # --quantization, as given: most checkpoints bring their own
    image: str | None = None
    workload: str | None = None
    revision: int | None = None
    reference: str | None = None  # "revision 6, which served for 9 days"
    reference_revision: int | None = None
    reference_declared: bool | None = None
    model_changed: bool | None = None  # the checkpoint, its revision, or the volume that holds it
    model_before: str | None = None
    quantization_changed: bool | None = None
    tokenizer_changed: bool | None = None  # or the chat template
    sampling_changed: bool | None = None  # defaults of temperature and the like
    adapters_changed: bool | None = None  # LoRA: only requests that name one are concerned
    image_changed: bool | None = None
    image_before: str | None = None
    changed: str | None = None
    variants: int | None = None  # different identities among ready replicas of one workload
    variant_pod: str | None = None  # one of the fewer
    variant_pods: str | None = None
    digests_differ: bool | None = None  # the same tag, and different images
    rolling_out: bool | None = None
    served_root: str | None = None  # what /v1/models says was loaded
    served_differs: bool | None = None  # from the pod's own arguments
    pinned: bool | None = None
    missing: str | None = None


def observe(params: Params, sources: Sources) -> Reading:
    service = service_of(sources, params.service)
    pods_asked = Later(lambda: serving_pods(sources, service))
    roots_asked = Later(lambda: _roots(sources, pods_asked.get()))
    workload, reference, why = _compared(sources, service)
    if workload is None:
        return Reading(missing=why)
    now = of_template(workload.template)
    if now is None:
        return Reading(missing=f"no container of {workload.ref.name} runs vLLM")
    pods = pods_asked.get()
    roots, roots_missing = roots_asked.get()
    missing = [text for text in (why, now.hidden, roots_missing) if text]
    return Reading(
        model=now.model,
        model_revision=now.weights.get("revision"),
        quantization=now.numbers.get("quantization"),
        image=now.image,
        workload=workload.ref.name,
        revision=workload.revision,
        **_changes(now, workload, reference),
        **_variants(pods),
        rolling_out=not workload.settled,
        served_root=names(roots.values()),
        served_differs=_served_differs(pods, roots),
        pinned=now.pinned,
        missing="; ".join(missing) or None,
    )


# ---------------------------------------------------------------------------------------------- against the good one


def _compared(sources: Sources, service: Service) -> tuple[Workload | None, KnownGood | None, str | None]:
    """The first workload of the service that differs from its known-good revision; else its first."""
    found: list[tuple[Workload, KnownGood | None, str | None]] = []
    for ref in service.workloads:
        workload = sources.cluster.workload(ref)
        if workload is not None:
            good, why = _good(sources, ref, workload)
            found.append((workload, good, why))
            if good is not None and of_template(good.revision.template) != of_template(workload.template):
                return found[-1]
    return found[0] if found else (None, None, f"{names(map(str, service.workloads))} does not exist")


def _good(sources: Sources, ref: WorkloadRef, workload: Workload) -> tuple[KnownGood | None, str | None]:
    if ref.kind != "Deployment":
        return None, f"a {ref.kind} keeps no old templates that this bot reads"
    return known_good(workload, sources.cluster.revisions(ref))


def _changes(now: Identity, workload: Workload, reference: KnownGood | None) -> dict[str, Any]:
    if reference is None:
        return {}
    told: dict[str, Any] = {
        "reference": reference.words,
        "reference_revision": reference.revision.number,
        "reference_declared": reference.declared,
        "changed": differences(reference.revision.template, workload.template).text or "nothing",
    }
    then = of_template(reference.revision.template)
    if then is None:
        return told
    hidden = now.hidden is not None or then.hidden is not None

    def changed(*pairs: tuple[object, object]) -> bool | None:
        return True if any(one != other for one, other in pairs) else None if hidden else False

    numbers = numbers_differ(then, now)
    return told | {
        "model_changed": changed((now.model, then.model), (now.weights, then.weights), (now.volumes, then.volumes)),
        "model_before": then.model,
        "quantization_changed": None if hidden and numbers is False else numbers,
        "tokenizer_changed": changed((now.text, then.text), (now.text_volumes, then.text_volumes)),
        "sampling_changed": changed((now.choice, then.choice)),
        "adapters_changed": changed((now.adapters, then.adapters)),
        "image_changed": images_differ(then.image, now.image),
        "image_before": then.image,
    }


# ---------------------------------------------------------------------------------------------- among the replicas


def _variants(pods: Sequence[ServingPod]) -> dict[str, Any]:
    """The workload with the most of them counts."""
    by_workload: dict[str, list[ServingPod]] = {}
    for pod in pods:
        if pod.pod.ready:
            by_workload.setdefault(_workload_of(pod.pod), []).append(pod)
    if not by_workload:
        return {}
    most = max(by_workload.values(), key=lambda group: len(_groups(group)))
    groups = sorted(_groups(most).values(), key=len)
    digests: dict[str, set[str]] = {}
    for group in by_workload.values():
        for pod in group:
            if digest := _digest(pod):
                digests.setdefault(pod.container.image, set()).add(digest)
    fewer = groups[0] if len(groups) > 1 else []
    return {
        "variants": len(groups),
        "variant_pod": first(pod.pod.name for pod in fewer),
        "variant_pods": names(pod.pod.name for pod in fewer),
        "digests_differ": any(len(found) > 1 for found in digests.values()) if digests else None,
    }


def _workload_of(pod: Pod) -> str:
    """Pods of one Deployment by its name: the ReplicaSet's without its hash."""
    owner = pod.owner or pod.name
    return owner.rpartition("-")[0] if pod.owner_kind == "ReplicaSet" else owner


def _groups(pods: Sequence[ServingPod]) -> dict[str, list[ServingPod]]:
    groups: dict[str, list[ServingPod]] = {}
    for pod in pods:
        groups.setdefault(str(of_container(pod.container)), []).append(pod)
    return groups


def _digest(pod: ServingPod) -> str:
    """ "" where the node does not tell one, as for an image that was loaded by hand."""
    return pod.container.image_id.rpartition("@")[2] if "@" in pod.container.image_id else ""


def _roots(sources: Sources, pods: Sequence[ServingPod]) -> tuple[Mapping[str, str], str | None]:
    """By pod, what its server says it has loaded: `root` is the base model's path or name."""
    asked = [
        (pod.pod.name, Later(_asking(sources, pod.address)))
        for pod in pods
        if pod.pod.ready and pod.address is not None
    ][:_ASKED]
    roots: dict[str, str] = {}
    missing = None
    for name, later in asked:
        try:
            base = next((m for m in later.get() or () if m.get("parent") is None), {})
        except SourceError as error:
            missing = str(error)
            continue
        if isinstance(root := base.get("root"), str):
            roots[name] = root
    return roots, missing


def _asking(sources: Sources, address: str) -> Callable[[], tuple[Mapping[str, Any], ...] | None]:
    return lambda: sources.engines.models(address)


def _served_differs(pods: Sequence[ServingPod], roots: Mapping[str, str]) -> bool | None:
    known = [
        (pod.arguments.model, roots[pod.pod.name])
        for pod in pods
        if pod.pod.name in roots and pod.arguments.model is not None and pod.arguments.hidden is None
    ]
    return any(given != served for given, served in known) if known else None
