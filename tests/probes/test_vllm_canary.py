import json
from dataclasses import replace

from bot.ports import Completion, SourceError
from bot.probes.vllm_canary import Params, observe
from bot.vllm.references import GOLDEN_PROMPTS
from tests.fakes import FakeEngine, FakeEngines
from tests.probes.fleets import world
from tests.probes.test_canaries import ANSWER, SILENT, WITH_NUMBERS, page

GOOD = FakeEngine(pages=[page()], completion=ANSWER, with_logprobs=WITH_NUMBERS)
STUCK = FakeEngine(pages=[page()], completion=SILENT)


def ask(*engines, **params):
    sources, cluster, ref = world(replicas=len(engines))
    if golden := params.pop("golden", None):
        cluster.workloads[ref] = replace(cluster.workloads[ref], annotations={GOLDEN_PROMPTS: golden})
    at = {f"{pod.ip}:8000": engine for pod, engine in zip(cluster.pods, engines, strict=True)}
    sources = replace(sources, engines=FakeEngines(at))
    return observe(Params(service="chat", **params), sources), cluster


def test_replicas_are_counted_by_what_became_of_the_request():
    failing = FakeEngine(pages=[page()], completion=Completion(ok=False, status=500, seconds=0.1, text="dead"))
    found, cluster = ask(GOOD, STUCK, failing, FakeEngine(pages=[page(awake=0)]), FakeEngine(health=None))
    assert (found.asked, found.answered, found.stuck, found.failed) == (4, 1, 1, 1)
    assert (found.asleep, found.unreachable, found.refused, found.late) == (1, 1, 0, 0)
    assert found.stuck_pod == cluster.pods[1].name
    assert (found.failed_pods, found.failed_why) == (cluster.pods[2].name, "500: dead")


def test_while_one_could_not_be_asked_it_is_not_known_that_none_is_stuck():
    found, _ = ask(GOOD, FakeEngine(pages=[SourceError("vLLM", "is that vLLM?")]))
    assert (found.answered, found.stuck, found.failed) == (1, None, None)
    assert "is that vLLM?" in found.missing


def test_more_replicas_than_allowed_are_not_asked_and_that_is_said():
    found, _ = ask(GOOD, GOOD, GOOD, max_replicas=2)
    assert (found.asked, found.stuck) == (2, None)
    assert "1 more replicas were not asked" in found.missing


def test_numbers_and_words_are_judged_over_all_replicas():
    found, _ = ask(GOOD, GOOD, sense=True)
    assert (found.nan, found.garbage, found.wrong) == (0, 0, None)
    marks = FakeEngine(pages=[page()], completion=Completion(ok=True, status=200, seconds=0.1, text="!" * 16))
    found, cluster = ask(GOOD, marks, sense=True)
    assert (found.garbage, found.garbage_pod, found.nan) == (1, cluster.pods[1].name, None)


def test_a_replica_that_did_not_answer_leaves_sense_unknown():
    found, _ = ask(GOOD, STUCK, sense=True)
    assert (found.nan, found.garbage) == (None, None)


def test_golden_prompts_come_from_the_workload():
    golden = json.dumps([{"prompt": "2 + 2 =", "expect": "4"}])
    four = Completion(ok=True, status=200, seconds=0.1, text=" 4")
    right, wrong = (replace(GOOD, completions={"2 + 2 =": answer}) for answer in (four, replace(four, text=" fish")))
    assert ask(right, right, sense=True, golden=golden)[0].wrong == 0
    found, cluster = ask(right, wrong, sense=True, golden=golden)
    assert (found.wrong, found.wrong_pods) == (1, cluster.pods[1].name)
    assert found.wrong_answer == "2 + 2 = → fish"


def test_without_golden_prompts_it_is_said_how_to_declare_them():
    found, _ = ask(GOOD, sense=True)
    assert found.wrong is None
    assert GOLDEN_PROMPTS in found.missing


def test_golden_prompts_that_cannot_be_read_are_named():
    assert "is no JSON" in ask(GOOD, sense=True, golden="{")[0].missing


def test_where_nothing_runs_nothing_is_asked():
    sources, cluster, _ = world(replicas=1)
    cluster.pods[0] = replace(cluster.pods[0], ip=None, node=None)
    found = observe(Params(service="chat"), sources)
    assert (found.asked, found.stuck) == (0, None)
    assert "no replica runs" in found.missing
