from dataclasses import replace
from datetime import timedelta

import pytest

from bot.ports import SourceError
from bot.probes.model_identity import Params, observe
from bot.vllm.references import KNOWN_GOOD_REVISION
from tests.fakes import NOT_ANSWERING, NOW, FakeEngine, FakeEngines
from tests.probes.fleets import world

NOW_ARGS = ("org/model", "--revision=abc", "--quantization=fp8")


def ask(sources):
    return observe(Params(service="chat"), sources)


def changed_from(*args, image="vllm/vllm-openai:v0.32.0", days=9):
    """The service as it is, and a revision before it that served for days."""
    sources, cluster, ref = world(args=NOW_ARGS)
    cluster.add_revision(ref, args=args, image=image)
    newest, older = cluster.history[ref]
    cluster.history[ref] = [newest, replace(older, created_at=newest.created_at - timedelta(days=days))]
    return sources, cluster, ref


def test_nothing_but_the_scheduling_changed():
    found = ask(changed_from(*NOW_ARGS, "--max-num-seqs=8")[0])
    changes = (found.model_changed, found.quantization_changed, found.tokenizer_changed, found.sampling_changed)
    assert changes == (False, False, False, False)
    assert (found.image_changed, found.reference_revision) == (False, 1)
    assert found.reference == "revision 1, which served for 9 days"
    assert "--max-num-seqs 8 → (not given)" in found.changed


@pytest.mark.parametrize(
    ("before", "field"),
    [
        (("org/other", *NOW_ARGS[1:]), "model_changed"),
        (("org/model", "--revision=xyz", "--quantization=fp8"), "model_changed"),
        (("org/model", "--revision=abc"), "quantization_changed"),
        (("org/model", "--revision=abc", "--quantization=fp8", "--kv-cache-dtype=fp8"), "quantization_changed"),
        ((*NOW_ARGS, "--chat-template=/t.jinja"), "tokenizer_changed"),
        ((*NOW_ARGS, "--generation-config=vllm"), "sampling_changed"),
        ((*NOW_ARGS, "--lora-modules", "a=/a", "sql=/adapters/sql"), "adapters_changed"),
    ],
)
def test_what_makes_another_model_is_told(before, field):
    found = ask(changed_from(*before)[0])
    told = {
        name: getattr(found, name)
        for name in (f"{what}_changed" for what in ("model", "quantization", "tokenizer", "sampling", "adapters"))
    }
    assert told == {name: name == field for name in told}


def test_a_type_given_now_and_not_before_may_be_the_checkpoints_own():
    found = ask(changed_from(*NOW_ARGS, "--dtype=bfloat16")[0])
    assert (found.quantization_changed, found.model_changed) == (None, False)


def test_a_mirror_of_the_image_is_no_other_image():
    assert ask(changed_from(*NOW_ARGS, image="registry.local/vllm/vllm-openai:v0.32.0")[0]).image_changed is False


def test_a_certificate_that_is_mounted_makes_no_other_checkpoint():
    sources, cluster, ref = changed_from(*NOW_ARGS)
    spec = cluster.workloads[ref].template["spec"]
    serving = {**spec["containers"][0], "volumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs"}]}
    spec = {**spec, "containers": [serving], "volumes": [{"name": "ca", "configMap": {"name": "ca"}}]}
    cluster.workloads[ref] = replace(cluster.workloads[ref], template={"spec": spec})
    assert ask(sources).model_changed is False


def test_another_image_is_told_with_the_one_before():
    found = ask(changed_from(*NOW_ARGS, image="vllm/vllm-openai:v0.31.0")[0])
    assert (found.image_changed, found.image_before) == (True, "vllm/vllm-openai:v0.31.0")


def test_what_the_service_serves_is_told():
    found = ask(world(args=NOW_ARGS)[0])
    assert (found.model, found.model_revision, found.quantization, found.pinned) == ("org/model", "abc", "fp8", True)


def test_without_another_revision_nothing_is_said_to_have_changed():
    found = ask(world(args=NOW_ARGS)[0])
    assert (found.model_changed, found.reference_revision) == (None, None)
    assert KNOWN_GOOD_REVISION in found.missing


def test_where_arguments_are_hidden_only_a_change_that_is_seen_counts():
    sources, cluster, ref = changed_from(*NOW_ARGS)
    hidden = {**cluster.workloads[ref].template}
    hidden["spec"] = {"containers": [{**hidden["spec"]["containers"][0], "args": [*NOW_ARGS, "--config", "/x.yaml"]}]}
    cluster.workloads[ref] = replace(cluster.workloads[ref], template=hidden)
    found = ask(sources)
    assert (found.model_changed, found.quantization_changed, found.image_changed) == (None, None, False)
    assert "--config file" in found.missing


def test_a_declared_revision_is_what_is_compared_with():
    sources, cluster, ref = changed_from("org/other")
    cluster.workloads[ref] = replace(cluster.workloads[ref], annotations={KNOWN_GOOD_REVISION: "2"})
    found = ask(sources)
    assert (found.reference_declared, found.model_changed) == (True, False)


def test_a_stateful_set_has_nothing_to_compare_with():
    found = ask(world(kind="StatefulSet", args=NOW_ARGS)[0])
    assert found.model_changed is None
    assert "keeps no old templates" in found.missing


def test_replicas_that_run_different_models_are_told_and_the_fewer_named():
    sources, cluster, _ = world(args=NOW_ARGS)
    other = replace(cluster.pods[2].containers[0], args=("org/other",))
    cluster.pods[2] = replace(cluster.pods[2], containers=(other,))
    found = ask(sources)
    assert (found.variants, found.variant_pod, found.rolling_out) == (2, cluster.pods[2].name, False)
    cluster.pods[2] = replace(cluster.pods[2], ready=False)
    assert ask(sources).variants == 1


def test_a_canary_of_another_model_is_no_variant():
    sources, cluster, ref = world(args=NOW_ARGS)
    canary = cluster.add_workload(name="chat-canary", replicas=1, args=("org/other",))
    service = sources.fleet.services[0].model_copy(update={"workloads": (ref, canary)})
    fleet = sources.fleet.model_copy(update={"services": (service,)})
    assert ask(replace(sources, fleet=fleet)).variants == 1


def test_one_tag_with_two_digests_is_told():
    sources, cluster, _ = world(args=NOW_ARGS)

    def pulled(number, image_id):
        one = replace(cluster.pods[number].containers[0], image_id=image_id)
        cluster.pods[number] = replace(cluster.pods[number], containers=(one,))

    assert ask(sources).digests_differ is None
    pulled(0, "docker.io/vllm/vllm-openai@sha256:a")
    pulled(1, "docker.io/vllm/vllm-openai@sha256:a")
    pulled(2, "sha256:loaded-by-hand")
    assert ask(sources).digests_differ is False
    pulled(2, "docker.io/vllm/vllm-openai@sha256:b")
    assert (ask(sources).digests_differ, ask(sources).variants) == (True, 1)


def serving(cluster, root):
    model = {"id": "chat", "root": root, "parent": None}
    return FakeEngines({f"{pod.ip}:8000": FakeEngine(models=(model,)) for pod in cluster.pods})


def test_what_was_loaded_is_compared_with_what_was_asked_for():
    sources, cluster, _ = world(args=NOW_ARGS)
    same = ask(replace(sources, engines=serving(cluster, "org/model")))
    assert (same.served_root, same.served_differs) == ("org/model", False)
    assert ask(replace(sources, engines=serving(cluster, "/tmp/x"))).served_differs is True
    assert ask(sources).served_differs is None


def test_a_rollout_in_progress_is_told():
    sources, cluster, ref = world(args=NOW_ARGS)
    cluster.workloads[ref] = replace(cluster.workloads[ref], updated=1)
    assert ask(sources).rolling_out is True


def test_the_api_server_down_is_raised():
    sources, cluster, _ = world()
    cluster.down = NOT_ANSWERING
    with pytest.raises(SourceError):
        ask(sources)


def test_the_moment_does_not_matter():
    assert ask(replace(changed_from(*NOW_ARGS)[0], now=NOW + timedelta(days=3))).model_changed is False
