"""One service for the probes' tests, and answers by pod. Shared by the modules of this folder."""

from bot.fleet import Fleet, Role, Service, Slo
from bot.ports import Answer, Sample
from tests.fakes import NOW, FakeCluster, FakeMetrics, fake_sources

UP = {"up{": Answer((Sample({"pod": "a"}, 1, NOW),))}


def fleet_of(*refs, **more):
    service = Service(name="chat", workloads=refs, slo=Slo(ttft_p99_seconds=1.0), channel="#chat", **more)
    anyone = Role(users=("U1",))
    approvals = {"low": "anyone", "medium": "anyone", "high": "anyone"}
    return Fleet(services=(service,), default_channel="#oncall", roles={"anyone": anyone}, approvals=approvals)


def world(*, args=("org/model", "--max-num-seqs=256"), replicas=3, answers=None, kind="Deployment", **more):
    """(sources, cluster, ref) of three H100 pods that serve `chat`."""
    cluster = FakeCluster()
    cluster.add_node("gpu-01", gpus=16)
    ref = cluster.add_workload(name="chat", kind=kind, replicas=replicas, args=args)
    metrics = FakeMetrics(answers or {})
    return fake_sources(cluster=cluster, metrics=metrics, fleet=fleet_of(ref), **more), cluster, ref


def by_pod(cluster, *values, engine=None):
    """An answer with one sample a pod, in the pods' order."""
    labels = [{"namespace": pod.namespace, "pod": pod.name} for pod in cluster.pods]
    if engine is not None:
        labels = [{**one, "engine": engine} for one in labels]
    return Answer(tuple(Sample(one, float(value), NOW) for one, value in zip(labels, values, strict=False)))


def histogram(**counts):
    """le_0_5=3: three observations of half a second at most."""
    edges = {name.removeprefix("le_").replace("_", "."): value for name, value in counts.items()}
    return Answer(tuple(Sample({"le": "+Inf" if e == "inf" else e}, float(v), NOW) for e, v in edges.items()))
