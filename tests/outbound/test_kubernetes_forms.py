import pytest

from bot.outbound.kubernetes_forms import Meta, PodSpec, Taint, gpu_count

META = {"name": "chat", "uid": "u1", "creationTimestamp": "2026-11-24T02:00:00Z"}


def test_what_go_writes_as_null_is_empty():
    meta = Meta.model_validate({**META, "labels": None, "annotations": None, "ownerReferences": None})
    assert (meta.labels, meta.annotations, meta.ownerReferences) == ({}, {}, [])
    spec = PodSpec.model_validate({"nodeName": None, "containers": [{"name": "vllm", "args": None, "env": None}]})
    assert (spec.nodeName, spec.containers[0].args, spec.containers[0].env) == ("", (), [])


def test_fields_that_nobody_reads_are_ignored():
    assert Meta.model_validate({**META, "managedFields": [{"manager": "kubectl"}]}).name == "chat"


def test_an_owner_that_is_not_the_controller_controls_nothing():
    owner = {"kind": "Pod", "name": "x", "uid": "u2"}
    assert Meta.model_validate({**META, "ownerReferences": [owner]}).controller is None
    assert Meta.model_validate({**META, "ownerReferences": [{**owner, "controller": True}]}).controller is not None


@pytest.mark.parametrize(
    ("resources", "gpus"), [({"nvidia.com/gpu": "8"}, 8), ({"cpu": "8"}, 0), ({"nvidia.com/gpu": "0"}, 0)]
)
def test_only_whole_nvidia_gpus_are_gpus(resources, gpus):
    assert gpu_count(resources) == gpus


def test_a_taint_reads_as_kubectl_writes_it():
    assert str(Taint(key="gpu", value="bad", effect="NoSchedule")) == "gpu=bad:NoSchedule"
    assert str(Taint(key="gpu", effect="NoExecute")) == "gpu:NoExecute"
