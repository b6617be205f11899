"""Fakes of the ports, for unit tests only. Each passes the contract test that the real part passes.

    cluster = FakeCluster()
    chat = cluster.add_workload(namespace="llm", name="chat", replicas=3, args=["--max-num-seqs=256"])
    cluster.add_node("gpu-01", gpus=8)
    metrics = FakeMetrics({"num_requests_waiting": 138.0})      # longest key that the query contains wins
    sources = fake_sources(cluster=cluster, metrics=metrics)

A fake with `down` set raises it from every method, as a source that does not answer.
"""

import copy
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from bot.fleet import Fleet, Role, WorkloadRef
from bot.gpu_readings import EventPage, GpuEvent, GpuNode
from bot.ports import (
    Alerts,
    Answer,
    Autoscaler,
    Budget,
    Change,
    Completion,
    ConfigMap,
    ConflictError,
    Container,
    ContainerState,
    Controls,
    Engines,
    Event,
    FiringAlert,
    Gpus,
    Metrics,
    Node,
    Pod,
    Requirement,
    Revision,
    Sample,
    Series,
    SourceError,
    Sources,
    Workload,
)

NOW = datetime(2026, 11, 24, 2, 13, tzinfo=UTC)
NOT_ANSWERING = SourceError("Fake", "did not answer within 10 s", retryable=True)


# ---------------------------------------------------------------------------------------------- Kubernetes


def container(
    name: str = "vllm",
    *,
    image: str = "vllm/vllm-openai:v0.32.0",
    command: Sequence[str] = (),
    args: Sequence[str] = (),
    env: Mapping[str, str | None] | None = None,
    ports: Mapping[str, int] | None = None,
    gpus: int = 4,
    ready: bool = True,
    restart_count: int = 0,
    state: ContainerState | None = None,
    last_state: ContainerState | None = None,
) -> Container:
    return Container(
        name,
        image,
        tuple(command),
        tuple(args),
        env or {},
        ports or {"http": 8000},
        gpus,
        ready,
        restart_count,
        state or ContainerState("running", at=NOW - timedelta(hours=1)),
        last_state,
    )


def template(
    *, image: str = "vllm/vllm-openai:v0.32.0", args: Sequence[str] = (), labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A pod template as the API server has it, as far as anybody looks."""
    one = {"name": "vllm", "image": image, "args": list(args), "ports": [{"name": "http", "containerPort": 8000}]}
    return {"metadata": {"labels": dict(labels or {})}, "spec": {"containers": [one]}}


@dataclass
class FakeCluster:
    """Implements ClusterReader and ClusterWriter. What it holds are the ports' own values: change them as you like.

    A change is seen at once in `workloads`; pods follow when `settle` is called, as if the controllers had run.
    """

    workloads: dict[WorkloadRef, Workload] = field(default_factory=dict)
    history: dict[WorkloadRef, list[Revision]] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    machines: dict[str, Node] = field(default_factory=dict)
    happened: list[tuple[str, Event]] = field(default_factory=list)  # with their namespace
    autoscalers: dict[WorkloadRef, Autoscaler] = field(default_factory=dict)
    logs: dict[tuple[str, str, str, bool], str] = field(default_factory=dict)  # namespace, pod, container, previous
    limits: list[Budget] = field(default_factory=list)  # disruption budgets; `budgets` counts their pods
    config_maps: dict[tuple[str, str], ConfigMap] | None = None  # by namespace and name; None: they may not be read
    changes: list[tuple[str, WorkloadRef | str]] = field(default_factory=list)  # real ones, in order
    leads: bool = True
    down: SourceError | None = None
    _number: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _starting: set[str] = field(default_factory=set)  # uids

    # ------------------------------------------------------------------------------------------------ arrange

    def add_workload(
        self,
        *,
        namespace: str = "llm",
        name: str = "chat",
        kind: str = "Deployment",
        replicas: int = 3,
        image: str = "vllm/vllm-openai:v0.32.0",
        args: Sequence[str] = (),
        gpus: int = 4,
        node: str | None = "gpu-01",
        cause: str | None = None,
        managed_by: str | None = None,
        max_surge: int | None = 1,
        max_unavailable: int | None = 0,
    ) -> WorkloadRef:
        """A settled workload with ready pods, and its first revision."""
        ref = WorkloadRef(namespace=namespace, kind=kind, name=name)  # type: ignore[arg-type]
        pod_template = template(image=image, args=args, labels={"app": name})
        self.workloads[ref] = Workload(
            ref=ref,
            desired=replicas,
            ready=replicas,
            updated=replicas,
            unavailable=0,
            paused=False,
            template=pod_template,
            labels={"app": name},
            annotations={"kubernetes.io/change-cause": cause} if cause else {},
            selector={"app": name},
            revision=1 if kind == "Deployment" else None,
            generation=1,
            observed_generation=1,
            conditions={"Available": (True, "")} if kind == "Deployment" else {},
            managed_by=managed_by,
            max_surge=max_surge if kind == "Deployment" else 0,
            max_unavailable=max_unavailable if kind == "Deployment" else 1,
        )
        self.history[ref] = []
        if kind == "Deployment":
            self.history[ref].append(self._revision(ref, 1, pod_template, cause, replicas))
        for _ in range(replicas):
            self.add_pod(ref, args=args, image=image, gpus=gpus, node=node)
        return ref

    def add_pod(
        self,
        ref: WorkloadRef,
        *,
        args: Sequence[str] = (),
        image: str = "vllm/vllm-openai:v0.32.0",
        gpus: int = 4,
        node: str | None = "gpu-01",
        ready: bool = True,
        unschedulable: str | None = None,
        containers: Sequence[Container] | None = None,
    ) -> Pod:
        """One more pod of the workload's current revision. `node=None`: not scheduled."""
        number = next(self._number)
        owner = self.history[ref][0].replica_set if ref.kind == "Deployment" else ref.name
        pod = Pod(
            namespace=ref.namespace,
            name=f"{owner}-{number:05x}" if ref.kind == "Deployment" else f"{owner}-{len(self.pods_of(ref))}",
            labels={"app": ref.name},
            annotations={},
            node=node,
            ip=f"127.9.0.{number}" if node else None,
            phase="Running" if node else "Pending",
            ready=ready and node is not None,
            created_at=NOW - timedelta(hours=1),
            ready_at=NOW - timedelta(minutes=55) if ready and node else None,
            deleted_at=None,
            owner=owner,
            owner_kind="ReplicaSet" if ref.kind == "Deployment" else "StatefulSet",
            unschedulable=unschedulable,
            containers=tuple(containers or [container(args=args, image=image, gpus=gpus, ready=ready)]),
            uid=f"uid-{number}",
        )
        self.pods.append(pod)
        return pod

    def add_bare_pod(self, name: str, *, node: str = "gpu-01", owner_kind: str | None = None, **fields: Any) -> Pod:
        """A pod of no workload that the bot knows: of a DaemonSet, of a Job, or of nobody (`owner_kind=None`)."""
        like = self.add_pod(self.add_workload(name=name, replicas=0), node=node, gpus=fields.pop("gpus", 0))
        ref = next(ref for ref in self.workloads if ref.name == name)
        del self.workloads[ref], self.history[ref]
        pod = replace(like, name=name, owner=name if owner_kind else None, owner_kind=owner_kind, **fields)
        self.pods[self.pods.index(like)] = pod
        return pod

    def add_budget(self, ref: WorkloadRef, *, minimum: int, name: str | None = None, **fields: Any) -> None:
        selector = (Requirement("app", "In", (ref.name,)),)
        budget = Budget(ref.namespace, name or ref.name, selector, 0, 0, minimum, 0, unready_may_go=False)
        self.limits.append(replace(budget, **fields))

    def add_node(
        self,
        name: str,
        *,
        gpus: int = 8,
        ready: bool | None = True,
        schedulable: bool = True,
        product: str | None = "NVIDIA-H100-80GB-HBM3",
        conditions: Mapping[str, bool] | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[str] = (),
    ) -> Node:
        known = {**({} if ready is None else {"Ready": ready}), **(conditions or {})}
        node = Node(name, ready, schedulable, known, labels or {}, {}, tuple(taints), gpus, product)
        self.machines[name] = node
        return node

    def add_revision(self, ref: WorkloadRef, *, cause: str | None = None, **changed: Any) -> Revision:
        """An older revision below those that are there; `changed` as for `template`."""
        number = self.history[ref][-1].number
        self.history[ref] = [replace(one, number=one.number + 1) for one in self.history[ref]]
        workload = self.workloads[ref]
        self.workloads[ref] = replace(workload, revision=(workload.revision or 0) + 1)
        older = self._revision(ref, number, template(labels={"app": ref.name}, **changed), cause, 0)
        self.history[ref].append(older)
        return older

    def add_event(self, namespace: str, kind: str, name: str, reason: str, message: str = "", **more: Any) -> None:
        event = Event(NOW, kind, name, "Warning", reason, message, 1)
        self.happened.append((namespace, replace(event, **more)))

    def settle(self, ref: WorkloadRef, *, ready: int | None = None) -> None:
        """As if the controllers had run: all pods are of the current revision, `ready` of them ready."""
        workload = self.workloads[ref]
        count = workload.desired if ready is None else ready
        mine = {pod.name for pod in self.pods_of(ref)}
        like = next((pod for pod in self.pods if pod.name in mine), None)
        self.pods = [pod for pod in self.pods if pod.name not in mine]
        first = workload.template["spec"]["containers"][0]
        for number in range(workload.desired):
            self.add_pod(
                ref,
                args=first.get("args") or (),
                image=first["image"],
                gpus=like.gpus if like else 4,
                node=like.node if like else "gpu-01",
                ready=number < count,
            )
        if self.history[ref]:
            rest = [replace(one, replicas=0, ready=0) for one in self.history[ref][1:]]
            self.history[ref] = [replace(self.history[ref][0], replicas=workload.desired, ready=count), *rest]
        self.workloads[ref] = replace(
            workload,
            ready=count,
            updated=workload.desired,
            unavailable=workload.desired - count,
            observed_generation=workload.generation,
        )

    def replace_pods(self, *, ready: bool = True) -> None:
        """As if controllers, scheduler and kubelets had run: pods asked to go are gone, missing ones are there,
        on the first node that has room; and, if `ready`, those that this made are ready."""
        self.pods = [pod for pod in self.pods if pod.deleted_at is None]
        for ref, workload in self.workloads.items():
            mine = self.pods_of(ref)
            gpus = mine[0].gpus if mine else 4
            for _ in range(workload.desired - len(mine)):
                node = next((name for name, free in sorted(self.free_gpus().items()) if free >= gpus), None)
                words = None if node else f"0/{len(self.machines)} nodes are available: Insufficient nvidia.com/gpu."
                made = self.add_pod(ref, gpus=gpus, node=node, ready=False, unschedulable=words)
                self._starting.add(made.uid)
        if ready:
            begun = {pod.uid for pod in self.pods if pod.uid in self._starting and pod.node is not None}
            self.pods = [replace(p, ready=True, ready_at=NOW) if p.uid in begun else p for p in self.pods]
            self._starting -= begun
        self._count_ready()

    def _count_ready(self) -> None:
        for ref, workload in self.workloads.items():
            ready = sum(1 for pod in self.pods_of(ref) if pod.ready and pod.deleted_at is None)
            self.workloads[ref] = replace(workload, ready=ready, unavailable=max(0, workload.desired - ready))

    def _revision(
        self, ref: WorkloadRef, number: int, pod_template: Mapping[str, Any], cause: str | None, replicas: int
    ) -> Revision:
        images = tuple(one["image"] for one in pod_template["spec"]["containers"])
        replica_set = f"{ref.name}-{next(self._number):09x}"
        at = NOW - timedelta(hours=1)
        return Revision(number, replica_set, at, cause, images, copy.deepcopy(pod_template), replicas, replicas)

    # ------------------------------------------------------------------------------------------------ ClusterReader

    def pod(self, namespace: str, name: str) -> Pod | None:
        self._answer()
        return next((pod for pod in self.pods if (pod.namespace, pod.name) == (namespace, name)), None)

    def pods_of(self, ref: WorkloadRef) -> tuple[Pod, ...]:
        self._answer()
        owners = {one.replica_set for one in self.history.get(ref, ())} if ref.kind == "Deployment" else {ref.name}
        return tuple(pod for pod in self.pods if pod.namespace == ref.namespace and pod.owner in owners)

    def pods_on_node(self, node: str) -> tuple[Pod, ...]:
        self._answer()
        return tuple(pod for pod in self.pods if pod.node == node)

    def pods_labelled(self, namespace: str, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        self._answer()
        return tuple(p for p in self.pods if p.namespace == namespace and labels.items() <= p.labels.items())

    def workload(self, ref: WorkloadRef) -> Workload | None:
        self._answer()
        return self.workloads.get(ref)

    def workload_of(self, pod: Pod) -> WorkloadRef | None:
        self._answer()
        if pod.owner is None:
            return None
        if pod.owner_kind not in ("ReplicaSet", "StatefulSet"):
            raise SourceError("Kubernetes", f"pod {pod.namespace}/{pod.name} belongs to {pod.owner_kind} {pod.owner}")
        for ref in self.workloads:
            owners = {one.replica_set for one in self.history[ref]} if ref.kind == "Deployment" else {ref.name}
            if ref.namespace == pod.namespace and pod.owner in owners:
                return ref
        raise SourceError("Kubernetes", f"{pod.owner_kind} {pod.owner} is gone", retryable=True)

    def revisions(self, ref: WorkloadRef) -> tuple[Revision, ...]:
        self._answer()
        return tuple(self.history.get(ref, ()))

    def node(self, name: str) -> Node | None:
        self._answer()
        return self.machines.get(name)

    def nodes(self) -> tuple[Node, ...]:
        self._answer()
        return tuple(self.machines.values())

    def free_gpus(self) -> Mapping[str, int]:
        self._answer()
        usable = [node for node in self.machines.values() if node.ready and node.schedulable and node.gpus]
        used = {node.name: sum(pod.gpus for pod in self.pods if pod.node == node.name) for node in usable}
        return {node.name: node.gpus - used[node.name] for node in usable}

    def events(self, namespace: str, kind: str, name: str) -> tuple[Event, ...]:
        self._answer()
        about = [event for there, event in self.happened if (there, event.kind, event.name) == (namespace, kind, name)]
        return tuple(sorted(about, key=lambda event: event.at or datetime.min.replace(tzinfo=UTC), reverse=True))

    def autoscaler_of(self, ref: WorkloadRef) -> Autoscaler | None:
        self._answer()
        return self.autoscalers.get(ref)

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        self._answer()
        if self.config_maps is None:
            raise SourceError("Kubernetes", f"may not get configmaps in {namespace}")
        return self.config_maps.get((namespace, name))

    def budgets(self, namespace: str) -> tuple[Budget, ...]:
        self._answer()
        return tuple(self._counted(budget) for budget in self.limits if budget.namespace == namespace)

    def _counted(self, budget: Budget) -> Budget:
        mine = [pod for pod in self.pods if budget.selects(pod) and pod.deleted_at is None]
        healthy = sum(1 for pod in mine if pod.ready)
        return replace(budget, expected=len(mine), healthy=healthy, allowed=max(0, healthy - budget.needed))

    def pod_logs(self, namespace: str, pod: str, container: str, *, tail: int, previous: bool = False) -> str:
        self._answer()
        if self.pod(namespace, pod) is None:
            raise SourceError("Kubernetes", f'pods "{pod}" not found')
        lines = self.logs.get((namespace, pod, container, previous), "").splitlines(keepends=True)
        return "".join(lines[-tail:])

    # ------------------------------------------------------------------------------------------------ ClusterWriter

    def scale(self, ref: WorkloadRef, *, before: int, after: int, dry_run: bool = False) -> Change:
        there = self._there(ref)
        if there.desired != before:
            raise ConflictError("Kubernetes", f"{ref} has {there.desired} replicas now, not {before} as shown.")
        self._ask_leader(dry_run)
        changed = replace(there, desired=after, generation=there.generation + 1)
        return self._changed("scale", ref, there, changed, dry_run)

    def set_template(
        self,
        ref: WorkloadRef,
        *,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        cause: str,
        dry_run: bool = False,
    ) -> Change:
        there = self._there(ref)
        if there.template != before:
            raise ConflictError("Kubernetes", f"the pod template of {ref} is no longer the one shown.")
        self._ask_leader(dry_run)
        changed = replace(
            there,
            template=copy.deepcopy(dict(after)),
            annotations={**there.annotations, "kubernetes.io/change-cause": cause},
            generation=there.generation + 1,
            updated=0,
        )
        if ref.kind == "Deployment" and not dry_run:
            changed = self._roll(ref, changed, cause)
        return self._changed("set_template", ref, there, changed, dry_run)

    def _roll(self, ref: WorkloadRef, changed: Workload, cause: str) -> Workload:
        """A template that was there before is taken up again under a new number, as the Deployment controller does."""
        number = self.history[ref][0].number + 1
        same = next((one for one in self.history[ref] if one.template == changed.template), None)
        rest = [one for one in self.history[ref] if one is not same]
        fresh = same or self._revision(ref, number, changed.template, cause, 0)
        self.history[ref] = [replace(fresh, number=number, change_cause=cause), *rest]
        return replace(changed, revision=number)

    def set_schedulable(self, node: str, *, before: bool, after: bool, dry_run: bool = False) -> Change:
        self._answer()
        if node not in self.machines:
            raise SourceError("Kubernetes", f'nodes "{node}" not found')
        there = self.machines[node]
        if there.schedulable != before:
            raise ConflictError("Kubernetes", f"{node} is {'schedulable' if there.schedulable else 'cordoned'} now")
        self._ask_leader(dry_run)
        if not dry_run:
            self.machines[node] = replace(there, schedulable=after)
            self.changes.append(("uncordon" if after else "cordon", node))
        return Change(_node_object(node, before), _node_object(node, after))

    def evict(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> str | None:
        there = self.pod(namespace, pod)
        if there is None or there.uid != uid:
            return None
        self._ask_leader(dry_run)
        found = [budget for budget in self.budgets(namespace) if budget.selects(there)]
        if len(found) > 1:
            raise SourceError("Kubernetes", "This pod has more than one PodDisruptionBudget", retryable=True)
        if found and there.deleted_at is None and not _may_go(there, found[0]):
            budget = found[0]
            needs = f"needs {budget.needed} healthy pods and has {budget.healthy} currently"
            return f"The disruption budget {budget.name} {needs}"
        self._end(there, "evict", dry_run)
        return None

    def delete_pod(self, namespace: str, pod: str, *, uid: str, dry_run: bool = False) -> None:
        there = self.pod(namespace, pod)
        self._ask_leader(dry_run)
        if there is not None and there.uid == uid:
            self._end(there, "delete", dry_run)

    def _end(self, pod: Pod, what: str, dry_run: bool) -> None:
        if dry_run:
            return
        self.pods[self.pods.index(pod)] = replace(pod, deleted_at=pod.deleted_at or NOW)
        self.changes.append((what, f"{pod.namespace}/{pod.name}"))
        self._count_ready()

    def _changed(self, what: str, ref: WorkloadRef, there: Workload, changed: Workload, dry_run: bool) -> Change:
        if not dry_run:
            self.workloads[ref] = changed
            self.changes.append((what, ref))
        return Change(_object(there), _object(changed))

    def _there(self, ref: WorkloadRef) -> Workload:
        self._answer()
        if ref not in self.workloads:
            raise SourceError("Kubernetes", f"{ref} not found")
        return self.workloads[ref]

    def _ask_leader(self, dry_run: bool) -> None:
        if not dry_run and not self.leads:
            raise SourceError("Kubernetes", "nothing was sent: another replica of the bot leads now")

    def _answer(self) -> None:
        if self.down is not None:
            raise self.down


def _may_go(pod: Pod, budget: Budget) -> bool:
    if pod.ready:
        return budget.allowed > 0
    # An unready one goes where the others are enough, or where the budget says that it may always go.
    return budget.unready_may_go or budget.healthy >= budget.needed > 0


def _node_object(node: str, schedulable: bool) -> dict[str, Any]:
    return {"kind": "Node", "metadata": {"name": node}, "spec": {} if schedulable else {"unschedulable": True}}


def _object(workload: Workload) -> dict[str, Any]:
    return {
        "kind": workload.ref.kind,
        "metadata": {
            "name": workload.ref.name,
            "namespace": workload.ref.namespace,
            "annotations": dict(workload.annotations),
        },
        "spec": {"replicas": workload.desired, "template": copy.deepcopy(dict(workload.template))},
    }


# ---------------------------------------------------------------------------------------------- Prometheus

Told = float | Answer | SourceError | Callable[[str, datetime | None], Answer]


@dataclass
class FakeMetrics:
    """`answers`: a part of the query → what comes back (a number is one sample without labels). The longest key that
    the query contains wins; a query that contains none gets no samples, as an absent metric does."""

    answers: Mapping[str, Told] = field(default_factory=dict)
    graphs: Mapping[str, tuple[Series, ...] | SourceError] = field(default_factory=dict)
    firing: tuple[FiringAlert, ...] = ()
    asked: list[str] = field(default_factory=list)
    down: SourceError | None = None
    time: datetime | None = None

    def instant(self, query: str) -> Answer:
        self._asked(query)
        told = self.answers.get(_longest(self.answers, query), Answer(()))
        if isinstance(told, SourceError):
            raise told
        if isinstance(told, Answer):
            return told
        if isinstance(told, float | int):
            return Answer((Sample({}, float(told), self.time or NOW),))
        return told(query, self.time)

    def range(self, query: str, start: datetime, end: datetime, step_seconds: float) -> tuple[Series, ...]:
        self._asked(query)
        told = self.graphs.get(_longest(self.graphs, query), ())
        if isinstance(told, SourceError):
            raise told
        return tuple(replace(one, points=tuple(p for p in one.points if start <= p[0] <= end)) for one in told)

    def at(self, time: datetime) -> Self:
        return replace(self, time=time)  # `asked` is shared

    def alerts(self) -> tuple[FiringAlert, ...]:
        if self.down is not None:
            raise self.down
        return self.firing

    def link(self, query: str) -> str:
        return f"http://prometheus.test/graph?g0.expr={query}"

    def _asked(self, query: str) -> None:
        self.asked.append(query)
        if self.down is not None:
            raise self.down


def _longest(keys: Mapping[str, Any], query: str) -> str:
    """ "" if none fits: no key is empty."""
    return max((key for key in keys if key in query), key=len, default="")


def series(*values: float, step_seconds: float = 15, end: datetime = NOW, **labels: str) -> Series:
    """A series whose last point is at `end`."""
    start = end - timedelta(seconds=step_seconds * (len(values) - 1))
    return Series(labels, tuple((start + timedelta(seconds=step_seconds * n), v) for n, v in enumerate(values)))


# ---------------------------------------------------------------------------------------------- the others

_MATCHER = re.compile(r'(?P<name>\w+)\s*(?P<op>=~|!~|!=|=)\s*"?(?P<value>.*?)"?')


@dataclass
class FakeAlerts:
    firing: tuple[FiringAlert, ...] = ()
    silences: dict[str, tuple[Mapping[str, str], datetime, str, str]] = field(default_factory=dict)
    down: SourceError | None = None

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]:
        if self.down is not None:
            raise self.down
        return tuple(alert for alert in self.firing if all(_matches(matcher, alert.labels) for matcher in matchers))

    def silence(self, matchers: Mapping[str, str], *, until: datetime, by: str, comment: str) -> str:
        if self.down is not None:
            raise self.down
        if not matchers:
            raise SourceError("Alertmanager", "no silence without a matcher: it would silence everything")
        wanted = (dict(matchers), until, by, comment)
        for known, silence in self.silences.items():
            if silence == wanted:
                return known
        made = f"silence-{len(self.silences) + 1}"
        self.silences[made] = wanted
        return made


def _matches(matcher: str, labels: Mapping[str, str]) -> bool:
    parts = _MATCHER.fullmatch(matcher)
    if parts is None:
        raise SourceError("Alertmanager", f"bad matcher {matcher!r}")
    value = labels.get(parts["name"], "")
    same = re.fullmatch(parts["value"], value) is not None if "~" in parts["op"] else value == parts["value"]
    return same != parts["op"].startswith("!")


ONE_TOKEN = Completion(ok=True, status=200, seconds=0.1, text="1")


@dataclass
class FakeEngine:
    """What one pod's address answers. `health=None`: nobody listens there."""

    health: int | None = 200
    version: str | None = "0.32.0"
    models: tuple[Mapping[str, Any], ...] | None = ({"id": "chat", "max_model_len": 16384},)
    completion: Completion = ONE_TOKEN
    completions: Mapping[str, Completion] = field(default_factory=dict)  # by prompt, instead
    with_logprobs: Completion | None = None  # what is answered where they are asked for, instead
    # Pages, one a question, the last again and again; or what is raised.
    pages: Sequence[tuple[Sample, ...] | SourceError | None] = ()
    tokens: tuple[int, ...] | SourceError | None = (1, 2, 3)
    vocabulary: Mapping[int, str] = field(default_factory=dict)  # another token's text is its number
    paused: bool | None = False  # None: the engine behind it did not say in time


@dataclass
class FakeEngines:
    """By address (`ip:port`). An address that is not there answers nothing. `asked`: who got a completion to do."""

    at: Mapping[str, FakeEngine] = field(default_factory=dict)
    down: SourceError | None = None
    asked: list[str] = field(default_factory=list)
    pages_seen: dict[str, int] = field(default_factory=dict)

    def health(self, address: str) -> int | None:
        return self._engine(address).health

    def version(self, address: str) -> str | None:
        engine = self._engine(address)
        return engine.version if engine.health is not None else None

    def models(self, address: str) -> tuple[Mapping[str, Any], ...] | None:
        engine = self._engine(address)
        return engine.models if engine.health is not None else None

    def complete(
        self,
        address: str,
        model: str,
        *,
        timeout_seconds: float,
        prompt: str = "1",
        max_tokens: int = 1,
        logprobs: bool = False,
    ) -> Completion:
        engine = self._engine(address)
        self.asked.append(address)
        if engine.health is None:
            return Completion(ok=False, status=None, seconds=0, text="")
        completion = engine.completions.get(prompt, engine.completion)
        if logprobs and engine.with_logprobs is not None:
            completion = engine.with_logprobs
        if completion.seconds > timeout_seconds:
            return Completion(ok=False, status=None, seconds=timeout_seconds, text="")
        return completion

    def metrics(self, address: str) -> tuple[Sample, ...] | None:
        engine = self._engine(address)
        if engine.health is None or not engine.pages:
            return None
        number = self.pages_seen.get(address, 0)
        self.pages_seen[address] = number + 1
        page = engine.pages[min(number, len(engine.pages) - 1)]
        if isinstance(page, SourceError):
            raise page
        return page

    def paused(self, address: str) -> bool | None:
        engine = self._engine(address)
        return engine.paused if engine.health is not None else None

    def tokenize(self, address: str, model: str, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        engine = self._engine(address)
        if isinstance(engine.tokens, SourceError):
            raise engine.tokens
        return engine.tokens if engine.health is not None else None

    def detokenize(self, address: str, model: str, tokens: Sequence[int]) -> str | None:
        engine = self._engine(address)
        text = "".join(engine.vocabulary.get(token, f"<{token}>") for token in tokens)
        return text if engine.health is not None else None

    def _engine(self, address: str) -> FakeEngine:
        if self.down is not None:
            raise self.down
        return self.at.get(address, FakeEngine(health=None))


@dataclass
class FakeGpus:
    """`nodes`: what the agent on each node answers. A node that is not there runs none."""

    nodes: dict[str, GpuNode] = field(default_factory=dict)
    happened: dict[str, tuple[GpuEvent, ...]] = field(default_factory=dict)
    down: SourceError | None = None

    def snapshot(self, node: str) -> GpuNode:
        self._answer(node)
        return self.nodes[node]

    def events(self, node: str, *, after: int = 0, ring: str | None = None, wait_seconds: float = 0) -> EventPage:
        self._answer(node)
        events = self.happened.get(node, ())
        since = after if ring in (None, "fake") else 0
        last = max((event.seq for event in events), default=0)
        return EventPage("fake", last, tuple(event for event in events if event.seq > since))

    def _answer(self, node: str) -> None:
        if self.down is not None:
            raise self.down
        if node not in self.nodes:
            raise SourceError("GPU agent", f"runs on no node {node}")


EMPTY_FLEET = Fleet(
    services=(),
    default_channel="#oncall",
    roles={"oncall": Role(users=("U1",))},
    approvals={"low": "oncall", "medium": "oncall", "high": "oncall"},
)


def fake_sources(
    *,
    cluster: FakeCluster | None = None,
    metrics: Metrics | None = None,
    alerts: Alerts | None = None,
    engines: Engines | None = None,
    fleet: Fleet = EMPTY_FLEET,
    now: datetime = NOW,
    window_seconds: float = 300,
    live: bool = True,
    gpus: Gpus | None = None,
) -> Sources:
    return Sources(
        cluster=cluster or FakeCluster(),
        metrics=metrics or FakeMetrics(),
        alerts=alerts or FakeAlerts(),
        engines=engines or FakeEngines(),
        fleet=fleet,
        now=now,
        window_seconds=window_seconds,
        live=live,
        gpus=gpus,
    )


def fake_controls(*, cluster: FakeCluster | None = None, alerts: Alerts | None = None) -> Controls:
    return Controls(cluster=cluster or FakeCluster(), alerts=alerts or FakeAlerts())
