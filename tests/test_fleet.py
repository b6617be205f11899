import pytest
from pydantic import ValidationError

from bot.fleet import Fleet, WorkloadRef

ROLES = {"operator": {"users": ["U1"]}, "lead": {"groups": ["S1"]}}
APPROVALS = {"low": "operator", "medium": "operator", "high": "lead"}


def service(name, *workloads):
    return {
        "name": name,
        "channel": "#inc",
        "workloads": [{"namespace": "llm", "name": w} for w in workloads or (name,)],
    }


def fleet(*services, **more):
    return Fleet.model_validate(
        {"services": services, "default_channel": "#oncall", "roles": ROLES, "approvals": APPROVALS, **more}
    )


def test_a_workload_leads_to_its_service_and_a_canary_to_the_same_one():
    it = fleet(service("chat-70b", "chat-70b", "chat-70b-canary"), service("code-8b"))
    assert it.service_of(WorkloadRef(namespace="llm", name="chat-70b-canary")) is it.service("chat-70b")


def test_another_namespace_is_another_workload():
    assert fleet(service("chat-70b")).service_of(WorkloadRef(namespace="dev", name="chat-70b")) is None


def test_a_workload_shared_by_two_services_is_refused():
    with pytest.raises(ValidationError, match="belongs to one service only: llm/Deployment/a"):
        fleet(service("one", "a"), service("two", "a"))


def test_a_role_that_nobody_declared_is_named():
    with pytest.raises(ValidationError, match="not in roles: chief"):
        fleet(service("a"), approvals={**APPROVALS, "high": "chief"})


def test_each_risk_needs_a_role():
    with pytest.raises(ValidationError, match="lacking: high"):
        fleet(service("a"), approvals={"low": "operator", "medium": "operator"})


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValidationError, match="chanel"):
        fleet({**service("a"), "chanel": "#x"})


@pytest.mark.parametrize("name", ["Chat", "a/b", 'x"}', "-a", ""])
def test_names_that_could_escape_into_a_path_or_a_query_are_refused(name):
    with pytest.raises(ValidationError):
        WorkloadRef(namespace="llm", name=name)


def test_whoever_may_be_called_is_named_once():
    one = {**service("chat-70b"), "oncall": "U1", "escalation": "S2"}
    assert fleet(one, {**service("code-8b"), "oncall": "U1"}, default_oncall="U3").called() == ("U3", "U1", "S2")
