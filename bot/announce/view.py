"""Everything the store knows of one incident, read in one transaction, for what is rendered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bot.announce.outbox import AnnounceTx, Card
from bot.fleet import Fleet, Service
from bot.incidents.incident import AlertState, Incident, Round
from bot.incidents.owner import oncall, owner
from bot.remediation.proposal import Approval, Manual, Proposal
from bot.runbook.schema import Runbook


@dataclass(frozen=True, slots=True)
class View:
    incident: Incident
    rounds: Sequence[Round] = ()  # that ended, by number; the last one's verdict is the card's
    asides: Sequence[Round] = ()  # somebody asked for another time (`at=`) or another runbook: for the thread only
    proposals: Sequence[Proposal] = ()
    approvals: Mapping[str, Sequence[Approval]] = field(default_factory=dict)
    manuals: Sequence[Manual] = ()
    alerts: Sequence[AlertState] = ()
    runbook: Runbook | None = None
    service: Service | None = None
    oncall: str | None = None  # who is called
    card: Card | None = None

    @property
    def name(self) -> str:
        """What people call it: the service, else the node, else the alert."""
        return self.incident.target.service or self.incident.target.node or self.incident.title


def load(tx: AnnounceTx, number: int, fleet: Fleet, runbooks: Mapping[str, Runbook]) -> View | None:
    incident = tx.incident(number)
    if incident is None:
        return None
    ended = [r for r in tx.rounds_of(number) if r.ended_at is not None]
    proposals = tx.proposals_of(number)
    return View(
        incident=incident,
        rounds=[r for r in ended if not _is_aside(r, incident)],
        asides=[r for r in ended if _is_aside(r, incident)],
        proposals=proposals,
        approvals={p.id: tx.approvals_of(p.id) for p in proposals},
        manuals=tx.manuals_of(number),
        alerts=tx.alert_states(number),
        runbook=runbooks.get(incident.runbook) if incident.runbook else None,
        service=owner(incident, fleet),
        oncall=oncall(incident, fleet),
        card=tx.card(number),
    )


def _is_aside(round: Round, incident: Incident) -> bool:
    asked_for = round.asked_by is not None and round.runbook != incident.runbook
    return round.as_of is not None or asked_for
