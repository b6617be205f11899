"""The demo: a GPU cluster, a model under load, and its on-call bot, in a Slack that runs in the browser."""

import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.controlplane.build import built
from sandbox.stories import People, Timeline, bad_revision, overload, slow_image, until_calm
from sandbox.stories import pictures as take_pictures
from sandbox.world import Ground, World, chat_70b


def show(*, script: bool, pictures: Path) -> int:
    """The exit code: non-zero if any part fails."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="vllm-oncall-demo-") as folder:
        try:
            with _world(Path(folder)) as world:
                return _played(world, pictures) if script else _watched(world, ended)
        except Exception:
            traceback.print_exc()
            return 1


@contextmanager
def _world(folder: Path) -> Iterator[World]:
    print("Starting the parts; usually 20 s.", flush=True)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"  {time.monotonic() - began:5.1f} s  {what}", flush=True)

    ground = Ground(folder)
    world = World(ground, folder / "story", [chat_70b()])
    try:
        ground.start(say)
        world.start(say)
        world.wait_scraped(world.towns[0])
        say("Prometheus has scraped every replica")
        yield world
    finally:
        print("Stopping.", flush=True)
        world.stop()
        ground.stop()


def _watched(world: World, ended: threading.Event) -> int:
    page, fleet = world.ground.slack.page_url, world.ground.fleet.url
    print(f"""
Slack is open at  {page}?as=alice   (channel #inc-chat; `?as=bob` is somebody who may not approve)

Three things to try:
  1. Wait: in a few seconds the load on chat-70b doubles. Read the card, press *Review*, read the contract, approve it,
     and watch whether it helps.
  2. Type  /vllm status  in Slack, then  /vllm diagnose high_latency  and  /vllm audit .
  3. Roll out a revision that is four times as slow, and let the bot find it:
     {_kubectl(world)} -n llm set image deployment/chat-70b vllm=vllm/vllm-openai:v0.33.0

The fleet's faults and load are switched at {fleet} (sandbox/fleet/control.py). Logs: {world.folder.parent}
Ctrl-C ends everything.
""")
    deployment = world.towns[0].deployment
    slow_image(world, world.towns[0])
    if not ended.wait(8):
        world.offer(world.towns[0], 1.12)
        print(f"The load on {deployment.name} has doubled.", flush=True)
    ended.wait()
    return 0


def _kubectl(world: World) -> str:
    return f"{built('kubectl')} --kubeconfig {world.ground.control_plane.admin_kubeconfig}"


def _played(world: World, folder: Path) -> int:
    town = world.towns[0]
    with People.at(world, town.channel) as people:
        stories: list[tuple[str, Callable[[Timeline], None]]] = [
            ("1-overload", lambda timeline: overload(world, town, people, timeline)),
            ("2-bad-revision", lambda timeline: bad_revision(world, town, people, timeline)),
        ]
        for name, play in stories:
            print(f"\n{name}", flush=True)
            timeline = Timeline(lambda line: print(f"  {line}", flush=True))
            try:
                play(timeline)
            finally:
                saved = take_pictures(people.alice, folder, name)
                print(f"  pictures: {', '.join(map(str, saved))}", flush=True)
            until_calm(world, town)
    print("\nBoth stories ended as they should.", flush=True)
    return 0
