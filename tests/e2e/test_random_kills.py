"""kill -9 at random moments of the overload, the bot restarted at once each time. Whenever it was, the story ends
right, nothing is done twice, nothing is lost.

`E2E_KILL_SEED` repeats a run, `E2E_KILL_STORIES` and `E2E_KILLS_PER_STORY` make it longer.
"""

import os
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.world import Ground
from tests.e2e.scene import OUTCOME_SECONDS, REVIEW_SCALE, Scene, scene, until

SEED = int(os.environ.get("E2E_KILL_SEED") or random.SystemRandom().randrange(10**6))
STORIES = int(os.environ.get("E2E_KILL_STORIES", "4"))
KILLS = int(os.environ.get("E2E_KILLS_PER_STORY", "5"))
AT_ONCE = 2
STORY_SECONDS = 45.0
OUTCOME = re.compile(": Helped|: Did not help|: Cannot tell|: Interrupted|: Failed|: Refused")


@contextmanager
def killed_at(story: Scene, moments: Sequence[float], happened: list[float]) -> Iterator[None]:
    """In a thread of its own, while the story goes on; ends with the bot alive."""
    stopped = threading.Event()
    began = time.monotonic()

    def kill_and_restart() -> None:
        for moment in moments:
            if stopped.wait(max(0.0, began + moment - time.monotonic())):
                return
            story.world.bot.kill()
            happened.append(round(time.monotonic() - began, 1))
            story.world.bot.launch()

    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    try:
        yield
        killer.join()  # all of the kills, before the end is looked at
    finally:
        stopped.set()
        killer.join()


def approve(story: Scene) -> None:
    """As somebody who presses again when nothing happens."""
    deadline = time.monotonic() + 300
    approved = "SELECT 1 FROM proposal WHERE decided_by IS NOT NULL"
    while not story.rows(approved):
        assert time.monotonic() < deadline, "nobody could approve"
        try:
            story.alice.wait_message(REVIEW_BUTTON, seconds=15)
            story.alice.click(REVIEW_SCALE)
            story.alice.wait_modal("What changes", seconds=15)
            story.alice.submit()
            story.alice.wait_modal_closed(seconds=15)
            until(lambda: story.rows(approved), 15, "the approval to be taken")
        except (TimeoutError, AssertionError):
            if story.alice.modal_open():
                story.alice.close_modal()


REVIEW_BUTTON = re.compile(r"Review: scale 3 → 4")


def play(ground: Ground, folder: Path, number: int) -> list[float]:
    """Returns when the kills were."""
    dice = random.Random(SEED * 1000 + number)
    moments = sorted(dice.uniform(0, STORY_SECONDS) for _ in range(KILLS))
    happened: list[float] = []
    with scene(ground, folder) as story:
        with killed_at(story, moments, happened):
            story.overload()
            approve(story)
        story.wait_told(OUTCOME, OUTCOME_SECONDS)
        assert any(": Helped" in text for text in story.thread()), story.thread()
        assert len(happened) == KILLS
        assert story.replicas() == 4
        assert [(e.resource, e.subresource) for e in story.changes()] == [("deployments", "scale")], story.changes()
        assert len(story.cards()) == 1
        story.thread_in_order("Approved", "Running", "Applied", "Helped")
        story.nothing_twice_nothing_lost()
    return happened


@pytest.fixture(scope="module")
def played(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list["Future[list[float]]"]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield [pool.submit(play, ground, tmp_path_factory.mktemp("killed"), number) for number in range(STORIES)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(STORIES))
def test_killed_at_random_moments_it_ends_right(played: list["Future[list[float]]"], number: int) -> None:
    print(f"E2E_KILL_SEED={SEED}, story {number}")
    print(f"killed at seconds {played[number].result()}")
