from dataclasses import replace

import pytest

from bot.incidents.incident import Incident, IncidentState, Target, Timing
from bot.incidents.placing import Match, Reopening, place, runbook_for
from bot.runbook.schema import Severity
from tests.incidents.conftest import alert, at, runbook

TIMING = Timing(hold_down_seconds=60, join_window_seconds=600, episode_seconds=7200)
CHAT = Target(service="chat-70b")
XID = replace(alert("GpuXid", service="chat-70b", xid="79"), ends_at=at(0).isoformat())

OPEN = Incident(
    number=1,
    state=IncidentState.OPEN,
    severity=Severity.CRITICAL,
    title="VllmHighTTFT",
    target=CHAT,
    runbook="high_latency",
    channel="#chat-70b",
    opened_at=at(0),
    began_at=at(0),
    alert_names=("VllmHighTTFT",),
)
OVER = replace(OPEN, state=IncidentState.RESOLVED, resolved_at=at(100))


def placed(alert, target=CHAT, *, seconds=0.0, known=None, known_start=None, runbook=None, there=(), over=()):
    return place(
        alert,
        target,
        known=known,
        known_start=known_start,
        runbook=runbook,
        open_incidents=there,
        recently_resolved=over,
        timing=TIMING,
        now=at(seconds),
    )


def test_the_more_specific_runbook_wins():
    runbooks = {
        "high_latency": runbook("high_latency", {"alertname": ["VllmHighTTFT", "VllmQueue"]}),
        "gpu": runbook("gpu", {"alertname": "GpuXid"}, {"alertname": "VllmHighTTFT", "severity": "info"}),
    }
    assert runbook_for({"alertname": "VllmHighTTFT"}, runbooks) == "high_latency"
    assert runbook_for({"alertname": "VllmHighTTFT", "severity": "info"}, runbooks) == "gpu"
    assert runbook_for({"alertname": "DiskFull"}, runbooks) is None


def test_an_alert_stays_with_its_open_incident_however_old_that_is():
    assert placed(alert(), seconds=10**6, known=OPEN) == Match(OPEN)


@pytest.mark.parametrize(("seconds", "incident"), [(600, OPEN), (601, None)])
def test_whatever_hits_a_service_at_about_the_same_time_is_one_story(seconds, incident):
    assert placed(alert("GpuXid"), seconds=seconds, there=[OPEN]) == Match(incident)


@pytest.mark.parametrize(
    ("target", "story"),
    [
        (Target(service="chat-70b", pod="p", node="gpu-07"), True),
        (Target(service="code-8b"), False),
        (Target(node="gpu-07"), False),
        (Target(namespace="llm"), False),
    ],
)
def test_a_services_story_is_told_by_what_is_about_that_service(target, story):
    assert (placed(alert(), target, there=[OPEN]).incident is OPEN) is story


def test_a_node_incidents_story_is_told_by_its_services_too():
    of_node = replace(OPEN, target=Target(node="gpu-07", also=("chat-70b", "code-8b")))
    for target in (Target(node="gpu-07"), CHAT, Target(service="code-8b")):
        assert placed(alert(), target, there=[of_node]).incident is of_node
    assert placed(alert(), Target(node="gpu-08"), there=[of_node]).incident is None


def test_where_nothing_is_known_the_same_rule_in_the_same_namespace_is_one_story():
    vague = replace(OPEN, target=Target(namespace="llm"), alert_names=("DiskFull",))
    assert placed(alert("DiskFull"), Target(namespace="llm"), there=[vague]).incident is vague
    assert placed(alert("DiskFull"), Target(namespace="other"), there=[vague]).incident is None
    assert placed(alert("CertExpires"), Target(namespace="llm"), there=[vague]).incident is None


@pytest.mark.parametrize(
    ("incident", "severity", "runbook", "joins"),
    [
        (OPEN, "critical", "high_latency", True),
        (OPEN, "warning", "high_latency", True),
        (OPEN, "critical", "gpu", False),
        (OPEN, "critical", None, False),
        (replace(OPEN, severity=Severity.WARNING), "critical", "high_latency", False),
        (replace(OPEN, acked_by="U-ALICE"), "critical", "high_latency", True),
    ],
)
def test_long_after_it_joins_only_what_would_say_the_same_and_is_no_worse(incident, severity, runbook, joins):
    firing = alert("VllmQueue", severity=severity)
    assert placed(firing, seconds=9999, runbook=runbook, there=[incident]) == Match(incident if joins else None)


def test_another_critical_xid_is_not_put_under_an_acknowledgment():
    known = replace(OPEN, runbook="gpu")
    assert placed(XID, seconds=9999, runbook="gpu", there=[known]) == Match(known)
    assert placed(XID, seconds=9999, runbook="gpu", there=[replace(known, acked_by="U-ALICE")]) == Match(None)


@pytest.mark.parametrize(("seconds", "how"), [(160, Reopening.FLAP), (161, None)])
def test_within_the_hold_down_it_is_a_flap(seconds, how):
    expected = Match(OVER if how else None, how)
    assert placed(alert(), seconds=seconds, known=OVER) == expected
    assert placed(alert("VllmQueue"), seconds=seconds, over=[OVER]) == expected


def test_after_the_hold_down_its_old_start_says_that_it_was_never_over():
    firing = alert()
    assert placed(firing, seconds=3600, known=OVER, known_start=firing.starts_at) == Match(OVER, Reopening.SAME_EPISODE)
    assert placed(firing, seconds=3600, known=OVER, known_start="another") == Match(None)
    assert placed(firing, seconds=7301, known=OVER, known_start=firing.starts_at) == Match(None)


def test_where_another_incident_tells_the_story_already_the_old_one_rests():
    firing, newer = alert(), replace(OPEN, number=2, opened_at=at(3000))
    found = placed(firing, seconds=3600, known=OVER, known_start=firing.starts_at, there=[newer])
    assert found == Match(newer)
