from bot.incidents.incident import STORM_TITLE, Target
from bot.incidents.owner import escalation, oncall, owner
from tests import stories as s


def test_a_nodes_alert_is_its_first_services_and_an_unknown_one_is_the_fleets():
    node = s.incident(target=Target(node="gpu-07", also=("code-7b", "chat-70b")))
    assert owner(node, s.FLEET) == s.FLEET.services[1]
    assert oncall(node, s.FLEET) == s.ONCALL
    unknown = s.incident(target=Target(unresolved="?"))
    assert (owner(unknown, s.FLEET), oncall(unknown, s.FLEET)) == (None, s.ALICE)
    assert oncall(unknown, s.FLEET.model_copy(update={"default_oncall": None})) is None


def test_a_storm_calls_the_fleets_on_call():
    storm = s.incident(title=STORM_TITLE, target=Target(also=("code-7b", "chat-70b")))
    assert oncall(storm, s.FLEET) == s.ALICE
    assert oncall(storm, s.FLEET.model_copy(update={"default_oncall": None})) == s.ONCALL


def test_who_does_not_answer_is_followed_by_somebody_else_or_called_once_more():
    code = s.incident(target=Target("code-7b"))
    assert (oncall(code, s.FLEET), escalation(code, s.FLEET)) == (s.ONCALL, s.ONCALL)
    declared = [service.model_copy(update={"escalation": s.BOB}) for service in s.FLEET.services]
    assert escalation(code, s.FLEET.model_copy(update={"services": declared})) == s.BOB


def test_without_a_service_of_its_own_the_fleets_on_call_is_called_to_the_end():
    for nobodys in (
        s.incident(target=Target(unresolved="?")),
        s.incident(title=STORM_TITLE, target=Target(also=("chat-70b",))),
    ):
        assert escalation(nobodys, s.FLEET) == s.ALICE
