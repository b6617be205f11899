"""The changes of nodes and pods against a real control plane, with the bot's own account and real disruption budgets.

`kubectl` and the API server's audit log are the independent eyes.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.actions import cordon_node, drain_node, restart_pod, restart_rollout, uncordon_node
from bot.actions.contract import Aim, Effect, Progress
from bot.fleet import Service, WorkloadRef
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.ports import Controls, SourceError, Sources
from sandbox.controlplane import bot_account
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from tests.fakes import EMPTY_FLEET, FakeAlerts, fake_sources

NODE = "gpu-01"


class Here:
    """A namespace of this test's own, as the bot sees it and as the platform team does."""

    def __init__(self, plane: ControlPlane, cluster: Cluster, namespace: str, token_file: Path) -> None:
        self.plane, self.cluster, self.namespace = plane, cluster, namespace
        http = KubernetesHttp(plane.url, token_file=token_file, ca_file=plane.ca, timeout_seconds=10)
        self.reader = KubernetesReader(http)
        self.controls = Controls(KubernetesWriter(http, still_leader=lambda: True), FakeAlerts())
        self.fleet = EMPTY_FLEET

    @property
    def sources(self) -> Sources:
        return fake_sources(cluster=self.reader, fleet=self.fleet)  # type: ignore[arg-type]

    def serve(self, ref: WorkloadRef, minimum: int) -> None:
        service = Service(name=ref.name, workloads=(ref,), channel="#llm", minimum_ready_replicas=minimum)
        self.fleet = EMPTY_FLEET.model_copy(update={"services": (service,)})

    def two_on_the_node(self, *, budget: int, cold_start: float = 0.3) -> WorkloadRef:
        """Three replicas of 4 GPUs, two of them on NODE."""
        others = [n["metadata"]["name"] for n in self.cluster.nodes() if n["metadata"]["name"] != NODE]
        for name in others:
            self.cluster.set_schedulable(name, False)
        self.cluster.deploy(
            VllmDeployment(self.namespace, "chat-70b", 2, 4, cold_start_seconds=cold_start, minimum_available=0)
        )
        self.cluster.wait_until_rolled_out(self.namespace, "chat-70b")
        for name in others:
            self.cluster.set_schedulable(name, True)
        self.cluster.scale(self.namespace, "chat-70b", 3)
        self.cluster.wait_until_rolled_out(self.namespace, "chat-70b")
        self.budget(budget)
        return WorkloadRef(namespace=self.namespace, name="chat-70b")

    def budget(self, minimum: int) -> None:
        path = f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets/chat-70b"
        made = self.plane.api.patch(path, {"spec": {"minAvailable": minimum}})
        generation = made["metadata"]["generation"]
        self.until(lambda: self.plane.api.get(path).get("status", {}).get("observedGeneration") == generation)
        self.until(lambda: self.plane.api.get(path)["status"]["currentHealthy"] == self.ready())

    def ready(self) -> int:
        pods = self.cluster.pods(self.namespace, "chat-70b")
        return sum(
            1
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        )

    def until(self, done: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not there after {seconds} s"
            time.sleep(0.02)

    def kubectl(self, *words: str) -> Any:
        return json.loads(self.plane.kubectl("-n", self.namespace, *words, "-o", "json"))

    def on_node(self, node: str = NODE) -> list[str]:
        found = self.kubectl("get", "pods", f"--field-selector=spec.nodeName={node}")["items"]
        return sorted(pod["metadata"]["name"] for pod in found)

    def evictions(self) -> list[str]:
        """Pods whose eviction the API server has granted to the bot; a pod twice if twice."""
        return [
            entry.name
            for entry in self.plane.audit(bot_account.USER)
            if (entry.namespace, entry.subresource, entry.code) == (self.namespace, "eviction", 201)
            and "dryRun" not in entry.uri
        ]


@pytest.fixture
def here(control_plane: ControlPlane, cluster: Cluster, bot_namespace: str, bot_token_file: Path) -> Iterator[Here]:
    yield Here(control_plane, cluster, bot_namespace, bot_token_file)
    for node in cluster.nodes():
        cluster.set_schedulable(node["metadata"]["name"], True)


def drain(here: Here, *, rounds: Callable[[Effect], None] = lambda _: None, **flags: bool) -> Effect:
    """To its end, a round every 50 ms."""
    params = drain_node.Params(node=NODE, **flags)
    assert drain_node.objections(params, here.sources) == ()
    before = json.loads(json.dumps(drain_node.preview(params, here.sources, here.controls).before))
    drain_node.execute(params, before, here.sources, here.controls)
    deadline = time.monotonic() + 40
    while True:
        effect = drain_node.advance(params, before, here.sources, here.controls)
        rounds(effect)
        if effect.progress in (Progress.YES, Progress.NO):
            return effect
        assert time.monotonic() < deadline, f"not drained after 40 s: {effect}"
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------- nodes


def test_kubectl_sees_the_cordon_and_its_way_back_and_nothing_after_a_dry_run(here: Here) -> None:
    params = cordon_node.relative({"node": NODE}, Aim(None, None, None, None), here.sources)
    cordon_node.preview(params, here.sources, here.controls)
    assert "unschedulable" not in here.kubectl("get", "node", NODE)["spec"]
    for _ in range(2):
        cordon_node.execute(params, {}, here.sources, here.controls)
    assert here.kubectl("get", "node", NODE)["spec"]["unschedulable"] is True
    assert cordon_node.took_effect(params, here.sources).progress is Progress.YES
    back = cordon_node.undo(params, {})
    uncordon_node.execute(back, {}, here.sources, here.controls)
    assert "unschedulable" not in here.kubectl("get", "node", NODE)["spec"]
    here.until(lambda: uncordon_node.took_effect(back, here.sources).detail == f"{NODE} takes new pods again")


# ---------------------------------------------------------------------------------------------- drain


def test_a_drain_honours_a_budget_that_lets_one_go_at_a_time_and_evicts_nobody_twice(here: Here) -> None:
    here.two_on_the_node(budget=2)
    tenants = here.on_node()
    fewest, said = [3], set()

    def watch(effect: Effect) -> None:
        fewest.append(here.ready())
        said.add(effect.detail)

    effect = drain(here, rounds=watch)
    assert effect.progress is Progress.YES and "2 of 2 pods gone" in effect.detail
    assert sorted(here.evictions()) == tenants
    assert min(fewest) == 2  # never below the budget's minimum
    assert any("waits: The disruption budget chat-70b needs 2 healthy pods and has 2 currently" in d for d in said)
    assert here.on_node() == []
    # kubectl finds nothing left to do.
    told = here.plane.kubectl("drain", NODE, "--ignore-daemonsets", "--dry-run=server")
    assert "evicting pod" not in told and "already cordoned" in told


def test_a_service_keeps_its_minimum_where_no_budget_protects_it(here: Here) -> None:
    ref = here.two_on_the_node(budget=0)
    here.serve(ref, minimum=2)
    fewest = [3]
    effect = drain(here, rounds=lambda _: fewest.append(here.ready()))
    assert effect.progress is Progress.YES
    assert min(fewest) == 2
    assert len(here.evictions()) == len(set(here.evictions())) == 2


def test_daemons_stay_and_are_told_and_bare_pods_are_objected_to(here: Here) -> None:
    here.two_on_the_node(budget=0)
    labels = {"app": "exporter"}
    container = {"containers": [{"name": "exporter", "image": "busybox"}]}
    here.plane.api.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "exporter", "namespace": here.namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {**container, "tolerations": [{"operator": "Exists"}]},
                },
            },
        }
    )
    bare = {"name": "debug", "namespace": here.namespace}
    spec = {**container, "nodeName": NODE, "volumes": [{"name": "cache", "emptyDir": {}}]}
    here.plane.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": bare, "spec": spec})
    here.until(lambda: len(here.on_node()) == 4)
    params = drain_node.Params(node=NODE)
    (objection,) = drain_node.objections(params, here.sources)
    assert objection.startswith(f"{here.namespace}/debug: nobody controls it")
    (objection,) = drain_node.objections(params.model_copy(update={"force": True}), here.sources)
    assert "it keeps data on the node's disk (emptyDir cache)" in objection
    effect = drain(here, force=True, delete_emptydir_data=True)
    assert effect.detail.startswith(f"{NODE} is empty: 3 of 3 pods gone; left in place: 1 pod of DaemonSets (exporter)")
    (left,) = here.on_node()
    assert left.startswith("exporter-")


def test_a_pod_in_a_namespace_where_the_bot_may_not_evict_is_known_before_anybody_approves(here: Here) -> None:
    about = {"name": "elsewhere", "namespace": "default"}
    spec = {"containers": [{"name": "sleep", "image": "busybox"}], "nodeName": NODE}
    here.plane.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec})
    try:
        with pytest.raises(SourceError, match="does not allow `create` on `pods/eviction` in namespace default"):
            drain_node.preview(drain_node.Params(node=NODE, force=True), here.sources, here.controls)
    finally:
        here.plane.api.delete("/api/v1/namespaces/default/pods/elsewhere?gracePeriodSeconds=0")


def test_a_budget_that_never_lets_go_and_no_free_gpus_are_objected_to(here: Here) -> None:
    here.two_on_the_node(budget=3)
    params = drain_node.Params(node=NODE)
    (objection,) = drain_node.objections(params, here.sources)
    assert objection.startswith("disruption budget chat-70b wants 3 of 3 pods healthy, so it lets none go")
    here.budget(1)
    assert drain_node.objections(params, here.sources) == ()
    for name in ("gpu-02", "gpu-03", "gpu-04"):
        here.cluster.set_schedulable(name, False)
    (objection,) = drain_node.objections(params, here.sources)
    assert objection.startswith("no free GPUs elsewhere for 2 of the 2 replicas of chat-70b that serve here")


def test_uncordoning_by_hand_calls_the_drain_off(here: Here) -> None:
    here.two_on_the_node(budget=3 - 1, cold_start=5)

    def uncordon(effect: Effect) -> None:
        if "waits" in effect.detail:
            here.plane.kubectl("uncordon", NODE)

    effect = drain(here, rounds=uncordon)
    assert effect.progress is Progress.NO and "somebody uncordoned it" in effect.detail
    assert len(here.evictions()) == 1


# ---------------------------------------------------------------------------------------------- pods


def restart(here: Here, ref: WorkloadRef, pod: str, **words: Any) -> tuple[restart_pod.Params, Effect]:
    params = restart_pod.relative({"pod": pod, **words}, Aim(None, ref, None, None), here.sources)
    assert restart_pod.objections(params, here.sources) == ()
    restart_pod.preview(params, here.sources, here.controls)
    assert pod in [p["metadata"]["name"] for p in here.kubectl("get", "pods")["items"]]
    restart_pod.execute(params, {}, here.sources, here.controls)
    return params, restart_pod.advance(params, {}, here.sources, here.controls)


def follow(here: Here, params: restart_pod.Params) -> str:
    effect = restart_pod.advance(params, {}, here.sources, here.controls)
    deadline = time.monotonic() + 30
    while effect.progress is not Progress.YES:
        assert time.monotonic() < deadline, f"not restarted after 30 s: {effect}"
        time.sleep(0.05)
        effect = restart_pod.advance(params, {}, here.sources, here.controls)
    return effect.detail


def deletes(here: Here) -> list[str]:
    entries = here.plane.audit(bot_account.USER)
    return [e.name for e in entries if (e.namespace, e.verb, e.code) == (here.namespace, "delete", 200)]


def test_a_ready_pod_waits_for_its_budget_and_is_never_deleted(here: Here) -> None:
    ref = here.two_on_the_node(budget=3)
    pod = here.on_node()[0]
    params, effect = restart(here, ref, pod)
    assert effect.detail == f"{pod} waits: The disruption budget chat-70b needs 3 healthy pods and has 3 currently"
    here.budget(2)
    assert follow(here, params).endswith("3 of 3 ready")
    assert here.evictions() == [pod] and deletes(here) == []


def test_a_pod_that_is_not_ready_is_deleted_where_its_budget_holds_it_back(here: Here) -> None:
    ref = here.two_on_the_node(budget=3)
    pod = here.on_node()[0]
    path = f"/api/v1/namespaces/{here.namespace}/pods/{pod}/status"
    broken = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
    state = {"name": "vllm", "ready": False, "started": True, "restartCount": 0, "image": "x", "imageID": "x",
             "state": {"running": {"startedAt": "2026-11-24T02:00:00Z"}}}  # fmt: skip
    here.plane.api.patch(path, {"status": {"conditions": [broken], "containerStatuses": [state]}})
    here.until(lambda: here.ready() == 2)
    here.budget(3)
    params, _ = restart(here, ref, pod)
    assert follow(here, params).endswith("3 of 3 ready")
    assert here.evictions() == []
    # One was the dry run of the review.
    assert deletes(here) == [pod, pod]


def test_a_later_pod_of_the_same_name_is_not_hit(here: Here) -> None:
    manifest = VllmDeployment(here.namespace, "chat-70b", 2, 1, cold_start_seconds=0.1).manifests()[0]
    spec = {key: manifest["spec"][key] for key in ("replicas", "selector", "template")}
    here.plane.api.apply({**manifest, "kind": "StatefulSet", "spec": {**spec, "serviceName": "chat-70b"}})
    ref = WorkloadRef(namespace=here.namespace, kind="StatefulSet", name="chat-70b")
    here.until(lambda: sum(pod.ready for pod in here.reader.pods_of(ref)) == 2)
    params, _ = restart(here, ref, "chat-70b-0")
    assert follow(here, params) == "chat-70b-0 made room for chat-70b-0; 2 of 2 ready"
    now = here.kubectl("get", "pod", "chat-70b-0")["metadata"]["uid"]
    assert now != params.uid
    restart_pod.execute(params, {}, here.sources, here.controls)  # as after a crash
    assert here.kubectl("get", "pod", "chat-70b-0")["metadata"]["uid"] == now
    assert here.evictions() == ["chat-70b-0"]


# ---------------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_restart_does_what_kubectl_rollout_restart_does(here: Here, kind: str) -> None:
    manifest = VllmDeployment(here.namespace, "chat-70b", 2, 1, cold_start_seconds=0.1).manifests()[0]
    if kind == "StatefulSet":
        spec = {key: manifest["spec"][key] for key in ("replicas", "selector", "template")}
        manifest = {**manifest, "kind": kind, "spec": {**spec, "serviceName": "chat-70b"}}
    here.plane.api.apply(manifest)
    ref = WorkloadRef(namespace=here.namespace, kind=kind, name="chat-70b")  # type: ignore[arg-type]
    settled(here, ref)
    there = here.kubectl("get", kind.lower(), "chat-70b")["spec"]["template"]
    old = {pod.uid for pod in here.reader.pods_of(ref)}
    params = restart_rollout.relative({}, Aim(None, ref, None, None), here.sources)
    assert restart_rollout.objections(params, here.sources) == ()
    before = restart_rollout.preview(params, here.sources, here.controls).before
    assert here.kubectl("get", kind.lower(), "chat-70b")["spec"]["template"] == there
    for _ in range(2):  # as after a crash
        restart_rollout.execute(params, before, here.sources, here.controls)
    here.until(lambda: restart_rollout.took_effect(params, here.sources).progress is Progress.YES)
    assert not old & {pod.uid for pod in here.reader.pods_of(ref) if pod.deleted_at is None}
    ours = here.kubectl("get", kind.lower(), "chat-70b")["spec"]["template"]
    here.plane.kubectl("-n", here.namespace, "rollout", "restart", f"{kind.lower()}/chat-70b")
    theirs = here.kubectl("get", kind.lower(), "chat-70b")["spec"]["template"]
    key = "kubectl.kubernetes.io/restartedAt"
    assert ours["metadata"]["annotations"].pop(key) and theirs["metadata"]["annotations"].pop(key)
    assert ours == theirs == there


def settled(here: Here, ref: WorkloadRef) -> None:
    def is_settled() -> bool:
        found = here.reader.workload(ref)
        return found is not None and found.settled

    here.until(is_settled)


def test_a_restart_that_hangs_is_taken_back(here: Here) -> None:
    ref = here.two_on_the_node(budget=0)
    params = restart_rollout.relative({}, Aim(None, ref, None, None), here.sources)
    for node in here.cluster.nodes():
        here.cluster.set_schedulable(node["metadata"]["name"], False)
    assert "no node has 4 free GPUs" in restart_rollout.objections(params, here.sources)[0]
    before = restart_rollout.preview(params, here.sources, here.controls).before
    restart_rollout.execute(params, before, here.sources, here.controls)
    here.until(lambda: restart_rollout.took_effect(params, here.sources).progress is Progress.PARTLY)
    assert "is Pending" in restart_rollout.took_effect(params, here.sources).detail
    back = restart_rollout.undo(params, before)
    assert back is not None
    then = restart_rollout.preview(back, here.sources, here.controls).before
    restart_rollout.execute(back, then, here.sources, here.controls)
    here.until(lambda: restart_rollout.took_effect(back, here.sources).progress is Progress.YES)
    assert here.kubectl("get", "deployment", ref.name)["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    assert here.ready() == 3
