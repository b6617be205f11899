import pytest

from bot.commands import propose
from bot.commands.words import UsageError
from bot.report import Buttons
from tests import stories as s


def test_a_change_by_hand_hangs_on_the_services_incident_and_can_be_reviewed(bench):
    bench.opened(s.incident())
    report = propose.run(["scale_workload", "chat-70b", "add=1"], bench.context())
    assert bench.proposed == [("inc-142", "scale_workload", {"add": "1"}, s.BOB, s.at(3))]
    assert report.text.startswith("Proposed inc-142-p9: Scale chat-70b from 3 to 4 replicas")
    (buttons,) = [p for p in report.parts if isinstance(p, Buttons)]
    assert (buttons.buttons[0].action, buttons.buttons[0].value) == ("review", "inc-142-p9")


def test_the_incident_may_be_named_or_be_the_only_one(bench):
    bench.opened(s.incident())
    propose.run(["scale_workload", "inc-142", "add=1"], bench.context())
    propose.run(["scale_workload", "add=1"], bench.context())
    assert [p[0] for p in bench.proposed] == ["inc-142", "inc-142"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "which action"),
        (["scale_worklaod", "chat-70b"], "did you mean scale_workload"),
        (["scale_workload", "chat-70"], "did you mean chat-70b"),
        (["scale_workload", "code-7b"], "no incident about code-7b is open"),
        (["scale_workload", "inc-9"], "no open incident"),
        (["scale_workload", "chat-70b", "4"], "key=value: 4"),
    ],
)
def test_what_cannot_be_proposed_says_why(bench, words: list[str], why: str):
    bench.opened(s.incident())
    with pytest.raises(UsageError, match=why):
        propose.run(words, bench.context())
    assert bench.proposed == []


def test_the_reason_why_it_is_not_made_comes_back(bench):
    bench.opened(s.incident())
    bench.refusal = "say either add=1 or replicas=4"
    with pytest.raises(UsageError, match="either add=1"):
        propose.run(["scale_workload", "chat-70b"], bench.context())


def test_a_terminal_proposes_nothing(bench):
    with pytest.raises(UsageError, match="in Slack"):
        propose.run(["scale_workload"], bench.in_a_terminal())
