"""Two replicas of the bot on one PostgreSQL: the leader is killed in the middle of a change, and the other goes on."""

from pathlib import Path

from sandbox.alertmanager import Grouping, Webhook, configuration
from sandbox.bot import INTAKE_TOKEN
from sandbox.faults import Where
from sandbox.world import Dials, Ground
from tests.e2e.scene import OUTCOME_SECONDS, PATIENCE_SECONDS, scene

CARD = "Under-provisioned"


def test_the_other_replica_goes_on_when_the_leader_is_killed(ground: Ground, tmp_path: Path, postgres_url: str) -> None:
    with scene(ground, tmp_path, dials=Dials(kubernetes=True), database_url=postgres_url) as story:
        leader = story.world.bot
        with leader.twin("bot-2") as other:
            hooks = [Webhook(bot.webhook_url, bearer_token=INTAKE_TOKEN) for bot in (leader, other)]
            story.world.alertmanager.reload(configuration(hooks, Grouping()))
            story.world.ground.slack.control.wait_connected(2, seconds=PATIENCE_SECONDS)
            story.overload()
            story.alice.wait_message(CARD)
            hold = story.world.dials["kubernetes"].control.hold_next(
                Where.AFTER, method="PATCH", path=r"/scale(?!.*dryRun)"
            )
            story.approve()
            hold.wait_reached(PATIENCE_SECONDS)
            assert story.rows("SELECT state FROM proposal WHERE decided_by IS NOT NULL") == [("running",)]
            leader.kill()
            hold.cut()
            story.wait_told(": Helped", OUTCOME_SECONDS)
            assert not leader.alive and other.alive
            assert story.replicas() == 4
            assert [(e.resource, e.subresource) for e in story.changes()] == [("deployments", "scale")]
            assert len(story.cards()) == 1
            story.thread_in_order("Approved", "Running", "Applied", "Helped")
            story.nothing_twice_nothing_lost()
