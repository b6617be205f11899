"""One row on the fleet: a namespace, nodes and a deployment of its own; then what the row does, sees and asks."""

import logging
import string
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import Any

import requests

from sandbox.controlplane.api import ApiError
from sandbox.controlplane.cluster import Cluster, GpuNode, VllmDeployment
from sandbox.fault_table import doctor
from sandbox.fault_table.bot_side import BotSide, Diagnosed, now
from sandbox.fault_table.grading import Grade, Graded, graded
from sandbox.fault_table.ground import Ground
from sandbox.fault_table.outcome import NotShownError, Outcome
from sandbox.fault_table.rows import Container, Deed, Eviction, FleetFault, Offer, RollOut, Row, Sight
from sandbox.fleet.contract import GpuFault
from sandbox.prometheus import Job, Prometheus, Sample

log = logging.getLogger(__name__)

SERVICE = "chat"
_NEVER = 86_400.0  # a cold start that no row waits for
_POLL_SECONDS = 0.2
# Deadlines are for a machine that has other work, too; what is waited for comes in seconds on an idle one.
_SETTLED_SECONDS = 180.0
_SCRAPED_SECONDS = 120.0
_BEGUN_SECONDS = 60.0
_SCRAPES = 7  # a second apart: so many of each replica, and its state can be told from them
_LOOK_AGAIN_SECONDS = 4.0
_SHOWN = 600  # characters of what is seen instead


@dataclass(frozen=True)
class PinnedDeployment(VllmDeployment):
    """Only on the row's own nodes, so that rows side by side do not take each other's GPUs."""

    pinned_to: str = ""
    beside: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    max_unavailable: int = 0

    def manifests(self) -> list[dict[str, Any]]:
        made = super().manifests()
        spec = made[0]["spec"]
        template = spec["template"]["spec"]
        template["nodeSelector"] = {"vllm-oncall.sandbox/row": self.pinned_to}
        template["containers"] += [_small(name) for name in self.beside]
        if self.before:
            template["initContainers"] = [_small(name) for name in self.before]
        if self.max_unavailable:
            spec["strategy"]["rollingUpdate"] = {"maxSurge": 0, "maxUnavailable": self.max_unavailable}
        return made


def _small(name: str) -> dict[str, Any]:
    """A container of somebody else's, as sidecars are."""
    return {"name": name, "image": f"{name}:1", "resources": {"limits": {"cpu": "1", "memory": "128Mi"}}}


class Scene:
    def __init__(self, ground: Ground, row: Row, *, ask_doctor: bool = False) -> None:
        self.ground = ground
        self.row = row
        self.namespace = f"fault-{row.name}"
        self.prometheus: Prometheus = ground.prometheus
        self.bot: BotSide = ground.bot
        self.began: datetime | None = None
        self._ask_doctor = ask_doctor
        self._stack = ExitStack()
        self._numbers = count(1)  # of its faults, whose names are the fleet's for all rows

    # ------------------------------------------------------------------------------------------- the whole row

    def play(self) -> Outcome:
        begun = time.monotonic()
        try:
            with self._stack:
                self.set_up()
                return self.asked(begun)
        except Exception as error:
            # Around a row: the others go on, and the table says why this one never came to a diagnosis.
            log.debug("row %s failed", self.row.name, exc_info=True)
            return Outcome(self.row, None, None, time.monotonic() - begun, error=f"{type(error).__name__}: {error}")

    def asked(self, begun: float) -> Outcome:
        """Do, see, ask, compare."""
        for deed in self.row.do:
            self.do(deed)
        self.began = self.began or now()
        found, grade = self.looked(self.began)
        # Where less was said than could have been, a person looks again a moment later, as the bot does in its next
        # round. Something that is not so is never asked for twice.
        again = grade.grade is Grade.INCONCLUSIVE
        if again:
            time.sleep(_LOOK_AGAIN_SECONDS)
            found, grade = self.looked(self.began)
        said = self._second_opinion() if self._ask_doctor else None
        return Outcome(self.row, grade, found, time.monotonic() - begun, doctor=said, looks=2 if again else 1)

    def looked(self, began: datetime) -> tuple[Diagnosed, Graded]:
        """All that the row shows is there, and so the bot looks."""
        for sight in self.row.shows:
            self.see(sight)
        found = self.bot.diagnose(self.declared(), self.labels(), began)
        if found.runbook != self.row.runbook:
            raise NotShownError(f"the alert {dict(self.row.alert)} leads to the runbook {found.runbook}")
        return found, graded(self.row.expect, found.round.findings)

    def declared(self) -> Mapping[str, Any]:
        """The service as fleet.yaml declares it."""
        return {
            "name": SERVICE,
            "workloads": [{"namespace": self.namespace, "name": SERVICE}],
            "slo": dict(self.row.service.slo),
            "channel": "C0",
            "model": SERVICE,
            "cold_start_seconds": 3,
            **self.row.service.more,
        }

    def labels(self) -> dict[str, str]:
        return {name: self.filled(value) for name, value in self.row.alert.items()}

    def _second_opinion(self) -> str:
        return doctor.asked(self.metrics_url()) if self.pods() else "there is no server"

    def metrics_url(self) -> str:
        return f"http://{self.pod(0)['status'].get('podIP', '127.0.0.1')}:8000/metrics"

    # ------------------------------------------------------------------------------------------- setting up

    @property
    def nodes(self) -> list[str]:
        return [f"{self.row.name}-n{number + 1}" for number in range(self.row.service.nodes)]

    def set_up(self) -> None:
        service = self.row.service
        for name in self.nodes:
            self._add_node(name)
        self._stack.callback(self._delete_namespace)
        self.ground.cluster.deploy(self._deployment(service.model, service.flags, service.image))
        self.ground.cluster.wait_until_rolled_out(self.namespace, SERVICE, _SETTLED_SECONDS)
        # A replica that has only just begun to report is called unclear, and rightly: that is not what rows are about.
        self.prometheus.wait_for(
            f'count(count_over_time(vllm:num_requests_running{{namespace="{self.namespace}"}}[1m]) >= {_SCRAPES})',
            lambda found: bool(found) and found[0].value >= service.replicas,
            _SCRAPED_SECONDS,
        )

    def _deployment(self, model: str, flags: Mapping[str, str | int | float | None], image: str) -> PinnedDeployment:
        return PinnedDeployment(
            namespace=self.namespace,
            name=SERVICE,
            replicas=self.row.service.replicas,
            gpus=self.row.service.gpus,
            image=image,
            model=model,
            flags=flags,
            cold_start_seconds=1,
            pinned_to=self.row.name,
            beside=self.row.service.beside,
            before=self.row.service.before,
            max_unavailable=self.row.service.max_unavailable,
        )

    def _add_node(self, name: str) -> None:
        cluster: Cluster = self.ground.cluster
        with suppress(LookupError):
            cluster.add_node(GpuNode(name, gpus=self.row.service.gpus_per_node))
        self.ground.control_plane.api.patch(
            f"/api/v1/nodes/{name}", {"metadata": {"labels": {"vllm-oncall.sandbox/row": self.row.name}}}
        )
        self._stack.callback(cluster.remove_node, name)

    def _delete_namespace(self) -> None:
        with suppress(requests.RequestException, TimeoutError, ApiError):
            self.ground.cluster.delete_namespace(self.namespace)

    # ------------------------------------------------------------------------------------------- pods and words

    def pods(self) -> list[dict[str, Any]]:
        """The oldest first; those that are going are not counted."""
        found = self.ground.cluster.pods(self.namespace, SERVICE)
        living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(living, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def pod(self, which: int | str) -> dict[str, Any]:
        found = self.pods()
        index = -1 if which == "newest" else int(which)
        if not -len(found) <= index < len(found):
            raise LookupError(f"there is no pod {which} of {self.namespace}: {len(found)} are there")
        return found[index]

    def filled(self, text: str) -> str:
        if "$" not in text:
            return text
        pods = self.pods()
        words = {
            "namespace": self.namespace,
            "service": SERVICE,
            "pods": f'namespace="{self.namespace}"',
            "node": self.nodes[0],
            "pod": pods[0]["metadata"]["name"] if pods else "",
            "newest": pods[-1]["metadata"]["name"] if pods else "",
        }
        return string.Template(text).safe_substitute(words)

    # ------------------------------------------------------------------------------------------- seeing

    def see(self, sight: Sight) -> None:
        """Waits until it is seen. Raises NotShownError with what is seen instead."""
        deadline = time.monotonic() + sight.seconds
        while True:
            holds, seen = self._looked(sight)
            if holds:
                return
            if time.monotonic() > deadline:
                wanted = sight.model_dump(exclude_defaults=True)
                raise NotShownError(f"after {sight.seconds:.0f} s {wanted} shows {_end(seen)}")
            time.sleep(_POLL_SECONDS)

    def _looked(self, sight: Sight) -> tuple[bool, str]:
        if sight.prometheus is not None:
            return _prometheus_is(self.prometheus.url, sight.prometheus)
        if sight.kubectl is not None:
            printed = self.ground.control_plane.kubectl("-n", self.namespace, *self.filled(sight.kubectl).split())
            return str(sight.contains) in printed, printed
        samples = self.prometheus.query(self.filled(str(sight.promql)))
        return _holds(sight, samples), str(samples)

    # ------------------------------------------------------------------------------------------- doing

    def do(self, deed: Deed) -> None:
        (name,) = deed.model_fields_set
        doing: Callable[[Any], None] | None = getattr(self, f"_do_{name}", None)
        if doing is None:
            raise LookupError(f"{self.row.name}: nothing can be done with `{name}` to {self.row.part}")
        doing(getattr(deed, name))

    def _do_until(self, sight: Sight) -> None:
        self.see(sight)

    def _do_fires(self, fires: bool) -> None:
        self.began = now()

    def _do_offer(self, offer: Offer) -> None:
        fleet, name = self._fleet(), self.namespace
        given = {"namespace": name, "selector": {"app": SERVICE}, "mix": offer.kinds}
        self._stack.callback(lambda: _quietly(lambda: fleet.drop_load(name)))
        fleet.set_load(name, requests_per_second=0, timeout_seconds=offer.timeout_seconds, **given)
        deadline = time.monotonic() + _BEGUN_SECONDS
        while (one := fleet.saturation_rps(name)) is None:
            if time.monotonic() > deadline:
                raise NotShownError(f"no replica of {name} takes requests")
            time.sleep(_POLL_SECONDS)
        rps = one * self.row.service.replicas * offer.ratio
        fleet.set_load(name, requests_per_second=rps, timeout_seconds=offer.timeout_seconds, **given)

    def _do_fleet(self, fault: FleetFault) -> None:
        fleet, name = self._fleet(), f"{self.namespace}-{next(self._numbers)}"
        self._stack.callback(lambda: _quietly(lambda: fleet.clear_fault(name)))
        own = {"namespace": self.namespace}
        named = {key: self.filled(value) for key in ("pod", "node") if (value := getattr(fault.match, key)) is not None}
        match = fault.match.model_copy(update={**own, **named})
        fleet.set_fault(name, match, fault.effect)

    def _do_gpu(self, fault: GpuFault) -> None:
        fleet, name = self._fleet(), f"{self.namespace}-{next(self._numbers)}"
        node = self.nodes[int(fault.node) if fault.node.isdecimal() else 0]
        self._stack.callback(lambda: _quietly(lambda: fleet.clear_gpu_fault(name)))
        fleet.set_gpu_fault(name, fault.model_copy(update={"node": node}))

    def _do_roll_out(self, wanted: RollOut) -> None:
        service, cluster = self.row.service, self.ground.cluster
        before = len(self.pods())
        made = self._deployment(
            wanted.model or service.model,
            service.flags if wanted.flags is None else wanted.flags,
            wanted.image or service.image,
        )
        annotations = {"kubectl.kubernetes.io/restartedAt": f"{now():%FT%TZ}"} if wanted.restart else {}
        if wanted.never_ready:
            annotations["vllm-oncall.sandbox/cold-start"] = f"{_NEVER:.0f}s"
        cluster.roll_out(
            self.namespace,
            SERVICE,
            cause=wanted.cause,
            image=made.image,
            arguments=made.arguments,
            annotations=annotations,
        )
        if wanted.wait and not wanted.never_ready:
            cluster.wait_until_rolled_out(self.namespace, SERVICE, _SETTLED_SECONDS)
        elif wanted.never_ready:
            self._wait_for_running_newcomer(before - service.max_unavailable)

    def _wait_for_running_newcomer(self, others: int) -> None:
        """The new revision's pod is there, and kwok has nothing more to say of it."""

        def running() -> bool:
            pods = self.pods()
            revisions = {pod["metadata"]["labels"]["pod-template-hash"] for pod in pods}
            states = pods[-1]["status"].get("containerStatuses", [])
            return (
                len(pods) > others
                and len(revisions) > 1
                and bool(states)
                and all("running" in s["state"] for s in states)
            )

        deadline = time.monotonic() + _BEGUN_SECONDS
        while not running():
            if time.monotonic() > deadline:
                raise NotShownError("the new revision's pod does not run")
            time.sleep(_POLL_SECONDS)

    def _do_scale(self, replicas: int) -> None:
        self.ground.cluster.scale(self.namespace, SERVICE, replicas)

    def _do_cordon(self, node: int) -> None:
        self.ground.cluster.set_schedulable(self.nodes[node], False)

    def _do_annotate(self, annotations: Mapping[str, str]) -> None:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{SERVICE}"
        self.ground.control_plane.api.patch(path, {"metadata": {"annotations": dict(annotations)}})

    def _do_container(self, said: Container) -> None:
        kubelet = self.ground.control_plane.kubelet
        for pod in self.pods() if said.pod == "all" else [self.pod(said.pod)]:
            name = pod["metadata"]["name"]
            if said.before:
                kubelet.init_fails(
                    self.namespace,
                    name,
                    str(said.name),
                    exit_code=said.exit_code,
                    reason=said.reason,
                    restarts=said.restarts,
                )
                continue
            if said.name is None:
                kubelet.set_logs(self.namespace, name, said.log, previous=said.previous_log)
            told: dict[str, Any] = {
                "container": said.name or "vllm",
                "exit_code": said.exit_code,
                "reason": said.reason,
                "ran_seconds": said.ran_seconds,
            }
            if said.again:
                restarts = said.restarts if "restarts" in said.model_fields_set else None
                kubelet.restart(self.namespace, name, **told, restarts=restarts)
            else:
                kubelet.crash(self.namespace, name, **told, waiting=said.waiting, restarts=said.restarts)

    def _do_cannot_start(self, said: Any) -> None:
        kubelet = self.ground.control_plane.kubelet
        for pod in self.pods() if said.pod == "all" else [self.pod(said.pod)]:
            name = pod["metadata"]["name"]
            kubelet.cannot_start(self.namespace, name, reason=said.reason, message=self.filled(said.message))

    def _do_event(self, said: Any) -> None:
        self.ground.control_plane.kubelet.event(
            self.namespace,
            self.pod(said.pod)["metadata"]["name"],
            type=said.type,
            reason=said.reason,
            message=self.filled(said.message),
            count=said.count,
        )

    def _do_evict(self, said: Eviction) -> None:
        name = self.pod(said.pod)["metadata"]["name"]
        self.ground.control_plane.kubelet.evict(self.namespace, name, message=said.message)

    def _do_taint(self, key: str) -> None:
        for node in self.nodes:
            taint = {"key": key, "value": "present", "effect": "NoSchedule"}
            self.ground.control_plane.api.patch(f"/api/v1/nodes/{node}", {"spec": {"taints": [taint]}})

    def _do_unready(self, which: int) -> None:
        self.ground.control_plane.kubelet.set_ready(self.namespace, self.pod(which)["metadata"]["name"], False)

    def _do_quota(self, hard: Mapping[str, str]) -> None:
        """Returns when the quota controller has counted what is there, so that it holds."""
        api, path = self.ground.control_plane.api, f"/api/v1/namespaces/{self.namespace}/resourcequotas/limit"
        metadata = {"name": "limit", "namespace": self.namespace}
        api.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": dict(hard)}})
        deadline = time.monotonic() + _BEGUN_SECONDS
        while set(api.get(path).get("status", {}).get("used", {})) != set(hard):
            if time.monotonic() > deadline:
                raise NotShownError("the quota controller does not count")
            time.sleep(_POLL_SECONDS)

    def _do_log(self, lines: tuple[str, ...]) -> None:
        self.ground.control_plane.kubelet.set_logs(self.namespace, self.pod(0)["metadata"]["name"], lines)

    def _do_node(self, said: Any) -> None:
        self.ground.control_plane.kubelet.set_node(
            self.nodes[said.node],
            ready=said.ready,
            reason=said.reason,
            message=said.message,
            condition=said.condition,
        )

    def _do_prometheus(self, what: str) -> None:
        """A Prometheus of the row's own, which has scraped; it stays, or is taken away."""
        own = self._own_prometheus({})
        if what == "stopped":
            own.stop()
        elif what == "frozen":
            own.freeze()

    def _do_relabel(self, rules: tuple[Mapping[str, object], ...]) -> None:
        self._own_prometheus({"metric_relabel_configs": [dict(rule) for rule in rules]})

    def _do_scraped_twice(self, twice: bool) -> None:
        again = [replace(job, name=f"{job.name}-again") for job in self.ground.jobs() if job.name == "vllm"]
        self._own_prometheus({}, again)

    def _own_prometheus(self, more: Mapping[str, Any], besides: Sequence[Job] = ()) -> Prometheus:
        own = Prometheus(self.ground.folder / f"prometheus-{self.row.name}", [*self.ground.jobs(more), *besides])
        self._stack.enter_context(own)
        self.bot = self.ground.bot.with_prometheus(own.url)
        own.wait_for(f"up{{{self.filled('$pods')}}}", bool, _SCRAPED_SECONDS)
        self.prometheus = own
        return own

    def _fleet(self) -> Any:
        if self.ground.fleet is None:
            raise LookupError("this ground has no fleet")
        return self.ground.fleet


def _end(text: str) -> str:
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def _quietly(undo: Callable[[], None]) -> None:
    with suppress(requests.RequestException):
        undo()


def _holds(sight: Sight, samples: list[Sample]) -> bool:
    if sight.absent:
        return not samples
    if not samples:
        return False
    values = [sample.value for sample in samples]
    above = sight.above is None or max(values) > sight.above
    return above and (sight.below is None or min(values) < sight.below)


def _prometheus_is(url: str, wanted: str) -> tuple[bool, str]:
    try:
        answer = requests.get(f"{url}/-/ready", timeout=1)
    except requests.Timeout:
        return wanted == "hangs", "it hangs"
    except requests.ConnectionError:
        return wanted == "refuses", "it refuses connections"
    return False, f"it answers {answer.status_code}"
