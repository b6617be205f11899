"""Who may approve: role against risk, freeze, two people, and break-glass. Pure, but for who is in a user group.

Group members are asked from Slack before the transaction (`standing_of`); the verdict is given inside it (`judge`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.fleet import Fleet, Role
from bot.ports import Risk, SourceError
from bot.remediation.proposal import Approval, Proposal
from bot.report import mention, plain

Members = Callable[[str], frozenset[str]]  # of a user group; raises SourceError


@dataclass(frozen=True, slots=True)
class Standing:
    """What a person is, against what a change needs."""

    user: str
    role: str  # that the change's risk asks for
    holds: bool | None  # None: a user group could not be read
    break_glass: bool | None = False  # may override policy; None: could not be read
    unreadable: str = ""  # why, in words
    holders: str = ""  # who does hold the role, as mentions


@dataclass(frozen=True, slots=True)
class Verdict:
    """allowed: this person's approval counts. complete: with it there are enough."""

    allowed: bool
    complete: bool
    reason: str = ""  # why not, naming who could
    needed: int = 1
    given: int = 0  # approvals with this one
    override: bool = False  # policy was overridden by break-glass


def role_for(fleet: Fleet, service: str | None, risk: Risk) -> str:
    declared = fleet.service(service) if service else None
    own = (declared.approvals or {}).get(risk.value) if declared else None
    return own or fleet.approvals[risk.value]


def people_needed(fleet: Fleet, risk: Risk) -> int:
    return 2 if risk.value in fleet.two_people else 1


def standing_of(user: str, fleet: Fleet, service: str | None, risk: Risk, members: Members) -> Standing:
    role = role_for(fleet, service, risk)
    holds, why = _holds(user, fleet.roles[role], members)
    glass: bool | None = False
    if fleet.break_glass is not None:
        glass, glass_why = _holds(user, fleet.roles[fleet.break_glass], members)
        why = why or glass_why
    return Standing(user, role, holds, glass, why, holders(fleet.roles[role]))


def holders(role: Role) -> str:
    """`@alice, @oncall-ml`: who may be asked."""
    return ", ".join(mention(one) for one in (*role.users, *role.groups)) or "nobody (the role is empty)"


def _holds(user: str, role: Role, members: Members) -> tuple[bool | None, str]:
    if user in role.users:
        return True, ""
    unreadable = ""
    for group in role.groups:
        try:
            if user in members(group):
                return True, ""
        except SourceError as error:
            unreadable = f"the members of {mention(group)} could not be read ({plain(error)})"
    return (None, unreadable) if unreadable else (False, "")


def judge(
    proposal: Proposal,
    standing: Standing,
    approvals: Sequence[Approval],
    *,
    needed: int,
    frozen: str | None,
    break_glass_reason: str | None,
) -> Verdict:
    """`approvals`: those given before this one."""
    if break_glass_reason:
        return _broken_glass(standing, approvals)
    refusal = _refusal(proposal, standing, approvals, needed, frozen)
    if refusal:
        return Verdict(False, False, refusal, needed, len(approvals))
    given = len({a.user for a in approvals} | {standing.user})
    return Verdict(True, given >= needed, "", needed, given)


def _broken_glass(standing: Standing, approvals: Sequence[Approval]) -> Verdict:
    who = mention(standing.user)
    if standing.break_glass is None:
        return Verdict(False, False, f"{who} may not break glass now: {standing.unreadable}")
    if not standing.break_glass:
        return Verdict(False, False, f"{who} does not hold the break-glass role")
    return Verdict(True, True, "", 1, len(approvals) + 1, override=True)


def _refusal(
    proposal: Proposal, standing: Standing, approvals: Sequence[Approval], needed: int, frozen: str | None
) -> str:
    who = mention(standing.user)
    risk, role = proposal.risk.value, plain(standing.role)
    if standing.holds is None:
        return f"{who} cannot be let through: {standing.unreadable}. Whom the role {role} names in person may approve"
    if not standing.holds:
        return f"{who} may not approve {risk}-risk changes: that takes the role {role} ({standing.holders})"
    if frozen is not None and proposal.undoes is None and proposal.aborts is None:
        return f"{plain(frozen)}. `/vllm unfreeze` lifts it"
    if needed > 1 and approvals and standing.user == proposal.proposed_by:
        return f"{who} proposed it; {risk} risk takes {needed} people, and the second is not the one who asked"
    return ""
