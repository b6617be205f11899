"""One approved change from its begin to its end, as a workflow that survives the process.

look → begin (approved → running, the guard inside) → act (once; it looks first) → follow until it is in place (each
look takes the next step of what one act does not finish) → watch the signal → a round → ended. Between two looks it
listens for "abort". Steps are in `outside`, moves of the rows in `moves`; here is the order, over recorded answers
only: no clock, no I/O, so a replay takes the same path.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from bot.actions.contract import Progress
from bot.ports import Json, Workflow
from bot.remediation import outcome
from bot.remediation.moves import Moves
from bot.remediation.outcome import Outcome
from bot.remediation.outside import UNREADABLE, Outside, signal_of
from bot.remediation.proposal import Applied, Helped
from bot.remediation.world import Rules, World
from bot.report import duration, plain

log = logging.getLogger(__name__)

KIND = "execution"
ABORT = "abort"  # the topic; the message is {"proposal": id of the abort, "by": user}
_NOTHING = "nothing"  # a topic nobody sends on: a sleep
_TRIES = 5  # of a request that got no answer
_ROUND_SECONDS = 30.0  # a round takes its slowest probe; then our own reading has to do

Asked = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was recorded when it began."""

    started: float
    cold_start: float
    waves: int
    window: float
    signal: Json
    is_undo: bool

    @property
    def patience(self) -> float:
        """Until it must be in place: a cold start for each group of replicas, and two windows of the signal."""
        return self.cold_start * self.waves + 2 * self.window


class Execution:
    """`run` is registered with the engine as the workflow of kind `KIND`."""

    def __init__(self, world: World) -> None:
        self._rules = world.rules
        self._outside = Outside(world)
        self._moves = Moves(world)

    def run(self, workflow: Workflow, proposal_id: str) -> None:
        try:
            _Run(workflow, proposal_id, self._outside, self._moves, self._rules).run()
        except Exception as error:
            # Around an execution: whatever it was, the row is closed and a person is told.
            log.exception("execution %s", proposal_id)
            at = workflow.step("clock", self._outside.clock)
            workflow.transaction(
                "interrupt", self._moves.interrupt, proposal_id, f"{type(error).__name__}: {error}", at
            )


class _Run:
    def __init__(self, workflow: Workflow, id: str, outside: Outside, moves: Moves, rules: Rules) -> None:
        self._workflow = workflow
        self._id = id
        self._outside = outside
        self._moves = moves
        self._rules = rules

    def run(self) -> None:
        plan = self._begun()
        if plan is None:
            return
        acted, abort = self._until_clear(lambda: self._step("act", self._outside.act))
        if abort is not None:
            self._roll_back(plan, abort)
        elif acted["result"] == "dry run":
            would = "dry run: nothing was changed. The review shows what would have been"
            self._close(Applied.NO, None, would, acted["now"])
        elif acted["result"] != "done":
            self._failed(acted)
        else:
            self._follow_and_watch(plan, acted["now"])

    # ------------------------------------------------------------------------------------------------ begin

    def _begun(self) -> _Plan | None:
        """None: it was refused, or is no longer to be begun."""
        look = self._step("look", self._outside.look)
        for _ in range(_TRIES - 1):
            if not look["retryable"]:
                break
            self._workflow.wait(ABORT, self._rules.poll_seconds)
            look = self._step("look", self._outside.look)
        if not self._move("begin", self._moves.begin, look)["go"]:
            return None
        return _Plan(look["now"], look["cold_start"], look["waves"], look["window"], look["signal"], look["is_undo"])

    def _until_clear(self, ask: Asked, topic: str = ABORT) -> tuple[dict[str, Any], Json]:
        """Asks again while the answer was lost; a step that is repeated looks whether its effect is there. With the
        abort message, if one came meanwhile."""
        answer = ask()
        for _ in range(_TRIES - 1):
            if answer["result"] != "unclear":
                break
            if (message := self._workflow.wait(topic, self._rules.poll_seconds)) is not None:
                return answer, message
            answer = ask()
        return answer, None

    def _failed(self, acted: dict[str, Any]) -> None:
        unclear = acted["result"] == "unclear"
        why = acted["why"] + (f" (asked {_TRIES} times; whether it arrived is not known)" if unclear else "")
        self._move("fail", self._moves.fail, why, acted["now"], None if unclear else Applied.NO.value)

    # ------------------------------------------------------------------------------------------------ in place?

    def _follow_and_watch(self, plan: _Plan, acted_at: float) -> None:
        effect, abort = self._follow(lambda: self._step("effect", self._outside.effect), acted_at + plan.patience)
        if abort is not None:
            self._roll_back(plan, abort)
            return
        at, detail = effect["now"], effect["detail"]
        if effect["progress"] == UNREADABLE:
            why = f"it was sent, but whether it is in place could not be read: {detail}"
            self._move("interrupt", self._moves.interrupt, why, at)
        elif effect["progress"] == Progress.NO.value:
            self._close(Applied.NO, None, plain(detail), at)
        elif effect["progress"] == Progress.YES.value:
            self._applied(plan, Applied.YES, detail, at)
        else:
            standing = f"not in place after {duration(timedelta(seconds=at - acted_at))}: {detail}"
            self._applied(plan, Applied.PARTLY, standing, at)

    def _follow(self, look: Asked, deadline: float, topic: str = ABORT) -> tuple[dict[str, Any], Json]:
        """Until it is in place, or undone, or the deadline; the last look, and the abort message if one came."""
        told = None
        while True:
            effect = look()
            if (standing := (effect["progress"], effect["detail"])) != told:
                told = standing
                self._move("progress", self._moves.progress, effect)
            settled = effect["progress"] in (Progress.YES.value, Progress.NO.value)
            if settled or effect["now"] >= deadline:
                return effect, None
            if (message := self._workflow.wait(topic, self._rules.poll_seconds)) is not None:
                return effect, message

    # ------------------------------------------------------------------------------------------------ did it help?

    def _applied(self, plan: _Plan, applied: Applied, detail: str, at: float) -> None:
        self._move("applied", self._moves.applied, applied.value, detail, at)
        if plan.is_undo:
            # Whether taking something back helps is not the question; whether it is back is.
            self._close(applied, None, f"undone: {plain(detail)}", at)
            return
        if applied is Applied.PARTLY:
            fresh_at = deadline = at  # it has stood like this for longer than the signal looks back
        else:
            fresh_at = at + plan.window
            deadline = at + max(plan.window, self._settle(plan))
            plan = self._with_usable_signal(plan)
        judged, now, abort = self._watch(plan, fresh_at, deadline)
        if abort is not None:
            self._roll_back(plan, abort)
            return
        helped, sentence = judged.helped, judged.sentence
        if applied is Applied.PARTLY:
            if helped is Helped.YES:
                helped = Helped.CANNOT_TELL
                sentence += "; only part of the change is in place, so what helped is not known"
            sentence = f"{plain(detail)}. {sentence}"
        self._close(applied, helped, sentence, now)

    def _with_usable_signal(self, plan: _Plan) -> _Plan:
        """Who approves at the first sign of trouble is faster than the signal, which crosses its limit while the change
        comes into place. Its window then still lies before the effect: that is what is compared with, too."""
        if not outcome.unusable(signal_of(plan.signal)):
            return plan
        read = self._step("signal in place", self._outside.signal)
        return plan if outcome.unusable(signal_of(read["signal"])) else replace(plan, signal=read["signal"])

    def _settle(self, plan: _Plan) -> float:
        settle = self._rules.settle_seconds
        return settle if settle is not None else plan.cold_start + 2 * plan.window

    def _watch(self, plan: _Plan, fresh_at: float, deadline: float) -> tuple[Outcome, float, Json]:
        """Until the signal is better, or the deadline. What a good reading says is confirmed by a round, whose
        evidence and graph then stand in the thread."""
        before = signal_of(plan.signal)
        hopeless = bool(outcome.unusable(before))
        while True:
            read = self._step("signal", self._outside.signal)
            now = read["now"]
            judged = outcome.judge(before, signal_of(read["signal"]))
            last = now >= deadline or hopeless
            if last or (now >= fresh_at and judged.helped is Helped.YES):
                judged, now, abort = self._confirmed(plan, judged, now)
                if abort is not None or last or judged.helped is Helped.YES:
                    return judged, now, abort
                fresh_at = now + plan.window
            if (message := self._workflow.wait(ABORT, self._rules.poll_seconds)) is not None:
                return judged, now, message

    def _confirmed(self, plan: _Plan, judged: Outcome, now: float) -> tuple[Outcome, float, Json]:
        number = self._move("ask round", self._moves.ask_round, now)
        if number is None:
            return judged, now, None
        asked_at = now
        while True:
            round_ = self._step("round", self._outside.round_signal, number)
            now = round_["now"]
            if round_["ended"] or now >= asked_at + _ROUND_SECONDS:
                break
            if (message := self._workflow.wait(ABORT, min(1.0, self._rules.poll_seconds))) is not None:
                return judged, now, message
        seen = signal_of(round_["signal"]) if round_["ended"] else None
        if seen is None or seen.value is None or seen.error is not None:
            return judged, now, None
        return outcome.judge(signal_of(plan.signal), seen), now, None

    # ------------------------------------------------------------------------------------------------ abort

    def _roll_back(self, plan: _Plan, message: Json) -> None:
        at = self._workflow.step("clock", self._outside.clock)
        self._move("aborting", self._moves.aborting, message, at)
        ready, _ = self._until_clear(lambda: self._step("prepare roll-back", self._outside.prepare_roll_back), _NOTHING)
        if ready["result"] == "nothing":
            self._aborted(message, Applied.YES, "nothing is left to take back", ready["now"])
            return
        if ready["result"] != "ready":
            self._aborted(message, Applied.NO, ready["why"], ready["now"])
            return
        name, params, before = ready["action"], ready["params"], ready["before"]
        done, _ = self._until_clear(
            lambda: self._step("roll back", self._outside.roll_back, name, params, before), _NOTHING
        )
        if done["result"] != "done":
            self._aborted(message, Applied.NO, done["why"], done["now"])
            return
        effect, _ = self._follow(
            lambda: self._step("roll-back effect", self._outside.roll_back_effect, name, params),
            done["now"] + plan.patience,
            _NOTHING,
        )
        applied = {Progress.YES.value: Applied.YES, Progress.NO.value: Applied.NO}
        self._aborted(message, applied.get(effect["progress"], Applied.PARTLY), effect["detail"], effect["now"])

    def _aborted(self, message: Json, rolled_back: Applied, detail: str, at: float) -> None:
        self._move("aborted", self._moves.aborted, message, rolled_back.value, detail, at)

    # ------------------------------------------------------------------------------------------------ the engine

    def _close(self, applied: Applied, helped: Helped | None, sentence: str, at: float) -> None:
        self._move("close", self._moves.close, applied.value, helped.value if helped else None, sentence, at)

    def _step(self, name: str, work: Any, *args: Json) -> Any:
        return self._workflow.step(name, work, self._id, *args)

    def _move(self, name: str, work: Any, *args: Json) -> Any:
        return self._workflow.transaction(name, work, self._id, *args)
