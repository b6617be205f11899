import pytest

from bot.commands import resolve
from bot.commands.words import UsageError
from bot.incidents.incident import IncidentState
from tests import stories as s


def test_it_is_over_by_whom_and_why(bench):
    bench.opened(s.incident())
    report = resolve.run(["inc-142", "wrong", "alert"], bench.context())
    assert report.text == "inc-142 is resolved."
    with bench.store.read() as tx:
        incident, (entry,) = tx.incident(142), tx.audited("inc-142", 5)
    assert (incident.state, incident.resolved_at) == (IncidentState.RESOLVED, s.at(3))
    assert incident.resolution == "resolved by <@U02BOB>: wrong alert"
    assert entry.entry.detail["why"] == "wrong alert"


def test_alerts_that_still_fire_are_named(bench):
    bench.opened(s.incident())
    with bench.store.write() as tx:
        tx.join_alert(142, s.alert())
    assert "But VLLMHighTTFT still fires" in resolve.run([], bench.context()).text


def test_what_happened_in_a_moment_is_not_said_to_fire_on(bench):
    bench.opened(s.incident())
    with bench.store.write() as tx:
        tx.join_alert(142, s.alert("GpuXid", ends_at=s.alert().starts_at))
    assert resolve.run([], bench.context()).text == "inc-142 is resolved."


def test_a_strange_parameter_is_refused(bench):
    bench.opened(s.incident())
    with pytest.raises(UsageError, match="did you mean why"):
        resolve.run(["142", "wyh=x"], bench.context())


def test_foreign_words_cannot_mention_anybody(bench):
    bench.opened(s.incident())
    resolve.run(["142", "<!channel>"], bench.context())
    with bench.store.read() as tx:
        assert "<!channel>" not in tx.incident(142).resolution
