"""A round's view of the world: every question is asked once, however many steps put it, at the same time or later.

An error is an answer, too: a source that is down is not asked again by each of ten probes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, TypeVar, cast

from bot.fleet import WorkloadRef
from bot.ports import (
    Alerts,
    Answer,
    Autoscaler,
    Budget,
    ClusterReader,
    Completion,
    ConfigMap,
    Engines,
    Event,
    FiringAlert,
    Metrics,
    Node,
    Pod,
    Revision,
    Sample,
    Series,
    Sources,
    Workload,
)

T = TypeVar("T")


def asked_once(sources: Sources) -> Sources:
    once = Once()
    return replace(
        sources,
        cluster=OnceCluster(sources.cluster, once),
        metrics=OnceMetrics(sources.metrics, once),
        alerts=OnceAlerts(sources.alerts, once),
        engines=OnceEngines(sources.engines, once),
    )


class Once:
    def __init__(self) -> None:
        self._answers: dict[tuple[Any, ...], Future[Any]] = {}
        self._lock = threading.Lock()

    def ask(self, call: Callable[[], T], *key: object) -> T:
        """Who comes first asks; the others wait for that answer, or that error."""
        with self._lock:
            mine = key not in self._answers
            answer = self._answers.setdefault(key, Future())
        if mine:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)  # raised by `result`, here and for the others
        return cast(T, answer.result())


class OnceMetrics:
    def __init__(self, metrics: Metrics, once: Once, time: datetime | None = None) -> None:
        self._metrics = metrics
        self._once = once
        self._time = time

    def instant(self, query: str) -> Answer:
        return self._once.ask(lambda: self._metrics.instant(query), "instant", self._time, query)

    def range(self, query: str, start: datetime, end: datetime, step_seconds: float) -> tuple[Series, ...]:
        key = ("range", query, start, end, step_seconds)
        return self._once.ask(lambda: self._metrics.range(query, start, end, step_seconds), *key)

    def at(self, time: datetime) -> Self:
        return type(self)(self._metrics.at(time), self._once, time)

    def alerts(self) -> tuple[FiringAlert, ...]:
        return self._once.ask(self._metrics.alerts, "prometheus alerts")

    def link(self, query: str) -> str:
        return self._metrics.link(query)


class OnceCluster:
    def __init__(self, cluster: ClusterReader, once: Once) -> None:
        self._cluster = cluster
        self._once = once

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self._once.ask(lambda: self._cluster.pod(namespace, name), "pod", namespace, name)

    def pods_of(self, ref: WorkloadRef) -> tuple[Pod, ...]:
        return self._once.ask(lambda: self._cluster.pods_of(ref), "pods_of", ref)

    def pods_on_node(self, node: str) -> tuple[Pod, ...]:
        return self._once.ask(lambda: self._cluster.pods_on_node(node), "pods_on_node", node)

    def pods_labelled(self, namespace: str, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        key = ("pods_labelled", namespace, tuple(sorted(labels.items())))
        return self._once.ask(lambda: self._cluster.pods_labelled(namespace, labels), *key)

    def workload(self, ref: WorkloadRef) -> Workload | None:
        return self._once.ask(lambda: self._cluster.workload(ref), "workload", ref)

    def workload_of(self, pod: Pod) -> WorkloadRef | None:
        return self._once.ask(lambda: self._cluster.workload_of(pod), "workload_of", pod.namespace, pod.name)

    def revisions(self, ref: WorkloadRef) -> tuple[Revision, ...]:
        return self._once.ask(lambda: self._cluster.revisions(ref), "revisions", ref)

    def node(self, name: str) -> Node | None:
        return self._once.ask(lambda: self._cluster.node(name), "node", name)

    def nodes(self) -> tuple[Node, ...]:
        return self._once.ask(self._cluster.nodes, "nodes")

    def free_gpus(self) -> Mapping[str, int]:
        return self._once.ask(self._cluster.free_gpus, "free_gpus")

    def events(self, namespace: str, kind: str, name: str) -> tuple[Event, ...]:
        return self._once.ask(lambda: self._cluster.events(namespace, kind, name), "events", namespace, kind, name)

    def autoscaler_of(self, ref: WorkloadRef) -> Autoscaler | None:
        return self._once.ask(lambda: self._cluster.autoscaler_of(ref), "autoscaler_of", ref)

    def budgets(self, namespace: str) -> tuple[Budget, ...]:
        return self._once.ask(lambda: self._cluster.budgets(namespace), "budgets", namespace)

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return self._once.ask(lambda: self._cluster.config_map(namespace, name), "config_map", namespace, name)

    def pod_logs(self, namespace: str, pod: str, container: str, *, tail: int, previous: bool = False) -> str:
        key = ("pod_logs", namespace, pod, container, tail, previous)
        return self._once.ask(
            lambda: self._cluster.pod_logs(namespace, pod, container, tail=tail, previous=previous), *key
        )


class OnceAlerts:
    def __init__(self, alerts: Alerts, once: Once) -> None:
        self._alerts = alerts
        self._once = once

    def active(self, *, matchers: Sequence[str] = ()) -> tuple[FiringAlert, ...]:
        return self._once.ask(lambda: self._alerts.active(matchers=matchers), "active", tuple(matchers))

    def silence(self, matchers: Mapping[str, str], *, until: datetime, by: str, comment: str) -> str:
        raise AssertionError("a probe only reads")


class OnceEngines:
    def __init__(self, engines: Engines, once: Once) -> None:
        self._engines = engines
        self._once = once

    def health(self, address: str) -> int | None:
        return self._once.ask(lambda: self._engines.health(address), "health", address)

    def version(self, address: str) -> str | None:
        return self._once.ask(lambda: self._engines.version(address), "version", address)

    def models(self, address: str) -> tuple[Mapping[str, Any], ...] | None:
        return self._once.ask(lambda: self._engines.models(address), "models", address)

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
        def ask() -> Completion:
            return self._engines.complete(
                address, model, timeout_seconds=timeout_seconds, prompt=prompt, max_tokens=max_tokens, logprobs=logprobs
            )

        return self._once.ask(ask, "complete", address, model, timeout_seconds, prompt, max_tokens, logprobs)

    def metrics(self, address: str) -> tuple[Sample, ...] | None:
        """Asked each time: whoever asks twice wants to see what has moved."""
        return self._engines.metrics(address)

    def paused(self, address: str) -> bool | None:
        return self._once.ask(lambda: self._engines.paused(address), "paused", address)

    def tokenize(self, address: str, model: str, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
        key = tuple(tuple(sorted(message.items())) for message in messages)
        return self._once.ask(lambda: self._engines.tokenize(address, model, messages), "tokenize", address, model, key)

    def detokenize(self, address: str, model: str, tokens: Sequence[int]) -> str | None:
        key = tuple(tokens)
        return self._once.ask(lambda: self._engines.detokenize(address, model, key), "detokenize", address, model, key)
