"""kill -9 at points that hurt: the story goes on, and nothing happens twice. Each test shows that it came there.

The failpoints lie outside the bot: in the dial before the API server, in Slack's proxy, and in a program that wraps
the bot where the point lies between two writes of its own.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.faults import Where
from sandbox.world import Dials, Ground
from tests.e2e.scene import OUTCOME_SECONDS, PATIENCE_SECONDS, Scene, scene, until

HERE = Path(__file__).parent
WRAPPED = (str(HERE / "killed_once.py"),)
CARD, OUTCOME = "Under-provisioned", re.compile("Helped: |Did not help|Cannot tell|Interrupted|Failed")


def killed(story: Scene) -> None:
    story.world.bot.kill()
    assert not story.world.bot.alive


def ended_well(story: Scene) -> None:
    """To the end, and then everything is there once: one scaling, one card, each message, all in order."""
    story.wait_told(OUTCOME, OUTCOME_SECONDS)
    (proposal,) = [p for p in story.proposals() if p[1] == "ended"]
    assert proposal[2:4] == ("yes", "yes"), proposal
    assert story.replicas() == 4
    assert [(e.resource, e.subresource) for e in story.changes()] == [("deployments", "scale")]
    assert len(story.cards()) == 1
    story.nothing_twice_nothing_lost()
    story.thread_in_order("Approved", "Running", "Applied", "Helped")
    story.asked_only_what_it_needs()


@pytest.fixture
def killed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Says where the wrapped bot kills itself, once; the file it returns is there when it has."""

    def at(point: str) -> Path:
        told = tmp_path / "killed"
        monkeypatch.setenv("KILLED_AT", point)
        monkeypatch.setenv("KILLED_ONCE", str(told))
        monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
        return told

    return at


def test_after_the_deliverys_commit(ground: Ground, tmp_path: Path, killed_at: Callable[[str], Path]) -> None:
    told = killed_at("triage")
    with scene(ground, tmp_path, program=WRAPPED) as story:
        story.overload()
        until(lambda: not story.world.bot.alive, PATIENCE_SECONDS, "the bot's death")
        assert told.exists()
        assert story.rows("SELECT id FROM delivery"), "the delivery is not on disk"
        assert not story.rows("SELECT number FROM incident"), "it was triaged already"
        story.world.bot.start()
        story.alice.wait_message(CARD)
        story.approve()
        ended_well(story)


def test_after_the_approval_before_the_engine_starts(
    ground: Ground, tmp_path: Path, killed_at: Callable[[str], Path]
) -> None:
    told = killed_at("engine")
    with scene(ground, tmp_path, program=WRAPPED) as story:
        story.overload()
        story.alice.wait_message(CARD)
        story.approve()
        until(lambda: not story.world.bot.alive, PATIENCE_SECONDS, "the bot's death")
        approved = story.rows("SELECT id FROM proposal WHERE state = 'approved'")
        assert approved == [(told.read_text(),)]
        assert not story.changes()
        story.world.bot.start()
        ended_well(story)


def test_after_the_api_write_before_its_checkpoint(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path, dials=Dials(kubernetes=True)) as story:
        story.overload()
        story.alice.wait_message(CARD)
        for_real = r"/scale(?!.*dryRun)"
        hold = story.world.dials["kubernetes"].control.hold_next(Where.AFTER, method="PATCH", path=for_real)
        story.approve()
        hold.wait_reached(PATIENCE_SECONDS)
        assert story.replicas() == 4, "the API server has not done it yet"
        killed(story)
        hold.cut()
        story.world.bot.start()
        ended_well(story)


def test_after_slack_took_a_message_before_its_ts_is_stored(ground: Ground, tmp_path: Path) -> None:
    """The card first, then a message of the thread."""
    with scene(ground, tmp_path) as story:
        slack = story.world.ground.slack.control
        hold = slack.hold_next(Where.AFTER, method=r"chat\.postMessage", channel=story.channel)
        story.overload()
        hold.wait_reached(PATIENCE_SECONDS)
        assert len(story.cards()) == 1, "Slack has not taken it"
        assert story.rows("SELECT ts FROM card") == [(None,)]
        killed(story)
        hold.cut()
        story.world.bot.start()
        story.alice.wait_message(CARD)
        hold = slack.hold_next(Where.AFTER, method=r"chat\.postMessage", thread_ts=r"\d", text="Running")
        story.approve()
        hold.wait_reached(PATIENCE_SECONDS)
        assert any("Running" in text for text in story.thread()), "Slack has not taken it"
        assert story.rows("SELECT ts FROM thread_message WHERE key LIKE 'execution:%:running'") == [(None,)]
        killed(story)
        hold.cut()
        story.world.bot.start()
        ended_well(story)
