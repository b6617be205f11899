import pytest

from bot.vllm.identity import images_differ, numbers_differ, of_container, of_template
from tests.fakes import container, template

ARGS = (
    "org/model",
    "--revision=abc",
    "--quantization",
    "fp8",
    "--chat-template=/t.jinja",
    "--generation-config=vllm",
    "--max-num-seqs=8",
)


def test_options_are_kept_by_what_they_decide():
    found = of_container(container(args=ARGS))
    assert (found.model, found.image) == ("org/model", "vllm/vllm-openai:v0.32.0")
    assert (found.weights, found.numbers) == ({"revision": "abc"}, {"quantization": "fp8"})
    assert (found.text, found.choice) == ({"chat-template": "/t.jinja"}, {"generation-config": "vllm"})


def test_what_changes_no_answer_is_no_part_of_it():
    assert of_container(container(args=ARGS)) == of_container(container(args=(*ARGS, "--max-model-len=8192")))


def test_a_template_and_the_pod_made_of_it_agree():
    made, runs = of_template(template(args=ARGS)), of_container(container(args=ARGS))
    assert (made.model, made.image, made.weights, made.numbers) == (runs.model, runs.image, runs.weights, runs.numbers)


@pytest.mark.parametrize(
    ("args", "pinned"),
    [
        (("org/model",), False),
        (("org/model", "--revision", "abc"), True),
        (("/models/llama",), True),
        (("--port=1",), None),
    ],
)
def test_a_name_in_a_hub_is_pinned_by_its_revision_only(args, pinned):
    assert of_container(container(args=args)).pinned is pinned


@pytest.mark.parametrize(
    "options",
    [
        ("--load-format=runai_streamer",),  # the same weights, another loader
        ("--dtype=auto", "--kv-cache-dtype", "auto"),
        ("--tokenizer-mode=auto", "--tokenizer=org/model"),
        ("--generation-config=auto",),
        ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 4}'),
        ("--quantization=compressed-tensors",),  # what the checkpoint brings anyway
        ("--revision=main",),
    ],
)
def test_what_vllm_does_anyway_makes_no_other_model(options):
    assert of_container(container(args=("org/model", *options))) == of_container(container(args=("org/model",)))


def test_dummy_weights_are_other_weights():
    assert of_container(container(args=("org/model", "--load-format=dummy"))).weights == {"load-format": "dummy"}


def test_quantizing_while_loading_is_told_unless_the_checkpoint_is_so_by_its_name():
    assert of_container(container(args=("org/model", "-q", "fp8"))).numbers == {"quantization": "fp8"}
    assert of_container(container(args=("org/model-FP8", "-q", "fp8"))).numbers == {}


@pytest.mark.parametrize(
    ("before", "after", "differ"),
    [
        ((), ("--kv-cache-dtype=fp8",), True),
        (("--dtype=bfloat16",), ("--dtype=float16",), True),
        ((), ("--dtype=bfloat16",), None),  # most checkpoints are
        ((), ("--dtype=bfloat16", "--kv-cache-dtype=fp8"), True),
        ((), (), False),
    ],
)
def test_a_type_that_only_one_of_them_gives_may_be_the_checkpoints_own(before, after, differ):
    one, other = (of_container(container(args=("org/model", *args))) for args in (before, after))
    assert numbers_differ(one, other) is differ


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("vllm/vllm-openai:v0.32.0", "registry.local:5000/hub/vllm/vllm-openai:v0.32.0", False),
        ("vllm/vllm-openai:v0.32.0", "docker.io/vllm/vllm-openai:v0.32.0", False),
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.33.0", True),
        ("vllm/vllm-openai:v0.32.0", "team/own-vllm:v0.32.0", True),
        ("vllm/vllm-openai@sha256:a", "registry.local/vllm@sha256:a", False),
        ("vllm/vllm-openai:v0.32.0@sha256:a", "vllm/vllm-openai:v0.32.0@sha256:b", True),
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.32.0@sha256:a", None),
        ("vllm/vllm-openai:latest", "registry.local/vllm/vllm-openai:latest", None),
        ("vllm:1", "vllm:2", True),
    ],
)
def test_the_same_image_in_another_registry_is_no_other_image(one, other, differ):
    assert images_differ(one, other) is differ


PVC = {"persistentVolumeClaim": {"claimName": "llama-1"}}


def mounted(*mounts, args=("/models/llama",), **volumes):
    made = template(args=args)
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": name, "mountPath": path} for name, path in mounts]
    made["spec"]["volumes"] = [{"name": name, **source} for name, source in volumes.items()]
    return of_template(made)


def test_the_volume_that_the_models_path_lies_in_is_part_of_it():
    one = mounted(("models", "/models"), models=PVC)
    assert one.volumes != mounted(("models", "/models"), models={"persistentVolumeClaim": {"claimName": "b"}}).volumes
    assert one.volumes == mounted(("weights", "/models/"), weights=PVC).volumes  # by another name
    inside = mounted(("models", "/models"), ("config", "/models/llama/config"), models=PVC, config={"configMap": {}})
    assert one.volumes != inside.volumes


def test_other_volumes_are_not():
    one = mounted(("models", "/models"), models=PVC)
    for path in ("/etc/ssl/certs", "/models-of-others", "/models/other"):
        more = mounted(("models", "/models"), ("ca", path), models=PVC, ca={"configMap": {"name": "ca"}})
        assert (more.volumes, more.text_volumes) == (one.volumes, one.text_volumes), path
    assert mounted(("models", "/models"), models={"emptyDir": {}}).volumes == "[]"


def test_of_a_model_from_a_hub_what_is_mounted_is_its_cache():
    assert mounted(("cache", "/home/vllm/.cache"), args=("org/model",), cache=PVC).volumes == "[]"


def test_a_chat_template_from_another_config_map_is_another_template():
    args = ("org/model", "--chat-template=/templates/chat.jinja")
    one, other = (
        mounted(("t", "/templates"), args=args, t={"configMap": {"name": name}}) for name in ("chat-1", "chat-2")
    )
    assert one.text_volumes != other.text_volumes
    assert one.volumes == other.volumes


def test_a_template_without_vllm_has_no_identity():
    assert of_template({"spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}) is None


def test_options_that_cannot_be_seen_are_said_to_be_hidden():
    assert of_container(container(args=("m", "--config", "/etc/vllm.yaml"))).hidden is not None
