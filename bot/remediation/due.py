"""The leader's part, again and again: begin what is approved, hand over aborts, expire what is old, bury the dead.

Everything here is level-triggered: it acts on rows as they are, so a crash between an approval and its begin loses
nothing, and asking the engine twice does nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bot.ports import SourceError
from bot.remediation.checks import audit
from bot.remediation.execute import ABORT, KIND
from bot.remediation.expiry import expire, is_due
from bot.remediation.moves import Moves
from bot.remediation.proposal import Proposal, ProposalState
from bot.remediation.world import World

log = logging.getLogger(__name__)

_LOOK_FOR_DEAD = timedelta(minutes=1)


class Remediation:
    def __init__(self, world: World) -> None:
        self._world = world
        self._moves = Moves(world)
        self._asked: set[str] = set()  # of the engine, by this process: to spare it, not to be right
        self._looked_for_dead: datetime | None = None

    def step(self, now: datetime) -> bool:
        """True if something was done."""
        with self._world.store.read() as tx:
            waiting = tx.proposals_in(ProposalState.PENDING, ProposalState.APPROVED)
            overdue = any(is_due(tx, p, now) for p in waiting if p.state is ProposalState.PENDING)
        did = self._expire(now) if overdue else False
        approved = [p for p in waiting if p.state is ProposalState.APPROVED]
        for proposal in approved:
            did = self._begin(proposal, now) or did
        if self._looked_for_dead is None or now - self._looked_for_dead >= _LOOK_FOR_DEAD:
            self._looked_for_dead = now
            did = self._bury(now) or did
        return did

    def _expire(self, now: datetime) -> bool:
        with self._world.store.write() as tx:
            return expire(tx, now) > 0

    def _begin(self, proposal: Proposal, now: datetime) -> bool:
        if proposal.aborts is not None and not self._still_runs(proposal.aborts):
            self._too_late(proposal, now)
            return True
        if proposal.id in self._asked:
            return False
        try:
            if proposal.aborts is not None:
                message = {"proposal": proposal.id, "by": proposal.decided_by}
                self._world.engine.send(KIND, proposal.aborts, ABORT, message, key=proposal.id)
            else:
                self._world.engine.start(KIND, proposal.id)
        except SourceError as error:
            # The engine is full. It stays approved, and is asked for again; the others are not kept waiting.
            log.warning("%s cannot begin yet: %s", proposal.id, error)
            return False
        self._asked.add(proposal.id)
        return True

    def _still_runs(self, proposal_id: str) -> bool:
        with self._world.store.read() as tx:
            running = tx.proposal(proposal_id)
        return running is not None and running.state is ProposalState.RUNNING

    def _too_late(self, abort: Proposal, now: datetime) -> None:
        reason = f"{abort.aborts} ended before the abort reached it; undo it instead"
        with self._world.store.write() as tx:
            latest = tx.proposal(abort.id)
            if latest is None or latest.state is not ProposalState.APPROVED:
                return
            tx.save_proposal(replace(latest, state=ProposalState.REFUSED, refusal=reason, ended_at=now))
            audit(tx, now, "bot", "execution.refused", latest, reason=reason)
            tx.show(latest.incident)

    def _bury(self, now: datetime) -> bool:
        """Workflows that ended without closing their row: what they did is not known."""
        with self._world.store.read() as tx:
            open_ = [p for p in tx.proposals_in(ProposalState.APPROVED, ProposalState.RUNNING) if p.aborts is None]
        dead = self._dead(open_)
        for proposal_id in dead:
            log.error("execution %s died", proposal_id)
            with self._world.store.write() as tx:
                why = "the bot's own work on it broke off; look at the cluster before you repeat it"
                self._moves.interrupt(tx, proposal_id, why, now.timestamp())
        return bool(dead)

    def _dead(self, open_: Sequence[Proposal]) -> tuple[str, ...]:
        return self._world.engine.dead(KIND, [p.id for p in open_]) if open_ else ()
