import pytest

from bot.vllm.identity import of_container, of_template
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


def with_volume(**source):
    made = template(args=("/models/llama",))
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    made["spec"]["volumes"] = [{"name": "models", **source}, {"name": "other", "hostPath": {"path": "/x"}}]
    return of_template(made).volumes


def test_the_volume_that_holds_the_weights_is_part_of_it_and_scratch_space_is_not():
    one, other = (with_volume(persistentVolumeClaim={"claimName": name}) for name in ("llama-1", "llama-2"))
    assert one != other
    assert "hostPath" not in one
    assert with_volume(emptyDir={}) == "[]"


def test_a_template_without_vllm_has_no_identity():
    assert of_template({"spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}) is None


def test_options_that_cannot_be_seen_are_said_to_be_hidden():
    assert of_container(container(args=("m", "--config", "/etc/vllm.yaml"))).hidden is not None
