"""Sources as of an earlier time. Only Prometheus keeps the past; the others say that they do not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NoReturn

from bot.fleet import WorkloadRef
from bot.ports import (
    Autoscaler,
    Budget,
    Completion,
    ConfigMap,
    Event,
    FiringAlert,
    Node,
    Pod,
    Revision,
    Sample,
    SourceError,
    Sources,
    Workload,
)


def as_of(time: datetime, sources: Sources) -> Sources:
    return replace(
        sources,
        cluster=_NoPastCluster(time),
        metrics=sources.metrics.at(time),
        alerts=_NoPastAlerts(time),
        engines=_NoPastEngines(time),
        now=time,
        live=False,
    )


class _NoPast:
    source: str

    def __init__(self, time: datetime) -> None:
        self._time = time

    def _refuse(self) -> NoReturn:
        raise SourceError(self.source, f"can only answer for now, not for {self._time:%Y-%m-%d %H:%M} UTC")


class _NoPastCluster(_NoPast):
    source = "Kubernetes"

    def pod(self, namespace: str, name: str) -> Pod | None:
        self._refuse()

    def pods_of(self, ref: WorkloadRef) -> tuple[Pod, ...]:
        self._refuse()

    def pods_on_node(self, node: str) -> tuple[Pod, ...]:
        self._refuse()

    def pods_labelled(self, namespace: str, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        self._refuse()

    def workload(self, ref: WorkloadRef) -> Workload | None:
        self._refuse()

    def workload_of(self, pod: Pod) -> WorkloadRef | None:
        self._refuse()

    def revisions(self, ref: WorkloadRef) -> tuple[Revision, ...]:
        self._refuse()

    def node(self, name: str) -> Node | None:
        self._refuse()

    def nodes(self) -> tuple[Node, ...]:
        self._refuse()

    def free_gpus(self) -> Mapping[str, int]:
        self._refuse()

    def events(self, namespace: str, kind: str, name: str) -> tuple[Event, ...]:
        self._refuse()

    def autoscaler_of(self, ref: WorkloadRef) -> Autoscaler | None:
        self._refuse()

    def budgets(self, namespace: str) -> tuple[Budget, ...]:
        self._refuse()

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        self._refuse()

    def pod_logs(self, namespace: str, pod: str, container: str, *, tail: int, previous: bool = False) -> str:
        self._refuse()


class _NoPastAlerts(_NoPast):
    source = "Alertmanager"

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]:
        self._refuse()

    def silence(self, matchers: Mapping[str, str], *, until: datetime, by: str, comment: str) -> str:
        self._refuse()


class _NoPastEngines(_NoPast):
    source = "vLLM"

    def health(self, address: str) -> int | None:
        self._refuse()

    def version(self, address: str) -> str | None:
        self._refuse()

    def models(self, address: str) -> tuple[Mapping[str, Any], ...] | None:
        self._refuse()

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
        self._refuse()

    def metrics(self, address: str) -> tuple[Sample, ...] | None:
        self._refuse()

    def paused(self, address: str) -> bool | None:
        self._refuse()

    def tokenize(self, address: str, model: str, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        self._refuse()

    def detokenize(self, address: str, model: str, tokens: Sequence[int]) -> str | None:
        self._refuse()
