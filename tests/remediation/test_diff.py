from bot.ports import Change
from bot.remediation.diff import diff, rendered
from bot.remediation.proposal import DiffLine


def deployment(*, replicas: int = 3, args=(), env=(), metadata=None, **container) -> dict:
    one = {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", "args": list(args), "env": list(env), **container}
    sidecar = {"name": "proxy", "image": "envoy:1"}
    return {
        "kind": "Deployment",
        "metadata": {"name": "chat", "resourceVersion": "1", "generation": 1, **(metadata or {})},
        "spec": {"replicas": replicas, "template": {"metadata": {}, "spec": {"containers": [one, sidecar]}}},
        "status": {"readyReplicas": 3},
    }


def lines(before: dict, after: dict) -> list[tuple]:
    return [(line.path, line.before, line.after) for line in diff(Change(before, after))]


def test_a_scale_is_one_line():
    assert lines(deployment(replicas=3), deployment(replicas=4)) == [("spec.replicas", 3, 4)]


def test_what_the_api_server_writes_itself_is_left_out():
    after = deployment(metadata={"resourceVersion": "2", "generation": 2, "managedFields": [{"manager": "x"}]})
    after["status"] = {"readyReplicas": 2}
    after["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    after["spec"]["template"]["metadata"] = {"creationTimestamp": None, "labels": {"pod-template-hash": "abc"}}
    assert lines(deployment(), after) == []


def test_arguments_are_compared_by_option_however_they_are_written():
    before = deployment(args=["model", "--max_num_seqs", "256", "--enforce-eager"])
    after = deployment(args=["model", "--max-num-seqs=16", "--gpu-memory-utilization=0.9"])
    assert lines(before, after) == [
        ("vllm: --max-num-seqs", "256", "16"),
        ("vllm: --enforce-eager", "true", None),
        ("vllm: --gpu-memory-utilization", None, "0.9"),
    ]


def test_arguments_in_a_shell_script_are_found():
    before, after = (deployment(command=["sh", "-c", f"exec vllm serve model --max-num-seqs {n}"]) for n in (256, 16))
    assert lines(before, after) == [("vllm: --max-num-seqs", "256", "16")]


def test_the_same_options_written_differently_are_shown_as_they_stand():
    before, after = deployment(args=["m", "--seed=1"]), deployment(args=["m", "--seed", "1"])
    assert lines(before, after) == [("vllm: command line", ["m", "--seed=1"], ["m", "--seed", "1"])]


def test_a_new_model_is_told():
    assert lines(deployment(args=["llama-8b"]), deployment(args=["llama-70b"])) == [
        ("vllm: model", "llama-8b", "llama-70b")
    ]


def test_containers_are_told_apart_by_name_not_by_place():
    after = deployment(image="vllm/vllm-openai:v0.33.0")
    after["spec"]["template"]["spec"]["containers"].reverse()
    assert lines(deployment(), after) == [("vllm: image", "vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.33.0")]


def test_a_container_that_comes_is_told_by_its_image():
    after = deployment()
    after["spec"]["template"]["spec"]["containers"].append({"name": "debug", "image": "busybox"})
    assert lines(deployment(), after) == [("containers[debug]", None, "busybox")]


def test_values_of_variables_are_never_shown():
    before = deployment(env=[{"name": "HF_TOKEN", "value": "hf_old"}, {"name": "GONE", "value": "secret"}])
    after = deployment(env=[{"name": "HF_TOKEN", "value": "hf_new"}, {"name": "NEW", "value": "secret"}])
    told = lines(before, after)
    assert [path for path, _, _ in told] == ["vllm: env[HF_TOKEN]", "vllm: env[GONE]", "vllm: env[NEW]"]
    assert "hf_" not in str(told) and "secret" not in str(told)


def test_a_key_in_the_arguments_is_not_shown():
    before, after = (deployment(args=["m", f"--api-key={k}"]) for k in ("k-old", "k-new"))
    assert lines(before, after) == [("vllm: --api-key", "(a value, not shown)", "(another value, not shown)")]
    hidden = (deployment(args=["m", f"--api-key={k}", "$(FROM_SECRET)"], env=[{"name": "FROM_SECRET", "valueFrom": {}}])
              for k in ("k-old", "k-new"))  # fmt: skip
    assert "k-old" not in str(lines(*hidden))


def test_pod_labels_and_the_cause_are_shown():
    before, after = deployment(), deployment(metadata={"annotations": {"kubernetes.io/change-cause": "roll back"}})
    after["spec"]["template"]["metadata"]["labels"] = {"tier": "gpu"}
    assert set(lines(before, after)) == {
        ("pod's labels[tier]", None, "gpu"),
        ("metadata.annotations[kubernetes.io/change-cause]", None, "roll back"),
    }


def test_lines_are_rendered_field_by_field():
    text = rendered((DiffLine("spec.replicas", 3, 4), DiffLine("x", None, {"a": True, "b": [1, 2]})))
    assert text == "spec.replicas\n- 3\n+ 4\nx\n+ a: true, b: 1 2"
