"""A rule quotes the log that it is about: another replica's may tell of something else at the same time."""

import re

import pytest

from bot.runbook.checking import library
from bot.runbook.loading import our_folder
from bot.vllm.log_signatures import Family

RUNBOOKS = library([our_folder()]).runbooks
RULES = [(runbook.name, rule) for runbook in RUNBOOKS.values() for rule in runbook.rules]
_WORDS = re.compile(r"\$\{logs\.(?:(?P<kind>\w+)_)?(?P<word>pod|cause|line|remedy|node)\}")
_OF_GPU_MEMORY = {
    "kv_cache_too_small",
    "weights_too_large",
    "gpu_memory_taken",
    "gpu_oom_warming_up",
    "gpu_oom_serving",
}


@pytest.mark.parametrize(("runbook", "rule"), RULES, ids=lambda value: getattr(value, "id", value))
def test_a_rule_names_the_pod_and_the_line_of_what_it_asks_for(runbook, rule):
    asked = {family.value for family in Family if any(f"logs.{family.value} " in line for line in rule.when)}
    kinds = asked | ({"out_of_gpu_memory"} if asked >= _OF_GPU_MEMORY else set())
    told = {match["kind"] for match in _WORDS.finditer(str(rule.model_dump(exclude={"when"})))}
    assert told <= kinds
