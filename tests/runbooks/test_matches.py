"""Alerts that others' rules bring go to the runbook that answers them; what none answers goes to none."""

import pytest

from bot.runbook.checking import library
from bot.runbook.loading import our_folder

RUNBOOKS = library([our_folder()]).runbooks

# docs/monitoring/prometheus-alerting-rules.yaml and docs/operations/observability/alerting.md of llm-d, the kubelet's
# and apps' rules of kube-prometheus, and the GPU operator's about nodes.
ANSWERED = {
    "engine_down": (
        "LLMDHighErrorRate", "LLMDModelHighErrorRate", "LLMDElevatedErrorRate", "LLMDNoHealthyBackends",
        "LLMDAvailabilitySLOBurn", "LLMDPodRestartLoop", "LLMDLowReplicaCount", "LLMDPodsPending",
        "EPPHighErrorRatio", "EPPCriticalErrorRatio", "EPPNoReadyEndpoints",
        "KubePodCrashLooping", "KubePodNotReady", "KubeContainerWaiting", "KubeDeploymentGenerationMismatch",
        "KubeDeploymentReplicasMismatch", "KubeDeploymentRolloutStuck", "KubeStatefulSetReplicasMismatch",
        "KubeStatefulSetGenerationMismatch", "KubeStatefulSetUpdateNotRolledOut", "KubeHpaReplicasMismatch",
        "KubeNodePressure", "KubeNodeEviction", "TargetDown",
    ),
    "high_latency": (
        "LLMDExtremeTTFT", "LLMDHighTTFT", "LLMDTTFTSLO", "LLMDHighLatencyP99", "LLMDLatencySLOViolation",
        "LLMDHighPreemptions", "LLMDKVCacheSaturation", "LLMDDecodeKVCacheCritical", "LLMDRequestQueueBuildup",
        "LLMDPrefillQueueSaturation", "LLMDGPUUnderutilization", "KubeHpaMaxedOut",
    ),
    "oom_crashes": ("LLMDMemoryPressure",),
    "gpu_hardware_failure": (
        "KubeNodeNotReady", "KubeNodeUnreachable", "KubeNodeReadinessFlapping", "GPUOperatorNodeDeploymentFailed",
        "GPUOperatorNodeDeploymentDriverFailed",
    ),
}  # fmt: skip
# About a router, a cache's use, or a share between two kinds of replicas: no runbook looks at those.
UNANSWERED = ("LLMDSchedulerDown", "EPPMetricsAbsent", "LLMDLowPrefixCacheHitRate", "LLMDPrefillDecodeImbalance")


def matching(alertname):
    return [name for name, runbook in RUNBOOKS.items() if runbook.matches({"alertname": alertname})]


@pytest.mark.parametrize(("runbook", "alertname"), [(r, a) for r, names in ANSWERED.items() for a in names])
def test_an_alert_goes_to_the_runbook_that_answers_it(runbook, alertname):
    assert matching(alertname) == [runbook]


@pytest.mark.parametrize("alertname", UNANSWERED)
def test_what_no_runbook_answers_goes_to_none(alertname):
    assert matching(alertname) == []
