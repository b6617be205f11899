"""The two stories of the demo, seen by an independent eye: what people read, and what really happened."""

import json
from pathlib import Path

from sandbox.stories import SLOW_IMAGE, People, Timeline, bad_revision, overload
from sandbox.world import Ground
from tests.e2e.scene import Scene, scene

LONGEST_SECONDS = 45  # on a machine of one's own
BESIDE_OTHERS = 2  # times that, on cores that others keep busy


def people(of: Scene) -> People:
    return People(of.alice, of.somebody("bob"))


def test_an_overload_is_found_scaled_by_whom_may_and_helped(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path) as story:
        timeline = Timeline(print)
        overload(story.world, story.town, people(story), timeline)
        in_time(timeline)
        assert story.replicas() == 4
        (change,) = story.changes()
        assert (change.verb, change.resource, change.subresource) == ("patch", "deployments", "scale")
        assert any(e.dry_run for e in story.asked()), "no dry run was made for the review"
        assert not any(e.changed_something for e in story.asked() if e.at < change.at)
        story.asked_only_what_it_needs()
        assert any("bob" in text or "U02BOB" in text for text in story.thread()), "the refusal names nobody"
        story.thread_in_order("Refused", "Approved", "Running", "Applied", "Helped")
        story.nothing_twice_nothing_lost()


def test_a_bad_revision_is_found_and_rolled_back_to_the_one_before(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path) as story:
        good = template(story, 1)
        story.wait_steady()
        timeline = Timeline(print)
        bad_revision(story.world, story.town, people(story), timeline)
        in_time(timeline)
        assert story.image() == "vllm/vllm-openai:v0.32.0" != SLOW_IMAGE
        deployment = json.loads(story.kubectl("get", "deployment", story.town.deployment.name, "-o", "json"))
        assert deployment["spec"]["template"]["spec"] == good["spec"]
        assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        (change,) = story.changes()
        assert (change.verb, change.resource, change.subresource) == ("patch", "deployments", "")
        story.asked_only_what_it_needs()
        story.thread_in_order("Refused", "Approved", "Running", "Applied", "Helped")
        story.nothing_twice_nothing_lost()


def in_time(timeline: Timeline) -> None:
    took = timeline.seconds("Helped")
    print(f"told after {took:.1f} s that it helped; {LONGEST_SECONDS} s on a machine of one's own")
    assert took < LONGEST_SECONDS * BESIDE_OTHERS, timeline.moments


def template(story: Scene, revision: int) -> dict:
    """The pod template of a revision, as its ReplicaSet keeps it."""
    sets = json.loads(story.kubectl("get", "replicasets", "-o", "json"))["items"]
    key = "deployment.kubernetes.io/revision"
    return next(s["spec"]["template"] for s in sets if s["metadata"]["annotations"][key] == str(revision))
