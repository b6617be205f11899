"""The demo's two stories, from the fault to "Helped", with people who read and click in a browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.bench.table import Row, Section
from sandbox.stories import People, Timeline, bad_revision, overload, until_calm
from sandbox.world import Ground, World, chat_70b

STORY_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Story:
    name: str
    card_seconds: float  # from the fault to the verdict in the channel
    helped_seconds: float  # from the fault to the word in the thread


def measure(ground: Ground, folder: Path) -> Section:
    town = chat_70b("bench-stories")
    told = []
    with World(ground, folder, [town]) as world, People.at(world, town.channel) as people:
        world.wait_scraped(town)
        for name, play in (("overload, one replica more", overload), ("bad revision, rolled back", bad_revision)):
            timeline = Timeline()
            play(world, town, people, timeline)
            told.append(Story(name, timeline.seconds("the card stands"), timeline.seconds("Helped")))
            until_calm(world, town)
    return _section(told)


def _section(stories: Sequence[Story]) -> Section:
    rows = [
        row
        for story in stories
        for row in (
            Row(f"{story.name}: fault to verdict", f"{story.card_seconds:.1f} s"),
            Row(
                '  fault to "Helped"',
                f"{story.helped_seconds:.1f} s",
                f"<= {STORY_SECONDS:g} s",
                story.helped_seconds <= STORY_SECONDS,
            ),
        )
    ]
    how = (
        "Prometheus scrapes and evaluates each second, the window is 10 s, a replica starts in two seconds; two people "
        "in Chromium, one of whom may not approve and tries first."
    )
    return Section("A whole story", how, rows)
