import pytest

from bot.fleet import Fleet, Role, Service, WorkloadRef
from bot.ports import Risk, SourceError
from bot.remediation.policy import judge, people_needed, role_for, standing_of
from bot.remediation.proposal import Approval
from tests.fixtures_store import NOW, a_proposal

SLACK_DOWN = SourceError("Slack", "did not answer within 10 s", retryable=True)
FLEET = Fleet(
    services=(
        Service(
            name="chat-70b",
            workloads=(WorkloadRef(namespace="llm", name="chat-70b"),),
            channel="#llm",
            approvals={"medium": "chat_team"},
        ),
    ),
    default_channel="#oncall",
    roles={
        "oncall": Role(users=("UALICE",), groups=("SONCALL",)),
        "chat_team": Role(users=("UBOB",)),
        "heads": Role(users=("UEVE",)),
    },
    approvals={"low": "oncall", "medium": "oncall", "high": "oncall"},
    two_people=("high",),
    break_glass="heads",
)


def members(group: str) -> frozenset[str]:
    return frozenset({"UCAROL"}) if group == "SONCALL" else frozenset()


def unreadable(group: str) -> frozenset[str]:
    raise SLACK_DOWN


def standing(user, service="whisper", risk=Risk.MEDIUM, members=members):
    return standing_of(user, FLEET, service, risk, members)


def verdict(user, *, approvals=(), needed=1, frozen=None, reason=None, proposal=None, **more):
    return judge(
        proposal or a_proposal(1),
        standing(user, **more),
        [Approval("inc-1-p1", who, NOW) for who in approvals],
        needed=needed,
        frozen=frozen,
        break_glass_reason=reason,
    )


def test_a_service_may_name_its_own_role_for_a_risk():
    assert role_for(FLEET, "chat-70b", Risk.MEDIUM) == "chat_team"
    assert role_for(FLEET, "chat-70b", Risk.HIGH) == "oncall"
    assert role_for(FLEET, None, Risk.MEDIUM) == "oncall"


@pytest.mark.parametrize("user", ["UALICE", "UCAROL"])
def test_named_users_and_members_of_a_user_group_may_approve(user):
    assert verdict(user).allowed and verdict(user).complete


def test_who_lacks_the_role_is_refused_by_name_and_told_who_could():
    refused = verdict("UMALLORY")
    assert not refused.allowed
    assert refused.reason == (
        "<@UMALLORY> may not approve medium-risk changes: that takes the role oncall (<@UALICE>, <@SONCALL>)"
    )


def test_the_services_own_team_decides_about_it():
    assert not verdict("UALICE", service="chat-70b").allowed
    assert verdict("UBOB", service="chat-70b").allowed


def test_a_group_that_cannot_be_read_refuses_and_says_so():
    refused = verdict("UCAROL", members=unreadable)
    assert not refused.allowed
    assert "the members of <@SONCALL> could not be read (Slack: did not answer within 10 s)" in refused.reason


def test_who_is_named_in_person_needs_no_group():
    assert verdict("UALICE", members=unreadable).allowed


def test_a_freeze_refuses_with_its_words_and_how_to_lift_it():
    refused = verdict("UALICE", frozen="changes are frozen by UEVE: *launch*")
    assert not refused.allowed
    assert "∗launch∗. `/vllm unfreeze` lifts it" in refused.reason


def test_the_way_back_is_open_in_a_freeze():
    assert verdict("UALICE", frozen="frozen", proposal=a_proposal(1, undoes="inc-1-p0")).allowed


# ---------------------------------------------------------------------------------------------- two people


def test_high_risk_takes_two_people_where_the_team_says_so():
    assert (people_needed(FLEET, Risk.HIGH), people_needed(FLEET, Risk.MEDIUM)) == (2, 1)
    first = verdict("UALICE", needed=2)
    assert (first.allowed, first.complete, first.given) == (True, False, 1)
    second = verdict("UCAROL", needed=2, approvals=["UALICE"])
    assert (second.allowed, second.complete, second.given) == (True, True, 2)


def test_the_second_is_not_the_one_who_asked():
    proposal = a_proposal(1, proposed_by="UALICE")
    assert verdict("UALICE", needed=2, proposal=proposal).allowed  # as the first
    second = verdict("UALICE", needed=2, approvals=["UCAROL"], proposal=proposal)
    assert not second.allowed and "the second is not the one who asked" in second.reason


def test_one_person_alone_never_makes_two():
    assert not verdict("UALICE", needed=2, approvals=["UALICE"]).complete


# ---------------------------------------------------------------------------------------------- break-glass


def test_breaking_glass_overrides_role_freeze_and_two_people_with_a_reason():
    broken = verdict("UEVE", needed=2, frozen="frozen", reason="prod is down")
    assert (broken.allowed, broken.complete, broken.override) == (True, True, True)
    assert not verdict("UEVE", needed=2, frozen="frozen").allowed  # without a reason policy holds


def test_who_may_not_break_glass_is_refused_by_name():
    assert verdict("UALICE", reason="hurry").reason == "<@UALICE> does not hold the break-glass role"
