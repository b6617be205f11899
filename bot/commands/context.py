"""What a command may use: one frozen value for each run, made by the composition root; each takes what it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bot.actions.contract import Aim
from bot.announce.announcer import Backlog
from bot.commands.request import RequestTx, Store
from bot.commands.words import UsageError, incident_number
from bot.fleet import Fleet
from bot.incidents.incident import Incident, IncidentState, Round
from bot.ports import Sources
from bot.remediation.proposal import Proposal
from bot.report import Report
from bot.runbook.loading import Mistake
from bot.runbook.schema import Runbook


class Diagnose(Protocol):
    def __call__(self, incident: Incident, round: Round) -> Round:
        """The round with its observations and findings; takes seconds, changes nothing."""
        ...


class ProposeByHand(Protocol):
    def __call__(
        self,
        incident: Incident,
        action: str,
        with_: Mapping[str, Any],
        user: str,
        now: datetime,
        aim: Aim | None = None,
    ) -> Proposal:
        """`aim`: what was named; without it, what the incident is about. Raises ValueError with the reason,
        SourceError."""
        ...


class Later(Protocol):
    def __call__(self, note: Report, work: Callable[[], Report]) -> Report:
        """For an answer that takes seconds: in Slack `note` stands there at once and the answer follows; a terminal
        waits."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    store: Store
    sources: Callable[[datetime], Sources]
    fleet: Fleet
    runbooks: Mapping[str, Runbook]
    diagnose: Diagnose
    propose: ProposeByHand | None  # None: in a terminal, which proposes nothing
    later: Later
    user: str  # a Slack user's id, or "terminal:<name>"
    channel: str  # where it was typed; "" in a terminal
    now: datetime
    backlog: Callable[[], Backlog | None] = lambda: None  # what Slack lacks; None where no announcer runs
    broken: tuple[Mistake, ...] = ()  # what keeps runbooks from being used

    @property
    def in_slack(self) -> bool:
        return not self.user.startswith("terminal:")


def incident_meant(tx: RequestTx, word: str | None, *, only_open: bool = True) -> Incident:
    """The incident that was named; without a name the only open one. Raises UsageError."""
    if word is not None:
        number = incident_number(word)
        incident = tx.incident(number)
        if incident is None:
            known = ", ".join(i.id for i in tx.latest_incidents(5)) or "none so far"
            raise UsageError(f"there is no inc-{number}; the latest: {known}")
        if only_open and incident.state is not IncidentState.OPEN:
            raise UsageError(f"{incident.id} is resolved already")
        return incident
    there = tx.open_incidents()
    if len(there) == 1:
        return there[0]
    if not there:
        raise UsageError("no incident is open")
    raise UsageError(f"which one? Open are: {', '.join(i.id for i in there)}")
