import pytest

from bot.commands.context import incident_meant
from bot.commands.words import UsageError
from bot.incidents.incident import IncidentState
from tests import stories as s


def test_who_types_in_a_terminal_is_not_in_slack(bench):
    assert bench.context().in_slack and not bench.in_a_terminal().in_slack


def test_without_a_name_the_only_open_incident_is_meant(bench):
    bench.opened(s.incident(142), s.incident(7, state=IncidentState.RESOLVED, resolved_at=s.at(1)))
    with bench.store.read() as tx:
        assert incident_meant(tx, None).number == 142
        assert incident_meant(tx, "inc-142").number == 142


def test_with_several_or_none_open_it_must_be_said_which(bench):
    with bench.store.read() as tx, pytest.raises(UsageError, match="no incident is open"):
        incident_meant(tx, None)
    bench.opened(s.incident(142), s.incident(7))
    with bench.store.read() as tx, pytest.raises(UsageError, match="inc-7, inc-142"):
        incident_meant(tx, None)


def test_an_unknown_or_resolved_one_is_refused_by_name(bench):
    bench.opened(s.incident(7, state=IncidentState.RESOLVED, resolved_at=s.at(1)))
    with bench.store.read() as tx:
        with pytest.raises(UsageError, match=r"no inc-9; the latest: inc-7"):
            incident_meant(tx, "9")
        with pytest.raises(UsageError, match="inc-7 is resolved already"):
            incident_meant(tx, "7")
        assert incident_meant(tx, "7", only_open=False).number == 7
