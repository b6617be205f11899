"""From suggestions to proposals: confirmed findings of a round, a person's `/vllm propose`, an undo, an abort.

A proposal is action + params: the same suggestion in the next round is the same proposal, brought up to date. What
cannot be offered is said with the reason and the command. Reading comes first, outside any transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from bot.actions.contract import Aim
from bot.actions.finder import UnknownActionError, find, way_back
from bot.audit import AuditEntry
from bot.incidents.incident import Incident, IncidentState, Round, Target
from bot.incidents.judge import Finding, Verdict
from bot.incidents.once import asked_once
from bot.ports import SourceError, Sources
from bot.remediation import guard
from bot.remediation.checks import rows_for
from bot.remediation.draft import Draft, as_proposal, ask_ahead, drafted
from bot.remediation.proposal import Manual, Proposal, ProposalState, RemediationTx
from bot.remediation.world import World
from bot.report import mention
from bot.runbook.schema import Suggestion

_SIDE_BY_SIDE = 8
_UNDER_WAY = (ProposalState.PENDING, ProposalState.APPROVED, ProposalState.RUNNING)


@dataclass(frozen=True, slots=True)
class _Offers:
    """What a round leads to. `kept`: rules about which nothing certain is known, so nothing of theirs is withdrawn."""

    drafts: tuple[Draft, ...]
    manuals: tuple[Manual, ...]
    kept: frozenset[str]


class Propose:
    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self, incident: Incident, round: Round) -> Callable[[RemediationTx], None]:
        """Looks at everything that the round suggests; the answer writes it down, in the round's own transaction."""
        if round.as_of is not None:
            return lambda tx: None  # a look at the past proposes nothing
        if round.error is not None:
            return lambda tx: None  # nothing was judged, so what stands stays
        now = self._world.clock()
        offers = self._offers(incident, round, now)
        return lambda tx: self._write(tx, incident.number, offers, now)

    def by_hand(
        self,
        incident: Incident,
        action: str,
        with_: Mapping[str, Any],
        user: str,
        now: datetime,
        aim: Aim | None = None,
    ) -> Proposal:
        """`/vllm propose`. Raises ValueError with the reason; SourceError if the cluster could not be asked."""
        if not self._world.rules.enabled:
            raise ValueError(_SWITCHED_OFF)
        sources = self._world.sources(now)
        params = _absolute(action, with_, aim or aim_of(incident.target), sources)
        service = incident.target.service if aim is None else aim.service
        draft = drafted(action, params, service, self._world, sources, why=f"asked for by {user}")
        return self._made(draft, incident.number, service, user, now)

    def undo(self, proposal_id: str, user: str, now: datetime) -> Proposal:
        """The way back, as a proposal of its own. Raises ValueError with the reason why there is none."""
        done = self._known(proposal_id)
        if done.state not in (ProposalState.ENDED, ProposalState.FAILED, ProposalState.INTERRUPTED):
            raise ValueError(f"{done.id} is {done.state.value}: there is nothing to undo")
        return self._way_back(done, user, now, aborts=False)

    def abort(self, proposal_id: str, user: str, now: datetime) -> Proposal:
        """Stop a running change and roll it back, in one review."""
        running = self._known(proposal_id)
        if running.state is not ProposalState.RUNNING:
            raise ValueError(f"{running.id} is {running.state.value}: there is nothing to abort")
        return self._way_back(running, user, now, aborts=True)

    def _known(self, proposal_id: str) -> Proposal:
        with self._world.store.read() as tx:
            proposal = tx.proposal(proposal_id)
        if proposal is None:
            raise ValueError(f"there is no proposal {proposal_id}")
        return proposal

    def _way_back(self, done: Proposal, user: str, now: datetime, *, aborts: bool) -> Proposal:
        params = find(done.action).Params.model_validate(dict(done.params))
        back = way_back(done.action, params, done.before or {})
        if back is None and not aborts:
            raise ValueError(f"{done.action} has no way back: {done.description}")
        name, then, why = done.action, params, f"stops {done.id} ({done.button})"
        if back is not None:
            name, then, why = back.action, back.params, f"takes back {done.id} ({done.button})"
        draft = drafted(name, then, done.service, self._world, self._world.sources(now), why=why)
        if aborts:
            what = draft.description if back else "What it has done stays; it does nothing more"
            draft = replace(draft, aborts=done.id, description=f"Abort {done.id} ({done.button}). {what}")
        else:
            draft = replace(draft, undoes=done.id)
        return self._made(draft, done.incident, done.service, user, now)

    def _made(self, draft: Draft, incident: int, service: str | None, user: str, now: datetime) -> Proposal:
        """The proposal of this draft: the one that is there already, or a new one."""
        with self._world.store.write() as tx:
            known = [p for p in tx.proposals_of(incident) if p.state in _UNDER_WAY and draft.is_same_as(p)]
            if known:
                return known[-1]
            number = tx.next_proposal_number(incident)
            proposal = as_proposal(draft, incident, number, service, now, self._world.rules.expiry_seconds)
            proposal = replace(proposal, proposed_by=user)
            _save_new(tx, proposal, user, now)
            return proposal

    # ------------------------------------------------------------------------------------- a round's suggestions

    def _offers(self, incident: Incident, round: Round, now: datetime) -> _Offers:
        kept = {f.rule for f in round.findings if f.verdict is Verdict.INCONCLUSIVE}
        confirmed = [f for f in round.findings if f.verdict is Verdict.CONFIRMED and f.suppressed_by is None]
        suggested = [(finding, suggestion) for finding in confirmed for suggestion in finding.suggest]
        drafts: list[Draft] = []
        manuals: list[Manual] = []
        for (finding, _), offer in zip(suggested, self._looked_at(incident, suggested, now), strict=True):
            if isinstance(offer, Draft):
                drafts += [] if any(_same(offer, d) for d in drafts) else [offer]
                continue
            manual, certain = offer
            manuals.append(manual)
            kept |= set() if certain else {finding.rule}
        return _Offers(tuple(drafts), tuple(manuals), frozenset(kept))

    def _looked_at(
        self, incident: Incident, suggested: Sequence[tuple[Finding, Suggestion]], now: datetime
    ) -> list[Draft | tuple[Manual, bool]]:
        """Side by side: the verdict waits for it. They mostly ask the same, so each question is asked once."""
        if not suggested:
            return []
        once = asked_once(self._world.sources(now))
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            ask_ahead(incident.target.workload, once, pool)
            return list(pool.map(lambda pair: self._offer(incident, pair[0], pair[1], once), suggested))

    def _offer(
        self, incident: Incident, finding: Finding, suggestion: Suggestion, sources: Sources
    ) -> Draft | tuple[Manual, bool]:
        """A draft, or what to do by hand; then True if that is certain, not only because a source did not answer."""

        def manual(reason: str, command: str | None = None) -> Manual:
            hand = command or suggestion.by_hand
            return Manual(incident.number, finding.rule, suggestion.action, suggestion.why, hand, reason)

        if not self._world.rules.enabled:
            return manual(_SWITCHED_OFF), True
        try:
            params = _absolute(suggestion.action, suggestion.with_, aim_of(incident.target), sources)
        except ValueError as error:
            return manual(str(error)), True
        except SourceError as error:
            return manual(str(error)), False
        service = incident.target.service
        draft = drafted(suggestion.action, params, service, self._world, sources, why=suggestion.why)
        if draft.look.unreadable or draft.look.drift:
            return manual(draft.look.unreadable or draft.look.drift or "", draft.by_hand), False
        return replace(draft, rule=finding.rule)

    # ------------------------------------------------------------------------------------- written down

    def _write(self, tx: RemediationTx, number: int, offers: _Offers, now: datetime) -> None:
        incident = tx.incident(number)
        if incident is None:
            return
        if incident.state is not IncidentState.OPEN:
            offers = _Offers((), (), frozenset())
        known = tx.proposals_of(number)
        manuals = list(offers.manuals)
        for draft in offers.drafts:
            reason = self._put(tx, incident, draft, known, now)
            if reason is not None and draft.rule is not None:
                manuals.append(Manual(number, draft.rule, draft.action, draft.description, draft.by_hand, reason))
        for proposal in known:
            if _is_moot(proposal, offers, now):
                ended = replace(
                    proposal, state=ProposalState.SUPERSEDED, refusal="the latest round no longer suggests it"
                )
                tx.save_proposal(ended)
                tx.audit(AuditEntry(now, "bot", "proposal.superseded", proposal.id, {"action": proposal.action}))
        tx.save_manuals(number, manuals)
        tx.show(number)

    def _put(
        self, tx: RemediationTx, incident: Incident, draft: Draft, known: Sequence[Proposal], now: datetime
    ) -> str | None:
        """Make or refresh the draft's proposal; or the reason why it is not offered now."""
        same = [p for p in known if draft.is_same_as(p)]
        if any(p.state in (ProposalState.APPROVED, ProposalState.RUNNING) for p in same):
            return None
        if declined := next((p for p in same if p.state is ProposalState.DECLINED), None):
            return f"declined by {mention(declined.decided_by)}" if declined.decided_by else "it was declined"
        fresh = as_proposal(draft, incident.number, 0, incident.target.service, now, self._world.rules.expiry_seconds)
        pending = next((p for p in same if p.state is ProposalState.PENDING), None)
        if pending is not None:
            if not pending.is_pinned(now):
                tx.save_proposal(_refreshed(pending, fresh))
            return None
        facts = draft.look.facts
        if facts is not None:
            against = guard.reasons(fresh, facts, rows_for(tx, now), self._world.limits, now)
            if against:
                return "; ".join(against)
        _save_new(tx, replace(fresh, number=tx.next_proposal_number(incident.number)), "bot", now)
        return None


_SWITCHED_OFF = "changes are switched off (remediation.enabled is false): this bot only looks"


def _save_new(tx: RemediationTx, proposal: Proposal, actor: str, now: datetime) -> None:
    tx.save_proposal(proposal)
    detail = {
        "action": proposal.action,
        "params": dict(proposal.params),
        "rule": proposal.rule,
        "undoes": proposal.undoes,
        "aborts": proposal.aborts,
    }
    tx.audit(AuditEntry(now, actor, "proposal.made", proposal.id, detail))
    tx.show(proposal.incident)


def _refreshed(pending: Proposal, fresh: Proposal) -> Proposal:
    """The same change, with what the latest look says of it."""
    return replace(
        pending,
        description=fresh.description,
        why=fresh.why,
        rule=fresh.rule,
        diff=fresh.diff,
        before=fresh.before,
        objections=fresh.objections,
        blast_radius=fresh.blast_radius,
        expires_at=max(pending.expires_at, fresh.expires_at),
    )


def _is_moot(proposal: Proposal, offers: _Offers, now: datetime) -> bool:
    """Is it the bot's own, still pending, read by nobody, and no longer suggested?"""
    if proposal.state is not ProposalState.PENDING or proposal.is_pinned(now) or proposal.proposed_by != "bot":
        return False
    suggested = any(draft.is_same_as(proposal) for draft in offers.drafts)
    return not suggested and proposal.rule not in offers.kept


def _same(one: Draft, other: Draft) -> bool:
    return (one.action, one.params) == (other.action, other.params)


def aim_of(target: Target) -> Aim:
    return Aim(target.service, target.workload, target.pod, target.node)


def _absolute(name: str, with_: Mapping[str, Any], aim: Aim, sources: Sources) -> BaseModel:
    """Params of the action. Raises ValueError in words, SourceError."""
    try:
        action = find(name)
    except UnknownActionError as error:
        raise ValueError(f"{name} is not a button yet ({error})") from error
    try:
        params: BaseModel = action.relative(with_, aim, sources)
    except ValidationError as error:  # a ValueError, too, but not in words
        raise ValueError("; ".join(e["msg"] for e in error.errors(include_url=False))) from error
    return params
