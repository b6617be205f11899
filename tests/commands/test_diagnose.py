import pytest

from bot.commands import diagnose
from bot.commands.words import UsageError
from bot.incidents.incident import RoundReason
from tests import stories as s


def due(bench):
    with bench.store.read() as tx:
        return list(tx.due_rounds(s.at(99)))


def test_about_an_open_incident_a_round_is_asked_for_and_comes_into_its_thread(bench):
    bench.opened(s.incident())
    report = diagnose.run(["high_latency", "chat-70b"], bench.context())
    assert report.text == "Diagnosing inc-142 with high_latency: the answer comes into its thread."
    (round,) = due(bench)
    assert (round.runbook, round.reason, round.asked_by) == ("high_latency", RoundReason.REQUESTED, s.BOB)
    assert bench.diagnosed == []


@pytest.mark.parametrize("words", [["inc-142"], ["high_latency", "inc-142"], ["high_latency"]])
def test_the_incident_may_be_named_or_be_the_only_one_of_its_kind(bench, words: list[str]):
    bench.opened(s.incident())
    diagnose.run(words, bench.context())
    assert len(due(bench)) == 1


def test_asking_twice_is_one_round(bench):
    bench.opened(s.incident())
    diagnose.run(["inc-142"], bench.context())
    assert "already" in diagnose.run(["inc-142"], bench.context()).text
    assert len(due(bench)) == 1


def test_as_of_a_time_past_the_round_says_so(bench):
    bench.opened(s.incident())
    diagnose.run(["high_latency", "chat-70b", "at=02:05"], bench.context())
    (round,) = due(bench)
    assert round.as_of == s.at(-2)


def test_without_an_incident_the_asker_gets_the_answer(bench):
    report = diagnose.run(["high_latency", "chat-70b"], bench.context())
    assert bench.notes[0].text == "Diagnosing chat-70b with high_latency…"
    assert report.text == "chat-70b: Under-provisioned: 138 requests wait, all 3 replicas are saturated"
    assert "How many requests wait?" in s.said(report)
    incident, round = bench.diagnosed[0]
    assert incident.target.service == "chat-70b" and round.runbook == "high_latency"
    assert due(bench) == []


def test_a_terminal_gets_the_answer_even_about_an_incident_and_writes_nothing(bench):
    bench.opened(s.incident())
    report = diagnose.run(["inc-142"], bench.in_a_terminal())
    assert "Under-provisioned" in report.text and due(bench) == []


def test_a_pod_and_a_node_can_be_asked_about(bench):
    pod = bench.cluster.pods_of(s.CHAT)[0].name
    diagnose.run(["high_latency", pod], bench.context())
    diagnose.run(["high_latency", f"llm/{pod}"], bench.context())
    diagnose.run(["high_latency", "gpu-01"], bench.context())
    targets = [incident.target for incident, _ in bench.diagnosed]
    assert [t.pod for t in targets] == [pod, pod, None] and targets[2].node == "gpu-01"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["high_latancy", "chat-70b"], "did you mean high_latency"),
        (["high_latency", "chat-70"], "did you mean chat-70b"),
        (["high_latency"], "of which service"),
        ([], "with which runbook"),
        (["high_latency", "chat-70b", "at=later"], "no time"),
        (["inc-9"], "no inc-9"),
    ],
)
def test_what_cannot_be_diagnosed_says_why(bench, words: list[str], why: str):
    with pytest.raises(UsageError, match=why):
        diagnose.run(words, bench.context())
