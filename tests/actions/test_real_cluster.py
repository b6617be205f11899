"""Both actions against a real control plane, with the bot's own account; `kubectl` is the independent eye."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bot.actions import rollback_workload, scale_workload
from bot.actions.contract import Aim, Progress
from bot.fleet import WorkloadRef
from bot.outbound.kubernetes_http import KubernetesHttp
from bot.outbound.kubernetes_reader import KubernetesReader
from bot.outbound.kubernetes_writer import KubernetesWriter
from bot.ports import ConflictError, Controls, Sources
from sandbox.controlplane.cluster import Cluster, VllmDeployment
from sandbox.controlplane.control_plane import ControlPlane
from tests.fakes import FakeAlerts, fake_sources


class Here:
    """A namespace of this test's own, as the bot sees it and as the platform team does."""

    def __init__(self, plane: ControlPlane, cluster: Cluster, namespace: str, token_file: Path) -> None:
        self.plane, self.cluster, self.namespace = plane, cluster, namespace
        http = KubernetesHttp(plane.url, token_file=token_file, ca_file=plane.ca, timeout_seconds=10)
        self.reader = KubernetesReader(http)
        self.controls = Controls(KubernetesWriter(http, still_leader=lambda: True), FakeAlerts())

    @property
    def sources(self) -> Sources:
        return fake_sources(cluster=self.reader)  # type: ignore[arg-type]

    def deploy(self, *, replicas: int = 2, gpus: int = 4, name: str = "chat-70b") -> WorkloadRef:
        deployment = VllmDeployment(self.namespace, name, replicas, gpus, cold_start_seconds=0.1, minimum_available=0)
        self.cluster.deploy(deployment)
        self.cluster.wait_until_rolled_out(self.namespace, name)
        return WorkloadRef(namespace=self.namespace, name=name)

    def kubectl(self, *words: str) -> Any:
        return json.loads(self.plane.kubectl("-n", self.namespace, *words, "-o", "json"))

    def scaled(self, ref: WorkloadRef, words: dict[str, int]) -> scale_workload.Params:
        return scale_workload.relative(words, Aim("chat-70b", ref, None, None), self.sources)

    def until(self, action: Any, params: Any, wanted: Progress) -> str:
        deadline = time.monotonic() + 30
        while True:
            effect = action.took_effect(params, self.sources)
            if effect.progress is wanted:
                return effect.detail
            assert time.monotonic() < deadline, f"{effect} is not {wanted} after 30 s"
            time.sleep(0.1)


@pytest.fixture
def here(control_plane: ControlPlane, cluster: Cluster, bot_namespace: str, bot_token_file: Path) -> Here:
    return Here(control_plane, cluster, bot_namespace, bot_token_file)


# ---------------------------------------------------------------------------------------------- scale


def test_a_dry_run_of_a_scale_leaves_the_object_as_it_was(here: Here) -> None:
    ref = here.deploy()
    before = here.kubectl("get", "deployment", ref.name)
    params = here.scaled(ref, {"add": 1})
    preview = scale_workload.preview(params, here.sources, here.controls)
    assert (preview.change.before["spec"]["replicas"], preview.change.after["spec"]["replicas"]) == (2, 3)
    assert here.kubectl("get", "deployment", ref.name) == before


def test_a_scale_takes_effect_and_its_undo_too(here: Here) -> None:
    ref = here.deploy()
    params = here.scaled(ref, {"add": 1})
    assert scale_workload.objections(params, here.sources) == ()
    for _ in range(2):  # as after a crash
        scale_workload.execute(params, {}, here.sources, here.controls)
    assert here.until(scale_workload, params, Progress.YES) == "3 of 3 ready"
    way_back = scale_workload.undo(params, {})
    scale_workload.execute(way_back, {}, here.sources, here.controls)
    here.until(scale_workload, way_back, Progress.YES)
    assert here.kubectl("get", "deployment", ref.name)["spec"]["replicas"] == 2


def test_without_free_gpus_it_is_objected_to_and_if_done_stands_still_naming_the_pod(here: Here) -> None:
    ref = here.deploy(replicas=4, gpus=8)  # all 32 GPUs of the cluster
    params = here.scaled(ref, {"add": 1})
    (objection,) = scale_workload.objections(params, here.sources)
    assert objection.startswith("no free GPUs for 1 replica more: each needs 8 on one node")
    scale_workload.execute(params, {}, here.sources, here.controls)
    detail = here.until(scale_workload, params, Progress.PARTLY)
    pending = [p["metadata"]["name"] for p in here.kubectl("get", "pods")["items"] if not p["spec"].get("nodeName")]
    assert detail.startswith(f"4 of 5 ready; {pending[0]} is Pending: 0/4 nodes are available: 4 Insufficient nvidia")


def test_gpus_on_a_cordoned_node_are_no_room(here: Here) -> None:
    ref = here.deploy(replicas=3, gpus=8)
    params = here.scaled(ref, {"add": 1})
    assert scale_workload.objections(params, here.sources) == ()
    busy = {p["spec"]["nodeName"] for p in here.kubectl("get", "pods")["items"]}
    (free,) = {f"gpu-{n:02}" for n in range(1, 5)} - busy
    here.cluster.set_schedulable(free, False)
    try:
        assert "there is room for 0" in scale_workload.objections(params, here.sources)[0]
    finally:
        here.cluster.set_schedulable(free, True)


def test_an_autoscaler_that_owns_the_replicas_is_named(here: Here) -> None:
    ref = here.deploy(replicas=1)
    here.plane.kubectl("-n", here.namespace, "autoscale", "deployment", ref.name, "--min=1", "--max=4")
    (objection,) = scale_workload.objections(here.scaled(ref, {"add": 1}), here.sources)
    assert "HorizontalPodAutoscaler chat-70b owns the replicas of chat-70b (1 to 4" in objection


def test_a_paused_deployment_and_a_rollout_that_hangs_are_objected_to(here: Here) -> None:
    ref = here.deploy(replicas=1)
    params = here.scaled(ref, {"add": 1})
    here.plane.kubectl("-n", here.namespace, "rollout", "pause", f"deployment/{ref.name}")
    assert "is paused" in scale_workload.objections(params, here.sources)[0]
    here.plane.kubectl("-n", here.namespace, "rollout", "resume", f"deployment/{ref.name}")
    limits = {"containers": [{"name": "vllm", "resources": {"requests": {"cpu": "1000"}}}]}
    here.plane.kubectl(
        "-n",
        here.namespace,
        "patch",
        "deployment",
        ref.name,
        "-p",
        json.dumps({"spec": {"template": {"spec": limits}}}),
    )
    time.sleep(0.5)
    here.cluster.scale(here.namespace, ref.name, 2)
    params = here.scaled(ref, {"add": 1})
    assert any("a rollout of chat-70b is in progress" in o for o in scale_workload.objections(params, here.sources))


# ---------------------------------------------------------------------------------------------- roll back


def three_revisions(here: Here) -> WorkloadRef:
    ref = here.deploy()
    for number, image in ((2, "vllm/vllm-openai:v0.32.1"), (3, "vllm/vllm-openai:v0.33.0")):
        cause = f"revision {number}"
        here.cluster.roll_out(
            here.namespace, ref.name, cause=cause, image=image, arguments=[f"--max-num-seqs={number}"]
        )
        here.cluster.wait_until_rolled_out(here.namespace, ref.name)
    return ref


def rolled_back(here: Here, ref: WorkloadRef, words: dict[str, int]) -> tuple[rollback_workload.Params, Any]:
    params = rollback_workload.relative(words, Aim("chat-70b", ref, None, None), here.sources)
    assert rollback_workload.objections(params, here.sources) == ()
    before = rollback_workload.preview(params, here.sources, here.controls).before
    for _ in range(2):  # as after a crash
        rollback_workload.execute(params, before, here.sources, here.controls)
    here.until(rollback_workload, params, Progress.YES)
    return params, before


def template_of_set(here: Here, replica_set: str) -> Any:
    template = here.kubectl("get", "replicaset", replica_set)["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    return template


def test_a_rollback_restores_exactly_the_named_revision(here: Here) -> None:
    ref = three_revisions(here)
    params, _ = rolled_back(here, ref, {"revision": 1})
    deployment = here.kubectl("get", "deployment", ref.name)
    assert deployment["spec"]["template"] == template_of_set(here, params.replica_set)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"
    history = here.plane.kubectl("-n", here.namespace, "rollout", "history", f"deployment/{ref.name}")
    numbers = [line.split()[0] for line in history.splitlines() if line[:1].isdigit()]
    assert numbers == ["2", "3", "4"]  # 1 became 4, and no other came
    assert "vllm-oncall: roll back to revision 1" in history


def test_a_rollback_does_what_kubectl_rollout_undo_does(here: Here) -> None:
    ref = three_revisions(here)
    rolled_back(here, ref, {"revision": 2})
    ours = here.kubectl("get", "deployment", ref.name)["spec"]
    here.plane.kubectl("-n", here.namespace, "rollout", "undo", f"deployment/{ref.name}", "--to-revision=3")
    here.cluster.wait_until_rolled_out(here.namespace, ref.name)
    here.plane.kubectl("-n", here.namespace, "rollout", "undo", f"deployment/{ref.name}", "--to-revision=4")
    assert here.kubectl("get", "deployment", ref.name)["spec"] == ours


def test_its_dry_run_changes_nothing_and_its_undo_brings_the_other_one_back(here: Here) -> None:
    ref = three_revisions(here)
    there = here.kubectl("get", "deployment", ref.name)
    params = rollback_workload.relative({}, Aim(None, ref, None, None), here.sources)
    preview = rollback_workload.preview(params, here.sources, here.controls)
    assert here.kubectl("get", "deployment", ref.name) == there
    assert preview.change.after["spec"]["template"]["spec"]["containers"][0]["args"] == ["--max-num-seqs=2"]
    params, _ = rolled_back(here, ref, {})
    way_back = rollback_workload.undo(params, {})
    assert (way_back.from_revision, way_back.revision) == (4, 3)
    assert rollback_workload.objections(way_back, here.sources) == ()
    before = rollback_workload.preview(way_back, here.sources, here.controls).before
    rollback_workload.execute(way_back, before, here.sources, here.controls)
    here.until(rollback_workload, way_back, Progress.YES)
    assert here.kubectl("get", "deployment", ref.name)["spec"]["template"] == there["spec"]["template"]


def test_what_somebody_rolled_out_meanwhile_is_not_overwritten(here: Here) -> None:
    ref = three_revisions(here)
    params = rollback_workload.relative({"revision": 1}, Aim(None, ref, None, None), here.sources)
    before = rollback_workload.preview(params, here.sources, here.controls).before
    here.cluster.roll_out(here.namespace, ref.name, cause="newer", arguments=["--max-num-seqs=4"])
    with pytest.raises(ConflictError):
        rollback_workload.execute(params, before, here.sources, here.controls)
    assert here.kubectl("get", "deployment", ref.name)["spec"]["template"]["spec"]["containers"][0]["args"] == [
        "--max-num-seqs=4"
    ]


def test_a_new_replica_without_gpus_stands_still_and_is_named(here: Here) -> None:
    """The template that comes back asks for more GPUs than any node has free."""
    ref = here.deploy(replicas=1, gpus=8)
    smaller = {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {
        "nvidia.com/gpu": "1"}}}]}  # fmt: skip
    here.plane.kubectl(
        "-n",
        here.namespace,
        "patch",
        "deployment",
        ref.name,
        "-p",
        json.dumps({"spec": {"template": {"spec": smaller}}}),
    )
    here.cluster.wait_until_rolled_out(here.namespace, ref.name)
    params = rollback_workload.relative({}, Aim(None, ref, None, None), here.sources)
    before = rollback_workload.preview(params, here.sources, here.controls).before
    here.deploy(replicas=4, gpus=5, name="greedy")
    (objection,) = rollback_workload.objections(params, here.sources)
    assert "no node has 8 free GPUs for it" in objection
    rollback_workload.execute(params, before, here.sources, here.controls)
    assert "is Pending: 0/4 nodes are available" in here.until(rollback_workload, params, Progress.PARTLY)
