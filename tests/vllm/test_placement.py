import pytest

from bot.ports import Node
from bot.vllm.placement import accepts, gpus_of, room


def node(name: str = "gpu-01", *, taints=(), **labels: str) -> Node:
    return Node(name, True, True, {"Ready": True}, labels, {}, tuple(taints), 8, "H100")


def template(gpus: int = 4, *, labels=None, **spec) -> dict:
    containers = [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}, {"name": "sidecar"}]
    return {"metadata": {"labels": labels or {}}, "spec": {"containers": containers, **spec}}


def node_affinity(*terms) -> dict:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"nodeAffinity": required}


def test_the_containers_needs_add_up():
    assert gpus_of(template(4)) == 4
    assert gpus_of({"spec": {"containers": [{"name": "cpu-only"}]}}) == 0


def test_each_node_takes_as_many_as_fit_whole():
    nodes = [node("a"), node("b"), node("c")]
    assert room(template(4), nodes, {"a": 8, "b": 7, "c": 3}) == {"a": 2, "b": 1}


def test_a_node_that_nothing_is_known_of_has_no_room():
    assert room(template(4), [node("a")], {}) == {}


def test_a_node_selector_and_labels():
    wanted = template(nodeSelector={"pool": "h100"})
    assert accepts(wanted, node(pool="h100")) and not accepts(wanted, node(pool="a100")) and not accepts(wanted, node())


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "pool", "operator": "In", "values": ["h100", "h200"]}, True),
        ({"key": "pool", "operator": "NotIn", "values": ["h100"]}, False),
        ({"key": "pool", "operator": "Exists"}, True),
        ({"key": "spot", "operator": "DoesNotExist"}, True),
        ({"key": "memory", "operator": "Gt", "values": ["70000"]}, True),
        ({"key": "memory", "operator": "Lt", "values": ["70000"]}, False),
        ({"key": "pool", "operator": "Like", "values": ["h"]}, False),
    ],
)
def test_required_affinity(expression, fits):
    wanted = template(affinity=node_affinity({"matchExpressions": [expression]}))
    assert accepts(wanted, node(pool="h100", memory="81559")) is fits


def test_one_of_several_affinity_terms_suffices_and_an_empty_one_matches_nothing():
    by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-01"]}]}
    assert accepts(template(affinity=node_affinity({}, by_name)), node("gpu-01"))
    assert not accepts(template(affinity=node_affinity({})), node("gpu-01"))


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints_need_their_toleration(toleration, fits):
    tainted = node(taints=["gpu=yes:NoSchedule"])
    assert not accepts(template(), tainted)
    assert accepts(template(tolerations=[toleration]), tainted) is fits


def test_a_taint_that_only_prefers_repels_nobody():
    assert accepts(template(), node(taints=["busy:PreferNoSchedule"]))


def test_an_anti_affinity_by_hostname_allows_one_replica_a_node():
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "chat"}}}
    alone = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    wanted = template(2, labels={"app": "chat"}, affinity=alone)
    assert room(wanted, [node("a"), node("b")], {"a": 8, "b": 8}, hosts={"b"}) == {"a": 1}
