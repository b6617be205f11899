import copy

from bot.vllm.differences import differences
from tests.fakes import template

BASE = template(image="vllm/vllm-openai:v0.31.0", args=["org/model", "--max-num-seqs=256", "-tp", "4"])


def changed(edit):
    after = copy.deepcopy(BASE)
    edit(after["spec"]["containers"][0], after)
    return differences(BASE, after)


def test_an_image_is_told_by_its_tags():
    found = changed(lambda c, t: c.update(image="vllm/vllm-openai:v0.32.0"))
    assert found.text == "image vllm-openai v0.31.0 → v0.32.0"
    assert found.image and not found.arguments


def test_options_are_told_by_vllms_reading_of_them():
    found = changed(lambda c, t: c.update(args=["org/model", "--max_num_seqs", "64", "--tensor-parallel-size=4"]))
    assert found.lines == ("--max-num-seqs 256 → 64",)
    assert found.arguments and not found.image


def test_an_option_that_was_not_there():
    assert "--enforce-eager (not given) → true" in changed(lambda c, t: c["args"].append("--enforce-eager")).text


def test_the_same_options_in_other_words_are_said_to_be_that():
    found = changed(lambda c, t: c.update(args=["org/model", "--max-num-seqs", "256", "-tp4"]))
    assert found.text == "command line written differently"


def test_values_of_variables_are_not_shown():
    found = changed(lambda c, t: c.update(env=[{"name": "HF_TOKEN", "value": "hf_secret"}]))
    assert found.text == "variable HF_TOKEN changed"


def test_everything_else_is_named():
    found = changed(lambda c, t: (c.update(resources={"limits": {}}), t["spec"].update(nodeSelector={"a": "b"})))
    assert found.lines == ("resources changed", "pod's nodeSelector changed")


def test_the_hash_label_is_no_change():
    found = changed(lambda c, t: t["metadata"]["labels"].update({"pod-template-hash": "7d9f"}))
    assert found.text == ""


def test_a_restart_changes_nothing_that_runs():
    assert changed(lambda c, t: t["metadata"].setdefault("annotations", {}).update(restartedAt="now")).restart
    assert not changed(lambda c, t: c.update(image="vllm/vllm-openai:v0.33.0")).restart
