from datetime import UTC, datetime

from bot.fleet import Fleet
from sandbox.bench.storm import ALERTS, SERVICES, alerts, fleet_of, shortest_gap
from sandbox.slack_workspace import demo_workspace
from sandbox.world import chat_70b, fleet_yaml


def test_the_storm_is_ten_thousand_different_alerts_over_fifty_services():
    storm = list(alerts(datetime.now(UTC)))
    assert len(storm) == ALERTS
    assert len({tuple(sorted(a["labels"].items())) for a in storm}) == ALERTS
    assert len({a["labels"]["service"] for a in storm}) == SERVICES


def test_its_fleet_is_one_that_the_bot_accepts():
    workspace = demo_workspace()
    fleet = Fleet.model_validate(fleet_of(workspace, fleet_yaml([chat_70b()], workspace)))
    assert len(fleet.services) == SERVICES
    assert len({s.channel for s in fleet.services}) == 3


def test_the_gap_is_between_posts_of_one_channel():
    posts = [{"channel": c, "at": at} for c, at in (("a", 1.0), ("b", 1.1), ("a", 2.5), ("b", 4.0))]
    assert shortest_gap(posts) == 1.5
    assert shortest_gap([]) == float("inf")
