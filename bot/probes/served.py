"""The pods that serve a service: how their series are selected, what they run with, and why they may be silent."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bot.fleet import Service, WorkloadRef
from bot.ports import Container, Metrics, Node, Pod, SourceError, Sources
from bot.probes.asking import Later, whole
from bot.vllm import placement, series
from bot.vllm.arguments import Arguments, arguments_of, serving_container
from bot.vllm.config_file import mounted_from, options_of
from bot.vllm.defaults import Effective, Gpu, Version, effective, gpu_of, version_in, version_of
from bot.vllm.stuck import ENDED, living


def service_of(sources: Sources, name: str) -> Service:
    service = sources.fleet.service(name)
    if service is None:
        known = ", ".join(s.name for s in sources.fleet.services) or "none"
        raise SourceError("fleet.yaml", f"declares no service {name!r}", f"It has: {known}.")
    return service


# ------------------------------------------------------------------------------------------- series


def selector_of(sources: Sources, service: Service, *, prefix: str = "") -> str:
    """Label matchers for all pods of the service, of all its revisions: `namespace="llm",pod=~"chat-7d9f-[a-z0-9]{5}"`.

    prefix: "exported_" for an exporter whose own labels Prometheus has renamed.
    Where the API server cannot tell the ReplicaSets (it is down, or the question is about the past), the pods are told
    by the form of their names.
    """
    found = [(ref, Later(_replica_sets(sources, ref))) for ref in service.workloads]
    patterns: dict[str, list[str]] = {}
    for ref, asked in found:
        patterns.setdefault(ref.namespace, []).extend(_patterns(ref, asked))
    return series.pods_matcher(patterns, prefix=prefix)


def _replica_sets(sources: Sources, ref: WorkloadRef) -> Callable[[], tuple[str, ...]]:
    def ask() -> tuple[str, ...]:
        if ref.kind == "StatefulSet":
            return ()
        return tuple(revision.replica_set for revision in sources.cluster.revisions(ref))

    return ask


def _patterns(ref: WorkloadRef, asked: Later[tuple[str, ...]]) -> list[str]:
    if ref.kind == "StatefulSet":
        return [series.pods_of_stateful_set(ref.name)]
    try:
        names = asked.get()
    except SourceError:
        names = ()
    return [series.pods_of_replica_set(name) for name in names] or [series.pods_of_deployment(ref.name)]


def reporting(sources: Sources, selector: str) -> int:
    """How many pods export engine metrics now: what tells a silent service from an idle one."""
    return len(whole(sources.metrics, f"count by (namespace, pod) ({series.RUNNING}{{{selector}}})").samples)


def why_silent(metrics: Metrics, selector: str) -> str:
    """Why there are no engine metrics for these pods, as far as Prometheus can tell."""
    scraped = Later(lambda: whole(metrics, f"up{{{selector}}}"))
    renamed = Later(lambda: whole(metrics, f'count by (__name__) ({{__name__=~".+num_requests_running",{selector}}})'))
    up = scraped.get().samples
    if not up:
        return "Prometheus scrapes none of its pods"
    if not any(sample.value for sample in up):
        return f"Prometheus cannot scrape its {len(up)} pods (up is 0)"
    names = sorted(sample.labels.get("__name__", "?") for sample in renamed.get().samples)
    if names:
        return f"{series.RUNNING} is not exported; {', '.join(names)} is: was it renamed by relabelling?"
    return f"its pods are scraped, but export no {series.RUNNING} (--disable-log-stats?)"


# ------------------------------------------------------------------------------------------- pods


@dataclass(frozen=True, slots=True)
class ServingPod:
    pod: Pod
    container: Container
    arguments: Arguments
    version: Version | None  # by its image's tag; or as its server says
    gpu: Gpu | None
    effective: Effective

    @property
    def address(self) -> str | None:
        """Where vLLM's own API listens; None without an IP."""
        ports = self.container.ports
        port = self.arguments.number("port") or ports.get("http") or next(iter(ports.values()), 8000)
        return f"{self.pod.ip}:{port}" if self.pod.ip else None


def pods_of(sources: Sources, service: Service, *, leaving: bool = False, ended: bool = False) -> tuple[Pod, ...]:
    """All revisions; without those that are being deleted (`leaving`: with them) or have ended (`ended`)."""
    asked = [Later(_pods(sources, ref)) for ref in service.workloads]
    pods = tuple(pod for later in asked for pod in later.get())
    alive = {pod.uid or pod.name for pod in living(pods)}
    return tuple(
        pod
        for pod in pods
        if (pod.uid or pod.name) in alive
        or (ended and pod.phase in ENDED)
        or (leaving and pod.deleted_at is not None and pod.phase not in ENDED)
    )


def _pods(sources: Sources, ref: WorkloadRef) -> Callable[[], tuple[Pod, ...]]:
    return lambda: sources.cluster.pods_of(ref)


def room_for(sources: Sources, service: Service) -> int | None:
    """How many more replicas of the service's first workload the free GPUs have room for; None without GPUs, or
    without the workload."""
    ref = service.workloads[0]
    free, nodes = Later(sources.cluster.free_gpus), Later(sources.cluster.nodes)
    pods = Later(_pods(sources, ref))
    workload = sources.cluster.workload(ref)
    if workload is None or not placement.gpus_of(workload.template):
        return None
    hosts = {pod.node for pod in living(pods.get()) if pod.node is not None}
    return sum(placement.room(workload.template, nodes.get(), free.get(), hosts=hosts).values())


def serving_pods(sources: Sources, service: Service) -> tuple[ServingPod, ...]:
    nodes_asked = Later(sources.cluster.nodes)
    pods = pods_of(sources, service)
    nodes = {node.name: node for node in nodes_asked.get()}
    return tuple(serving for pod in pods if (serving := _serving(sources, pod, nodes.get(pod.node or ""))) is not None)


def _serving(sources: Sources, pod: Pod, node: Node | None) -> ServingPod | None:
    container = serving_container(pod.containers)
    if container is None:
        return None
    arguments = arguments_of(container)
    if arguments.config is not None:
        arguments = _with_config(sources, pod, container, arguments)
    version = version_of(container.image)
    gpu = gpu_of(node.labels, node.gpu_product) if node is not None else None
    return ServingPod(pod, container, arguments, version, gpu, effective(arguments, version, gpu))


def _with_config(sources: Sources, pod: Pod, container: Container, arguments: Arguments) -> Arguments:
    """Those of its --config file, too, where that comes from a ConfigMap, the bot may read it, and it is still what the
    replica has read at its start."""
    source = mounted_from(container, arguments.config or "")
    if source is None:
        return arguments
    name, key = source
    try:
        found = sources.cluster.config_map(pod.namespace, name)
    except SourceError as error:
        return replace(arguments, hidden=f"{arguments.hidden} (ConfigMap {name}: {error.why})")
    started = container.state.at if container.state is not None else None
    if found is None or key not in found.data:
        why = f"ConfigMap {name} has no {key}"
    elif started is None or found.changed_at is None or found.changed_at > started:
        why = f"ConfigMap {name} may have changed since it started"
    else:
        try:
            return arguments_of(container, options_of(found.data[key]))
        except ValueError as error:
            why = f"{key} of ConfigMap {name}: {error}"
    return replace(arguments, hidden=f"{arguments.hidden} ({why})")


def by_their_servers(sources: Sources, pods: tuple[ServingPod, ...]) -> tuple[ServingPod, ...]:
    """With the defaults of the version that a ready replica of the same image says itself; where none says, of the one
    that the image's tag tells."""
    asked: dict[tuple[str, str], Later[str | None]] = {}
    for pod in pods:
        if pod.pod.ready and pod.address is not None and _image(pod) not in asked:
            asked[_image(pod)] = Later(_version(sources, pod.address))
    said = {image: version_in(text) for image, later in asked.items() if (text := later.get()) is not None}
    return tuple(
        replace(pod, version=version, effective=effective(pod.arguments, version, pod.gpu))
        if (version := said.get(_image(pod))) is not None
        else pod
        for pod in pods
    )


def _image(pod: ServingPod) -> tuple[str, str]:
    return pod.container.image, pod.container.image_id


def _version(sources: Sources, address: str) -> Callable[[], str | None]:
    def ask() -> str | None:
        try:
            return sources.engines.version(address)
        except SourceError:
            return None

    return ask
