"""Whole stories, played by people in browsers: an alert, a verdict, a refusal, an approval, a change that helped.

The demo shows them, the end-to-end tests assert them. Nothing here speaks to the bot: faults are put into the fleet,
and the rest is read and clicked in Slack's pages.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.browser import Chromium, SlackBrowser
from sandbox.fleet.contract import Effect, Match
from sandbox.world import Town, World

# Deadlines, not measures: on a calm machine a whole story takes less than 45 s, beside others several times that.
STEP_SECONDS = 120.0
CALM_SECONDS = 120.0
SLOW_IMAGE = "vllm/vllm-openai:v0.33.0"


@dataclass
class Timeline:
    """What happened when, in seconds since the fault."""

    say: Callable[[str], None] = lambda _: None
    began: float = field(default_factory=time.monotonic)
    moments: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        at = time.monotonic() - self.began
        self.moments.append((at, what))
        self.say(f"{at:6.1f} s  {what}")

    def seconds(self, what: str) -> float:
        """When the first moment whose text contains `what` was."""
        return next(at for at, text in self.moments if what in text)


@dataclass
class People:
    """Alice is on call and may approve; bob is in the channel and may not."""

    alice: SlackBrowser
    bob: SlackBrowser

    @classmethod
    @contextmanager
    def at(cls, world: World, channel: str) -> Iterator["People"]:
        with Chromium() as chromium:
            page = world.ground.slack.page_url
            alice, bob = (chromium.open(page, name, seconds=STEP_SECONDS) for name in ("alice", "bob"))
            people = cls(alice, bob)
            people.alice.open_channel(channel)
            people.bob.open_channel(channel)
            yield people


def overload(world: World, town: Town, people: People, timeline: Timeline, *, ratio: float = 1.12) -> None:
    """Load doubles: under-provisioned; one replica more; it helped."""
    timeline.began = time.monotonic()
    rps = world.offer(town, ratio)
    timeline.note(f"load doubles to {rps:.0f} requests/s")
    _verdict(people.alice, town, "Under-provisioned", timeline)
    _approved(people, timeline, re.compile(r"^Review: scale 3 → 4"))
    _outcome(people.alice, "Under-provisioned", f"Scale {town.deployment.name}", "Helped", timeline)


def bad_revision(world: World, town: Town, people: People, timeline: Timeline, *, slowdown: float = 4) -> None:
    """A new image is slower: bad rollout; back to the revision before; it helped."""
    deployment = town.deployment
    slow_image(world, town, slowdown)
    timeline.began = time.monotonic()
    world.ground.cluster.roll_out(
        deployment.namespace, deployment.name, cause="Update vLLM to v0.33.0", image=SLOW_IMAGE
    )
    timeline.note("a new revision rolls out: vLLM v0.33.0")
    _verdict(people.alice, town, "Bad rollout", timeline)
    _approved(people, timeline, re.compile(r"^Review: roll back"))
    _outcome(people.alice, "Bad rollout", f"Roll {deployment.name} back", "Helped", timeline)


def slow_image(world: World, town: Town, slowdown: float = 4) -> None:
    """From now on, replicas of this image are slow."""
    namespace = town.deployment.namespace
    match = Match(namespace=namespace, image=f"*:{SLOW_IMAGE.rpartition(':')[2]}")
    world.ground.fleet.set_fault(f"slow-{namespace}", match, Effect(slowdown=slowdown))


def until_calm(world: World, town: Town) -> None:
    """The load as it was, and no alert any more. Raises TimeoutError."""
    world.offer(town)
    deadline = time.monotonic() + CALM_SECONDS
    while world.alertmanager.alerts():
        if time.monotonic() > deadline:
            raise TimeoutError(f"alerts still fire {CALM_SECONDS:.0f} s after the story")
        time.sleep(0.5)


def _verdict(page: SlackBrowser, town: Town, title: str, timeline: Timeline) -> None:
    page.wait_message(title, seconds=STEP_SECONDS)
    timeline.note(f"the card stands in #{town.channel}: {title}")


def _approved(people: People, timeline: Timeline, button: re.Pattern[str]) -> None:
    """Somebody without the role tries first, and is refused by name."""
    _press(people.bob, button)
    people.bob.wait_message("Not approved", seconds=STEP_SECONDS)
    timeline.note("bob's approval is refused: he does not hold the role")
    _press(people.alice, button)
    timeline.note("alice has read the contract and approves")


def _press(page: SlackBrowser, button: re.Pattern[str]) -> None:
    page.click(button)
    page.wait_modal("What changes", seconds=STEP_SECONDS)
    page.submit()
    page.wait_modal_closed(seconds=STEP_SECONDS)


def _outcome(page: SlackBrowser, title: str, change: str, word: str, timeline: Timeline) -> None:
    """The thread has the change's whole way; the card shows where it is, and in the end what fixed it."""
    page.open_thread(title)
    # A service that goes bad again has the same card and thread, with the earlier changes above.
    approved = re.compile(rf"Approved by .*{re.escape(change)}", re.IGNORECASE)
    page.wait_reply("Running", after=approved, seconds=STEP_SECONDS)
    timeline.note("the change runs")
    page.wait_reply("Applied", after=approved, seconds=STEP_SECONDS)
    timeline.note("the change is applied")
    page.wait_reply(re.compile(rf"{word}.*:|Did not help|Cannot tell"), after=approved, seconds=STEP_SECONDS)
    page.wait_reply(word, after=approved, seconds=1)
    timeline.note(f"the thread says: {word}")
    page.close_thread()


def pictures(page: SlackBrowser, folder: Path, name: str) -> list[Path]:
    """The channel, at desk and phone width, and the thread."""
    found = [folder / f"{name}.png", folder / f"{name}-phone.png", folder / f"{name}-thread.png"]
    page.screenshot(found[0])
    page.screenshot(found[1], phone=True)
    page.open_thread(re.compile("."))
    page.screenshot(found[2])
    page.close_thread()
    return found
