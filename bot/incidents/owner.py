"""Whose an incident is, and who is called for it. Pure."""

from bot.fleet import Fleet, Service
from bot.incidents.incident import STORM_TITLE, Incident


def owner(incident: Incident, fleet: Fleet) -> Service | None:
    """The service itself, or the first of those that a node's alert hits."""
    names = (incident.target.service, *incident.target.also)
    return next((s for name in names if name and (s := fleet.service(name))), None)


def oncall(incident: Incident, fleet: Fleet) -> str | None:
    """A storm is nobody's service alone: the fleet's on-call, if there is one."""
    if incident.title == STORM_TITLE and fleet.default_oncall is not None:
        return fleet.default_oncall
    service = owner(incident, fleet)
    return service.oncall if service is not None and service.oncall else fleet.default_oncall
