"""Whose an incident is, and who is called for it. Pure."""

from bot.fleet import Fleet, Service
from bot.incidents.incident import STORM_TITLE, Incident


def owner(incident: Incident, fleet: Fleet) -> Service | None:
    """The service itself, or the first of those that a node's alert hits."""
    names = (incident.target.service, *incident.target.also)
    return next((s for name in names if name and (s := fleet.service(name))), None)


def oncall(incident: Incident, fleet: Fleet) -> str | None:
    """A storm is nobody's service alone: the fleet's on-call, if there is one."""
    if _is_the_fleets(incident, fleet):
        return fleet.default_oncall
    service = owner(incident, fleet)
    return service.oncall if service is not None and service.oncall else fleet.default_oncall


def escalation(incident: Incident, fleet: Fleet) -> str | None:
    """Who is called when the on-call does not answer: the on-call once more where nobody else is declared."""
    service = None if _is_the_fleets(incident, fleet) else owner(incident, fleet)
    return service.escalation if service is not None and service.escalation else oncall(incident, fleet)


def _is_the_fleets(incident: Incident, fleet: Fleet) -> bool:
    return incident.title == STORM_TITLE and fleet.default_oncall is not None
