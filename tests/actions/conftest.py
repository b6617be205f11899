"""A fake cluster with what the actions look at: GPU needs in the pod template, and a rolling update's limits."""

from dataclasses import replace
from typing import Any

import pytest

from bot.fleet import WorkloadRef
from tests.fakes import FakeCluster


class Fleet70b:
    """chat-70b: three replicas with 4 GPUs each on two nodes, so 4 of 16 GPUs are free."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cluster.add_node("gpu-01", gpus=8)
        self.cluster.add_node("gpu-02", gpus=8)
        self.ref = self.cluster.add_workload(name="chat-70b", replicas=3, node="gpu-01", args=["--max-num-seqs=256"])
        self.cluster.pods[2] = replace(self.cluster.pods[2], node="gpu-02")
        self.change(max_surge=1, max_unavailable=0, template=self.with_gpus(self.workload.template))
        history = self.cluster.history[self.ref]
        history[0] = replace(history[0], template=self.workload.template)

    @property
    def workload(self) -> Any:
        return self.cluster.workloads[self.ref]

    def change(self, **fields: Any) -> None:
        self.cluster.workloads[self.ref] = replace(self.workload, **fields)

    def with_gpus(self, template: Any, gpus: int = 4) -> dict[str, Any]:
        one = {**template["spec"]["containers"][0], "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
        return {**template, "spec": {**template["spec"], "containers": [one]}}

    def bad_revision(self) -> None:
        """Revision 2 is rolled out (all pods are of it), revision 1 is what was good."""
        before = self.workload.template
        container = {**before["spec"]["containers"][0], "args": ["--max-num-seqs=16"]}
        after = {**before, "spec": {"containers": [container]}}
        self.cluster.set_template(self.ref, before=before, after=after, cause="try fewer sequences")
        self.settle()
        self.cluster.changes.clear()

    def settle(self, ready: int | None = None) -> None:
        """The controllers have run; the pods stay spread as they were."""
        self.cluster.settle(self.ref, ready=ready)
        mine = {pod.name for pod in self.cluster.pods_of(self.ref)}
        self.cluster.pods = [
            replace(p, node="gpu-01" if n < 2 else "gpu-02") if p.name in mine and p.node else p
            for n, p in enumerate(self.cluster.pods)
        ]


@pytest.fixture
def chat() -> Fleet70b:
    return Fleet70b()


@pytest.fixture
def ref(chat: Fleet70b) -> WorkloadRef:
    return chat.ref
