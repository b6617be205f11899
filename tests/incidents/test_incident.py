from datetime import UTC, datetime

from bot.incidents.incident import Incident, IncidentState, Target
from bot.runbook.schema import Severity

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_an_incident_is_spoken_of_by_its_number():
    incident = Incident(142, IncidentState.OPEN, Severity.WARNING, "t", Target(), None, "#c", NOW, NOW)
    assert incident.id == "inc-142"
