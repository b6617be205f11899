import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from bot.ports import SourceError
from bot.probes.chat_template import Params, observe
from bot.vllm.references import CHAT_REFERENCE, token_hash
from tests.fakes import FakeEngine, FakeEngines
from tests.probes.fleets import world

HELLO = [{"role": "user", "content": "hi"}]
RIGHT = FakeEngine(tokens=(1, 2, 3))


def ask(*engines, reference=None, **params):
    sources, cluster, ref = world(replicas=len(engines))
    if reference is not None:
        cluster.workloads[ref] = replace(cluster.workloads[ref], annotations={CHAT_REFERENCE: json.dumps(reference)})
    at = {f"{pod.ip}:8000": engine for pod, engine in zip(cluster.pods, engines, strict=True)}
    return observe(Params(service="chat", **params), replace(sources, engines=FakeEngines(at))), cluster


def declared(*tokens):
    return {"messages": HELLO, "tokens": list(tokens)}


def test_the_references_tokens_on_every_replica():
    found, _ = ask(RIGHT, RIGHT, reference=declared(1, 2, 3))
    assert (found.asked, found.answered, found.differing, found.variants) == (2, 2, 0, 1)
    assert (found.token_count, found.reference, found.missing) == (3, "1 messages, 3 tokens", None)


def test_other_tokens_are_told_with_the_first_that_differs():
    found, cluster = ask(RIGHT, replace(RIGHT, tokens=(1, 9, 3)), reference=declared(1, 2, 3))
    assert (found.differing, found.differing_pod) == (1, cluster.pods[1].name)
    assert (found.difference, found.variants) == ("token 1 is 9, not 2", 2)
    longer, _ = ask(replace(RIGHT, tokens=(1, 2, 3, 4)), reference=declared(1, 2, 3))
    assert longer.difference == "4 tokens, not 3"


def test_a_hash_is_enough_of_a_reference():
    by_hash = {"messages": HELLO, "sha256": token_hash([1, 2, 3])}
    assert ask(RIGHT, reference=by_hash)[0].differing == 0
    assert ask(replace(RIGHT, tokens=(1,)), reference=by_hash)[0].differing == 1


WORDS = {1: "Today: ", 2: "26 Jul ", 3: "2026", 4: "30 Nov ", 5: "2027", 6: "\\nhi", 7: "\\n\\nhi"}


@pytest.mark.parametrize(
    ("now", "differing"),
    [((1, 2, 3, 6), 0), ((1, 4, 3, 6), None), ((1, 4, 5, 6), None), ((1, 4, 3, 7), 1), ((1, 6), 1)],
)
def test_the_date_of_the_day_is_no_difference_that_could_be_told(now, differing):
    found, _ = ask(FakeEngine(tokens=now, vocabulary=WORDS), reference=declared(1, 2, 3, 6))
    assert found.differing == differing
    assert ("in the date alone (30 Nov" in (found.missing or "")) == (differing is None)


def test_by_a_hash_a_chat_with_a_date_in_it_cannot_be_compared():
    by_hash = {"messages": HELLO, "sha256": token_hash([1, 2, 3, 6])}
    found, _ = ask(FakeEngine(tokens=(1, 4, 3, 6), vocabulary=WORDS), reference=by_hash)
    assert found.differing is None and "declare the tokens" in found.missing


def test_a_replica_that_differs_is_told_beside_one_whose_date_does():
    engines = [FakeEngine(tokens=tokens, vocabulary=WORDS) for tokens in ((1, 4, 3, 6), (1, 2, 3, 7))]
    assert ask(*engines, reference=declared(1, 2, 3, 6))[0].differing == 1


def test_without_a_reference_only_replicas_are_compared_with_each_other():
    found, _ = ask(RIGHT, RIGHT)
    assert (found.differing, found.variants) == (None, 1)
    assert CHAT_REFERENCE in found.missing
    assert ask(RIGHT, replace(RIGHT, tokens=(7,)))[0].variants == 2


def test_a_replica_that_does_not_answer_leaves_it_open():
    found, _ = ask(RIGHT, replace(RIGHT, tokens=None), reference=declared(1, 2, 3))
    assert (found.answered, found.differing, found.variants) == (1, None, None)
    assert "did not answer in time" in found.missing


def test_a_tokenizer_without_a_template_is_told():
    refusal = SourceError("vLLM", "/tokenize answered 400: default chat template is no longer allowed")
    found, _ = ask(replace(RIGHT, tokens=refusal), reference=declared(1, 2, 3))
    assert (found.without_template, found.differing) == (1, None)


def test_a_reference_of_the_runbook_goes_before_the_annotation():
    found, _ = ask(RIGHT, reference=declared(9), messages=HELLO, tokens=[1, 2, 3])
    assert found.differing == 0


def test_a_reference_of_the_runbook_needs_its_tokens():
    with pytest.raises(ValidationError, match="either tokens or sha256"):
        ask(RIGHT, messages=HELLO)


def test_an_annotation_that_cannot_be_read_is_named():
    found, _ = ask(RIGHT, reference={"messages": HELLO})
    assert found.differing is None
    assert "either tokens or sha256" in found.missing


def test_replicas_that_are_not_ready_are_not_asked():
    sources, cluster, _ = world(replicas=1)
    cluster.pods[0] = replace(cluster.pods[0], ready=False)
    assert observe(Params(service="chat"), sources).asked == 0
