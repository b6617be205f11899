import pytest

from bot.incidents.judge import Observation, Verdict, judge
from bot.runbook.schema import Runbook, Severity

BASE = {
    "title": "t",
    "owner": "o",
    "symptoms": "s",
    "match": [{"alertname": "A"}],
    "steps": [
        {"id": "queue", "probe": "vllm_queue"},
        {"id": "gpu", "probe": "gpu_utilization"},
        {"id": "kv", "probe": "vllm_kv_cache"},
    ],
}


def rule(id, *when, **more):
    return {"id": id, "when": list(when), "severity": "warning", "title": id, "finding": "f", **more}


def runbook(*rules):
    return Runbook.model_validate({**BASE, "rules": list(rules)})


def seen(step, reading=None, error=None):
    return Observation(step, step, step, reading, error, 0.1)


def verdicts(findings):
    return {finding.rule: finding.verdict for finding in findings}


QUEUE = seen("queue", {"waiting": 138, "replicas": 3, "missing": None})


def test_all_conditions_must_hold():
    both = runbook(rule("r", "queue.waiting > 50", "queue.replicas == 3"))
    assert judge(both, [QUEUE], {})[0].verdict is Verdict.CONFIRMED


def test_one_false_condition_rules_out_whatever_is_unknown():
    some = runbook(rule("r", "gpu.busy_ratio_mean > 0.5", "queue.waiting > 500"))
    assert judge(some, [QUEUE, seen("gpu", error="Prometheus: down")], {})[0].verdict is Verdict.RULED_OUT


def test_one_unknown_condition_makes_it_inconclusive_and_says_why():
    some = runbook(rule("r", "gpu.busy_ratio_mean > 0.5", "queue.waiting > 50"))
    (failed,) = judge(some, [QUEUE, seen("gpu", error="Prometheus: did not answer within 10 s")], {})
    assert failed.verdict is Verdict.INCONCLUSIVE
    assert failed.unknown == ("gpu: Prometheus: did not answer within 10 s",)
    reading = {"busy_ratio_mean": None, "missing": "DCGM_FI_DEV_GPU_UTIL is not exported"}
    (absent,) = judge(some, [QUEUE, seen("gpu", reading)], {})
    assert absent.unknown == ("gpu: DCGM_FI_DEV_GPU_UTIL is not exported",)


def test_no_observations_at_all_are_inconclusive_not_fine():
    (finding,) = judge(runbook(rule("r", "queue.waiting > 50")), [], {})
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.unknown == ("queue: waiting was not asked",)


def test_a_broken_expression_is_inconclusive():
    (finding,) = judge(runbook(rule("r", "queue.waiting >")), [QUEUE], {})
    assert finding.verdict is Verdict.INCONCLUSIVE and "is not valid CEL" in finding.unknown[0]


def test_the_services_promises_can_be_compared_with():
    of = runbook(rule("r", "queue.waiting > slo.ttft_p99_seconds"))
    assert judge(of, [QUEUE], {"slo.ttft_p99_seconds": 1.0})[0].verdict is Verdict.CONFIRMED
    (unpromised,) = judge(of, [QUEUE], {"slo.ttft_p99_seconds": None})
    assert unpromised.unknown == ("slo: fleet.yaml promises no ttft_p99_seconds",)


def test_confirmed_stand_first_then_the_severe_then_the_specific():
    ranked = judge(
        runbook(
            rule("out", "queue.waiting > 999", severity="critical"),
            rule("unknown", "gpu.busy_ratio_mean > 1", severity="critical"),
            rule("plain", "queue.waiting > 50"),
            rule("specific", "queue.waiting > 50", "queue.replicas == 3"),
            rule("severe", "queue.waiting > 50", severity="critical"),
        ),
        [QUEUE],
        {},
    )
    assert [finding.rule for finding in ranked] == ["severe", "specific", "plain", "unknown", "out"]
    assert ranked[0].severity is Severity.CRITICAL


def test_a_confirmed_cause_explains_its_symptoms_away():
    symptom = rule("symptom", "queue.waiting > 50", severity="critical")
    found = judge(runbook(symptom, rule("cause", "queue.waiting > 50", suppresses=["symptom"])), [QUEUE], {})
    assert [(finding.rule, finding.suppressed_by) for finding in found] == [("cause", None), ("symptom", "cause")]


@pytest.mark.parametrize("when", ["queue.waiting > 999", "gpu.busy_ratio_mean > 1"])
def test_a_cause_that_is_not_confirmed_explains_nothing(when):
    found = judge(
        runbook(rule("symptom", "queue.waiting > 50"), rule("cause", when, suppresses=["symptom"])), [QUEUE], {}
    )
    assert found[0].rule == "symptom" and found[0].suppressed_by is None


def test_what_is_ruled_out_is_not_called_suppressed():
    found = judge(
        runbook(rule("out", "queue.waiting > 999"), rule("cause", "queue.waiting > 50", suppresses=["out"])),
        [QUEUE],
        {},
    )
    assert all(finding.suppressed_by is None for finding in found)


def test_words_are_filled_in():
    (finding,) = judge(
        runbook(
            rule(
                "r",
                "queue.waiting > 50",
                finding="${queue.waiting} wait at $service",
                because=["Queue ${queue.waiting}", "GPU ${gpu.busy_ratio_mean} busy"],
                suggest=[
                    {
                        "action": "scale_workload",
                        "with": {"add": "${queue.replicas}", "cap": "${gpu.gpus}"},
                        "why": "${queue.waiting} wait",
                        "by_hand": "kubectl -n $namespace scale $kind/x --replicas=${gpu.gpus}",
                    }
                ],
            )
        ),
        [QUEUE, seen("gpu", {"busy_ratio_mean": None, "missing": "not exported"})],
        {"service": "chat", "namespace": "llm", "kind": "deployment"},
    )
    assert finding.text == "138 wait at chat"
    assert finding.because == ("Queue 138",)  # what cannot be told is no evidence, and is said to be unknown
    assert finding.unknown == ("gpu: not exported",)
    (suggestion,) = finding.suggest
    assert suggestion.with_ == {"add": 3}
    assert suggestion.why == "138 wait"
    assert suggestion.by_hand == "kubectl -n llm scale deployment/x --replicas=   # fill in: gpu.gpus"
