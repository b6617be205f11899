"""What the bot says is what is: no cause that is none, no help that is none, no change that is not in place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.faults import Where
from sandbox.world import Dials, Ground
from tests.e2e.scene import OUTCOME_SECONDS, PATIENCE_SECONDS, Scene, scene, until

CARD = "Under-provisioned"


def test_an_action_that_is_too_small_did_not_help(ground: Ground, tmp_path: Path) -> None:
    """Three times what three replicas can do, and fleet.yaml allows a fourth only."""
    environment = {"REMEDIATION__SETTLE_SECONDS": "20"}  # at this load the queue grows for ever: no wait would help
    with scene(ground, tmp_path, more={"maximum_replicas": 4}, environment=environment) as story:
        story.overload(3)
        story.alice.wait_message(CARD)
        story.approve()
        story.wait_told("Did not help", OUTCOME_SECONDS)
        assert not any(": Helped" in text for text in story.thread())
        assert story.replicas() == 4
        (proposal,) = [p for p in story.proposals() if p[1] == "ended"]
        assert proposal[2:4] == ("yes", "no"), proposal
        story.thread_in_order("Approved", "Running", "Applied", "Did not help")
        story.nothing_twice_nothing_lost()


def test_an_alert_without_its_cause_is_not_explained_by_it(ground: Ground, tmp_path: Path) -> None:
    """The load is low, and somebody's rule fires all the same."""
    with scene(ground, tmp_path) as story:
        labels = {"namespace": story.namespace, "model_name": story.town.deployment.name, "severity": "critical"}
        story.world.alertmanager.post_alerts({"labels": {"alertname": "VllmHighTTFT", **labels}})
        card = story.alice.wait_message("No known cause")
        assert CARD not in card
        assert not any("scale" in label for label in story.alice.buttons("No known cause"))
        ((findings,),) = story.rows("SELECT findings FROM round WHERE number = 1")
        assert re.search(r'"rule": ?"under_provisioned", ?"verdict": ?"ruled out"', findings), findings
        assert not story.changes()


@contextmanager
def gpus_vanish(story: Scene) -> Iterator[None]:
    """Between the approval's last look and the scheduler: the change is on its way to the API server when the last
    nodes with room are cordoned."""
    cluster = story.world.ground.cluster
    hold = story.world.dials["kubernetes"].control.hold_next(Where.BEFORE, method="PATCH", path=r"/scale(?!.*dryRun)")
    story.approve()
    hold.wait_reached(PATIENCE_SECONDS)
    nodes = [node["metadata"]["name"] for node in cluster.nodes()]
    for node in nodes:
        cluster.set_schedulable(node, False)
    try:
        hold.release()
        yield
    finally:
        for node in nodes:
            cluster.set_schedulable(node, True)


def pending(story: Scene) -> str:
    """The name of the pod that found no GPU."""
    path = "jsonpath={.items[*].metadata.name}"
    return until(
        lambda: story.kubectl("get", "pods", "--field-selector=status.phase=Pending", "-o", path),
        PATIENCE_SECONDS,
        "a Pending pod",
    )


def test_a_change_that_stands_still_names_the_pod_and_can_be_aborted(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path, dials=Dials(kubernetes=True)) as story:
        story.overload()
        story.alice.wait_message(CARD)
        with gpus_vanish(story):
            pod = pending(story)
            story.wait_told("It stands still")
            story.alice.open_thread(CARD)
            assert pod in story.alice.wait_reply("It stands still", seconds=PATIENCE_SECONDS)
            story.alice.close_thread()
            story.approve(re.compile("^Abort: scale 3 → 4"), what="")
            until(lambda: story.replicas() == 3, PATIENCE_SECONDS, "the way back")
            story.wait_told("Rolled back")
        assert [(e.resource, e.subresource) for e in story.changes()] == [("deployments", "scale")] * 2
        story.nothing_twice_nothing_lost()


def test_a_change_of_which_a_part_is_missing_is_applied_partly(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path, dials=Dials(kubernetes=True)) as story:
        story.overload()
        story.alice.wait_message(CARD)
        with gpus_vanish(story):
            pod = pending(story)
            partly = r"SELECT outcome FROM proposal WHERE applied = 'partly' AND state = 'ended'"
            ((outcome,),) = until(lambda: story.rows(partly), PATIENCE_SECONDS, "the end: applied partly")
            assert pod in outcome
            assert not any(": Helped" in text for text in story.thread())
            story.alice.open_thread(CARD)
            assert pod in story.alice.wait_reply(re.compile("Applied partly: Scale"), seconds=PATIENCE_SECONDS)
            story.alice.click(re.compile("^Undo: scale 3 → 4"), thread=True)
            story.alice.wait_modal("What changes")
            story.alice.submit()
            story.alice.wait_modal_closed()
            until(lambda: story.replicas() == 3, PATIENCE_SECONDS, "the way back")
            story.wait_told(": Undone")
        story.nothing_twice_nothing_lost()
