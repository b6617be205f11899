"""Prometheus, the API server, Slack: each is away for a minute in the middle of a story. Nothing is called fine for
lack of data, nothing is done blindly, and afterwards everything catches up. What is away while a change runs holds up
neither the change nor, once it is back, the end of the story. The stories are played side by side, each in its own
thread; each test looks at one.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.faults import Outage
from sandbox.world import Dials, Ground
from tests.e2e.scene import OUTCOME_SECONDS, PATIENCE_SECONDS, REVIEW_SCALE, Scene, scene, until

SECONDS = 60
# While a change runs: that a minute is survived is tested already.
SHORT_SECONDS = 10
CARD = re.compile("Under-provisioned: ")  # an inconclusive verdict names it, too
FINE = ("No known cause", "No cause is left", "fixed after", "What fixed it", ": Helped")
IN_PLACE = "SELECT 1 FROM proposal WHERE applied = 'yes'"


def without_prometheus(ground: Ground, folder: Path) -> None:
    """From before the alert on, and once more from the approval on: it takes questions and answers none."""
    with scene(ground, folder, dials=Dials(prometheus=True)) as story:
        with story.world.dials["prometheus"].control.down(Outage.HANG):
            began = time.monotonic()
            story.overload()
            story.alice.wait_message(re.compile("Inconclusive.*Prometheus", re.DOTALL))
            nothing_is_fine(story, began)
            assert not any(label.startswith("Review") for label in story.alice.buttons("Inconclusive"))
        story.alice.wait_message(CARD)
        story.approve()
        with story.world.dials["prometheus"].control.down(Outage.HANG):
            until(lambda: story.rows(IN_PLACE), PATIENCE_SECONDS, "the change in place, whatever Prometheus does")
            nothing_is_fine(story, time.monotonic(), SHORT_SECONDS)
        ended_well(story)


def without_prometheus_until_the_end(ground: Ground, folder: Path) -> None:
    """From the approval on, for longer than the outcome is waited for: whether it helped is not known."""
    environment = {"REMEDIATION__SETTLE_SECONDS": "20"}
    with scene(ground, folder, dials=Dials(prometheus=True), environment=environment) as story:
        story.overload()
        story.alice.wait_message(CARD)
        story.wait_far_over_the_slo()
        story.approve()
        with story.world.dials["prometheus"].control.down(Outage.REFUSE):
            story.wait_told("Cannot tell whether it helped", OUTCOME_SECONDS)
            assert story.replicas() == approved_replicas(story) > 3
            (ended,) = [p for p in story.proposals() if p[1] == "ended"]
            assert ended[2:4] == ("yes", "cannot tell"), ended
            assert "Prometheus" in ended[4], ended
            assert not any(word in str(story.cards()[0]) for word in FINE), story.cards()
        story.thread_in_order("Approved", "Running", "Applied", "Cannot tell")
        assert not any(": Helped" in text for text in story.thread()), story.thread()
        story.nothing_twice_nothing_lost()


def without_the_api_server(ground: Ground, folder: Path) -> None:
    """From the review on, which alice has read: her approval changes nothing, and says what to do. Later it counts."""
    with scene(ground, folder, dials=Dials(kubernetes=True)) as story:
        story.overload()
        story.alice.wait_message(CARD)
        story.alice.click(REVIEW_SCALE)
        story.alice.wait_modal("What changes")
        with story.world.dials["kubernetes"].control.down(Outage.REFUSE):
            began = time.monotonic()
            story.alice.submit()
            story.alice.wait_modal_closed()
            answer = story.alice.wait_message("Not approved")
            assert "Kubernetes" in answer, answer
            assert "Nothing was changed. It stays offered: approve it again once that works." in answer, answer
            reviewed_in_vain(story)
            nothing_is_fine(story, began)
            assert not any("Approved" in text for text in story.thread())
            assert story.replicas() == 3
            assert not story.changes()
        story.alice.wait_message(CARD)
        story.approve()
        ended_well(story)


def reviewed_in_vain(story: Scene) -> None:
    """The review opens, says why it cannot be done now, and has no button for it."""
    story.alice.click(re.compile("^Review"))
    story.alice.wait_modal("It cannot be done now")
    assert story.alice.submit_label() is None
    story.alice.close_modal()
    story.alice.wait_modal_closed()


def without_slack(ground: Ground, folder: Path) -> None:
    """From before the alert on: the card is late, and says so. Once more from the approval on: the change goes on."""
    with scene(ground, folder) as story:
        with story.world.ground.slack.control.down(Outage.ERROR):
            began = time.monotonic()
            story.overload()
            until(lambda: story.rows("SELECT 1 FROM incident"), PATIENCE_SECONDS, "the incident")
            time.sleep(max(0.0, SECONDS - (time.monotonic() - began)))
            assert not story.messages()
        story.alice.wait_message(CARD)
        story.alice.wait_message("after the alert")  # an edit: only where it stands tells how late it is
        story.world.ground.slack.control.wait_connected(1, seconds=PATIENCE_SECONDS)
        story.approve()
        with story.world.ground.slack.control.down(Outage.ERROR):
            until(lambda: story.rows(IN_PLACE), PATIENCE_SECONDS, "the change in place, whatever Slack does")
            approved = approved_replicas(story)  # after a minute so many may wait that it is not one more, but two
            assert story.replicas() == approved > 3
            time.sleep(SHORT_SECONDS)
            assert not any(": Applied" in text for text in story.thread()), story.thread()
        ended_well(story, replicas=approved)
        assert any(word in str(story.cards()[0]) for word in ("*Helped*", "What fixed it")), story.cards()


def nothing_is_fine(story: Scene, began: float, seconds: float = SECONDS) -> None:
    """Until the time is over, in the card and in the thread."""
    while time.monotonic() < began + seconds:
        told = [str(story.cards()[0]), *story.thread()]
        assert not any(word in text for text in told for word in FINE), told
        time.sleep(0.5)


def approved_replicas(story: Scene) -> int:
    """What the contract said that alice approved."""
    ((params,),) = story.rows("SELECT params FROM proposal WHERE decided_by IS NOT NULL")
    return int(json.loads(params)["after"])


def ended_well(story: Scene, *, replicas: int = 4) -> None:
    story.wait_told(": Helped", OUTCOME_SECONDS)
    assert story.replicas() == replicas
    assert [(e.resource, e.subresource) for e in story.changes()] == [("deployments", "scale")]
    assert len(story.cards()) == 1
    story.thread_in_order("Approved", "Running", "Applied", "Helped")
    story.nothing_twice_nothing_lost()


STORIES: Mapping[str, Callable[[Ground, Path], None]] = {
    "Prometheus": without_prometheus,
    "Prometheus until the end": without_prometheus_until_the_end,
    "the API server": without_the_api_server,
    "Slack": without_slack,
}


@pytest.fixture(scope="module")
def played(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, "Future[None]"]]:
    with ThreadPoolExecutor(len(STORIES)) as pool:
        yield {who: pool.submit(play, ground, tmp_path_factory.mktemp("away")) for who, play in STORIES.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", STORIES)
def test_a_minute_without(played: Mapping[str, "Future[None]"], who: str) -> None:
    played[who].result()
