"""Prometheus stands still for a minute. It says with each alert how long it holds, four times its pace of repeating: so
Alertmanager resolves what nobody resolved, and after the thaw the alert fires again with its old startsAt.

Whether the hold-down is longer than that (as in production, where it is five minutes) or over by then: it is the same
trouble, so it is the same incident. The two stories are played side by side, each in its own thread.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.world import Ground
from tests.e2e.scene import OUTCOME_SECONDS, PATIENCE_SECONDS, Scene, scene, until

SECONDS = 60
CARD = "Under-provisioned"
HOLD_DOWNS = {"within the hold-down": 600, "after the hold-down": 40}
FINE = ("fixed after", "Checked:", "No cause", "No known cause")  # said of what was measured, which nothing can be now


def frozen(story: Scene) -> None:
    """For a minute; the alert lapses, and nothing is called over."""
    story.world.prometheus.freeze()
    try:
        began = time.monotonic()
        until(lambda: not story.world.alertmanager.alerts(), PATIENCE_SECONDS, "the alerts' lapse")
        until(lambda: not story.firing(), PATIENCE_SECONDS, "the lapse at the bot")
        until(lambda: states(story) == [(1, "resolved")], PATIENCE_SECONDS, "the incident's end")
        ended = time.monotonic()
        while time.monotonic() < max(began + SECONDS, ended + HOLD_DOWNS["after the hold-down"] + 1):
            card = str(story.cards()[0])
            assert not any(word in card for word in FINE), card
            time.sleep(1)
    finally:
        story.world.prometheus.thaw()


def states(story: Scene) -> list[tuple[Any, ...]]:
    return story.rows("SELECT number, state FROM incident ORDER BY number")


def play(ground: Ground, folder: Path, hold_down_seconds: float) -> list[str]:
    """Returns the thread."""
    environment = {"TIMING__HOLD_DOWN_SECONDS": str(hold_down_seconds)}
    with scene(ground, folder, resend_seconds=5, environment=environment) as story:
        story.overload()
        story.alice.wait_message(CARD)
        until(lambda: len(story.firing()) >= 2, PATIENCE_SECONDS, "both alerts, of which one is critical")
        starts = {row[1] for row in story.firing()}
        frozen(story)
        until(lambda: {row[1] for row in story.firing()} & starts, PATIENCE_SECONDS, "an alert with its old startsAt")
        until(lambda: states(story) == [(1, "open")], PATIENCE_SECONDS, "the incident open again")
        story.alice.wait_message(CARD)
        story.approve()
        story.wait_told(": Helped", OUTCOME_SECONDS)
        assert [number for number, _ in states(story)] == [1]
        assert len(story.cards()) == 1
        story.nothing_twice_nothing_lost()
        return story.thread()


@pytest.fixture(scope="module")
def played(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, "Future[list[str]]"]]:
    with ThreadPoolExecutor(len(HOLD_DOWNS)) as pool:
        yield {
            when: pool.submit(play, ground, tmp_path_factory.mktemp("frozen"), seconds)
            for when, seconds in HOLD_DOWNS.items()
        }


@pytest.mark.timeout(900)
def test_within_the_hold_down_it_fires_again_and_calls_nobody(played: Mapping[str, "Future[list[str]]"]) -> None:
    thread = played["within the hold-down"].result()
    again = [text for text in thread if "Firing again" in text]
    assert again and not any("<@" in text for text in again)
    assert not any("it was not over" in text for text in thread)


@pytest.mark.timeout(900)
def test_after_the_hold_down_it_is_the_same_incident_and_calls_anew(played: Mapping[str, "Future[list[str]]"]) -> None:
    thread = played["after the hold-down"].result()
    again = [text for text in thread if "it was not over" in text]
    assert len(again) == 1 and "<@U01ALICE>" in again[0], thread
