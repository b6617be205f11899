import pytest

from bot.actions.contract import Aim
from bot.commands import propose
from bot.commands.words import UsageError
from bot.incidents.incident import Target
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


NODE = Target(node="gpu-07", also=("chat-70b", "code-7b"))
CODE = s.FLEET.service("code-7b")


@pytest.mark.parametrize(
    "target", [NODE, Target(also=("code-7b",)), Target(service="chat-70b", node="gpu-07", also=("code-7b",))]
)
def test_of_an_incident_over_several_services_the_named_one_is_changed(bench, target: Target):
    bench.opened(s.incident(target=target))
    propose.run(["scale_workload", "code-7b", "add=1"], bench.context())
    assert bench.aims == [Aim(service="code-7b", workload=CODE.workloads[0], pod=None, node=None)]


def test_an_incident_of_the_named_service_alone_comes_before_one_that_hits_it_too(bench):
    bench.opened(s.incident(), s.incident(143, target=NODE))
    propose.run(["scale_workload", "chat-70b", "add=1"], bench.context())
    assert [p[0] for p in bench.proposed] == ["inc-142"]
    assert bench.aims == [None]


def test_a_nodes_change_goes_by_the_nodes_name_or_by_a_service_that_it_hits(bench):
    bench.opened(s.incident(), s.incident(143, target=NODE))
    for word in ("gpu-07", "code-7b", "inc-143"):
        propose.run(["cordon_node", word], bench.context())
    assert [p[0] for p in bench.proposed] == ["inc-143"] * 3
    assert bench.aims == [None] * 3


def test_a_node_that_no_incident_names_may_be_meant_where_only_one_is_open(bench):
    bench.opened(s.incident())
    propose.run(["cordon_node", "gpu-08"], bench.context())
    assert bench.aims == [Aim(service="chat-70b", workload=s.CHAT, pod=None, node="gpu-08")]
    bench.opened(s.incident(143, target=NODE))
    with pytest.raises(UsageError, match=r"about gpu-08 is open.* Or name the incident: inc-143 node=gpu-08"):
        propose.run(["cordon_node", "gpu-08"], bench.context())


def test_its_help_says_that_an_incident_must_be_open():
    assert "while an incident about it is open" in propose.SUMMARY


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
