"""What an execution asks of, and does to, the world outside: one method per step of its workflow.

Each returns JSON with the time at which it looked, and never raises for a source that does not answer: what is
recorded must read the same when the workflow is run again after a crash.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from bot.actions.contract import Action, Effect, Stepwise
from bot.actions.finder import find, way_back
from bot.incidents.incident import Incident, SignalReading
from bot.ports import ConflictError, Json, SourceError, Sources
from bot.remediation.draft import look_again
from bot.remediation.guard import facts_json
from bot.remediation.proposal import Proposal
from bot.remediation.world import World

UNREADABLE = "unreadable"  # beside the values of Progress
# An incident that burns is looked at more often than this.
_FRESH_SECONDS = 300.0


class Outside:
    def __init__(self, world: World) -> None:
        self._world = world

    def clock(self) -> Json:
        return self._world.clock().timestamp()

    def look(self, proposal_id: str) -> Json:
        """Everything that decides whether it may begin, and the signal as it is before."""
        now = self._world.clock()
        proposal, incident = self._rows(proposal_id)
        seen = look_again(proposal, self._world, now)
        signal = self._signal(proposal, incident, now)
        if not _was_read(signal) and (last := self._last_signal(proposal, incident, now)) is not None:
            signal = last
        window = signal.window_seconds if signal is not None else None
        return {
            "now": now.timestamp(),
            "blocked": list(seen.blocked),
            "retryable": seen.unreadable is not None and seen.retryable,
            "facts": facts_json(seen.facts) if seen.facts else None,
            "cold_start": seen.cold_start_seconds,
            "waves": seen.waves,
            "window": window or self._world.sources(now).window_seconds,
            "signal": signal_json(signal),
            "is_undo": proposal.undoes is not None,
        }

    def act(self, proposal_id: str) -> Json:
        proposal, _ = self._rows(proposal_id)
        if self._world.rules.dry_run:
            return {"now": self.clock(), "result": "dry run"}
        action, params = _action(proposal)
        return self._changed(action, params, proposal.before or {})

    def effect(self, proposal_id: str) -> Json:
        """Is it in place? An action of many steps takes its next one here."""
        proposal, _ = self._rows(proposal_id)
        action, params = _action(proposal)
        if not isinstance(action, Stepwise):
            return self._effect(lambda sources: action.took_effect(params, sources))
        before = proposal.before or {}
        return self._effect(lambda sources: action.advance(params, before, sources, self._world.controls))

    def signal(self, proposal_id: str) -> Json:
        now = self._world.clock()
        return {"now": now.timestamp(), "signal": signal_json(self._signal(*self._rows(proposal_id), now))}

    def round_signal(self, proposal_id: str, number: int) -> Json:
        """Has this round ended, and which signal did it read?"""
        proposal, incident = self._rows(proposal_id)
        with self._world.store.read() as tx:
            found = next((r for r in tx.rounds_of(incident.number) if r.number == number), None)
        ended = found is None or found.ended_at is not None
        signal = found.signal if found and _is_its_signal(proposal, incident) else None
        return {"now": self.clock(), "ended": ended, "signal": signal_json(signal)}

    def prepare_roll_back(self, proposal_id: str) -> Json:
        """The way back, looked at before it is gone: `result` is "ready", "nothing", "unclear" or "failed"."""
        proposal, _ = self._rows(proposal_id)
        action, params = _action(proposal)
        back = way_back(proposal.action, params, proposal.before or {})
        if back is None:
            return {"now": self.clock(), "result": "failed", "why": f"{proposal.action} has no way back"}

        def prepared() -> dict[str, Any]:
            sources = self._world.sources(self._world.clock())
            if _is_as_before(action, params, proposal, self._world):
                return {"result": "nothing"}
            before = dict(find(back.action).preview(back.params, sources, self._world.controls).before)
            will = back.params.model_dump(mode="json")
            return {"result": "ready", "action": back.action, "params": will, "before": before}

        return self._tried(prepared)

    def roll_back(self, proposal_id: str, name: str, params: Mapping[str, Any], before: Mapping[str, Any]) -> Json:
        action = find(name)
        return self._changed(action, action.Params.model_validate(dict(params)), before)

    def roll_back_effect(self, proposal_id: str, name: str, params: Mapping[str, Any]) -> Json:
        action = find(name)
        there = action.Params.model_validate(dict(params))
        return self._effect(lambda sources: action.took_effect(there, sources))

    # ------------------------------------------------------------------------------------------------ the parts

    def _rows(self, proposal_id: str) -> tuple[Proposal, Incident]:
        with self._world.store.read() as tx:
            proposal = tx.proposal(proposal_id)
            incident = tx.incident(proposal.incident) if proposal else None
        if proposal is None or incident is None:
            raise LookupError(f"{proposal_id} or its incident is not in the store")
        return proposal, incident

    def _changed(self, action: Action, params: BaseModel, before: Mapping[str, Any]) -> Json:
        def change() -> dict[str, Any]:
            sources = self._world.sources(self._world.clock())
            action.execute(params, before, sources, self._world.controls)
            return {"result": "done"}

        return self._tried(change)

    def _tried(self, work: Callable[[], dict[str, Any]]) -> Json:
        try:
            return {**work(), "now": self.clock()}
        except ConflictError as error:
            return {"now": self.clock(), "result": "failed", "why": error.why}
        except SourceError as error:
            result = "unclear" if error.retryable else "failed"
            return {"now": self.clock(), "result": result, "why": str(error)}

    def _effect(self, look: Callable[[Sources], Effect]) -> Json:
        try:
            effect = look(self._world.sources(self._world.clock()))
        except SourceError as error:
            return {"now": self.clock(), "progress": UNREADABLE, "detail": str(error)}
        return {"now": self.clock(), "progress": effect.progress.value, "detail": effect.detail}

    def _signal(self, proposal: Proposal, incident: Incident, now: datetime) -> SignalReading | None:
        if not _is_its_signal(proposal, incident):
            return None
        return self._world.signal(incident, self._world.sources(now))

    def _last_signal(self, proposal: Proposal, incident: Incident, now: datetime) -> SignalReading | None:
        """Where Prometheus does not answer now: what the incident's own runbook read last. But no old reading, and none
        beside one of now: the trouble may have passed since, and then the change would be said to have helped."""
        if not _is_its_signal(proposal, incident):
            return None
        with self._world.store.read() as tx:
            rounds = tx.rounds_of(incident.number)
        since = now - timedelta(seconds=_FRESH_SECONDS)
        own = [r for r in rounds if r.as_of is None and r.runbook == incident.runbook]
        read = [r.signal for r in own if r.ended_at is not None and r.ended_at >= since and _was_read(r.signal)]
        return read[-1] if read else None


def _is_its_signal(proposal: Proposal, incident: Incident) -> bool:
    """A change by hand may be of another service that the incident hits: the signal of its own says nothing of that."""
    return proposal.service in (None, incident.target.service)


def _was_read(signal: SignalReading | None) -> bool:
    return signal is not None and signal.error is None and signal.value is not None


def _action(proposal: Proposal) -> tuple[Action, BaseModel]:
    action = find(proposal.action)
    return action, action.Params.model_validate(dict(proposal.params))


def _is_as_before(action: Action, params: BaseModel, proposal: Proposal, world: World) -> bool:
    """Would the change itself still start from what is there? Then it has not been made, or was taken back."""
    try:
        preview = action.preview(params, world.sources(world.clock()), world.controls)
    except ConflictError:
        return False
    return preview.before == proposal.before


def signal_json(signal: SignalReading | None) -> Json:
    if signal is None:
        return None
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(signal).items()}


def signal_of(stored: Json) -> SignalReading | None:
    return None if stored is None else SignalReading(**stored)


def time_of(stored: float) -> datetime:
    return datetime.fromtimestamp(stored, UTC)
