"""What may come in, or come wrong, or not come at all: one incident for one trouble, and a card for every alert.

Where a test posts a webhook, it plays Alertmanager; a real one does what it can be brought to do.
"""

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.alertmanager import Grouping
from sandbox.bot import INTAKE_TOKEN
from sandbox.world import Ground
from tests.e2e.scene import PATIENCE_SECONDS, Scene, scene, until

CARD = "Under-provisioned"


# ---------------------------------------------------------------------------------------------- what goes away


def test_alertmanager_killed_and_restarted_doubles_nothing(ground: Ground, tmp_path: Path) -> None:
    with scene(ground, tmp_path, grouping=Grouping(by=("alertname",))) as story:
        story.overload()
        story.alice.wait_message(CARD)
        until(lambda: len(story.firing()) >= 2, PATIENCE_SECONDS, "both alerts of the overload")
        told = story.firing()
        story.world.alertmanager.kill()
        story.world.alertmanager.start()
        assert not story.world.alertmanager.alerts(), "it remembers its alerts, so this proves nothing"
        until(lambda: told_again(story, told), PATIENCE_SECONDS, "every alert told again by the new Alertmanager")
        assert [(name, starts) for name, starts, _ in story.firing()] == [(n, s) for n, s, _ in told]
        assert story.rows("SELECT number, state, flaps FROM incident") == [(1, "open", 0)]
        assert len(story.cards()) == 1
        story.nothing_twice_nothing_lost()


def told_again(story: Scene, before: list[tuple[Any, ...]]) -> bool:
    after = story.firing()
    return len(after) == len(before) and all(b[2] < a[2] for b, a in zip(before, after, strict=True))


# ---------------------------------------------------------------------------------------------- what comes in


@pytest.fixture(scope="module")
def quiet(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A service without trouble. Alertmanager leaves out all but one alert of a group."""
    folder = tmp_path_factory.mktemp("quiet")
    with scene(ground, folder, grouping=Grouping(by=("alertname",)), max_alerts=1) as made:
        yield made


@pytest.fixture
def name() -> str:
    """Of an alert that no runbook knows."""
    return f"Odd{uuid.uuid4().hex[:8]}"


def webhook(name: str, status: str = "firing", starts: str = "2026-11-24T02:06:00Z", **more: Any) -> dict[str, Any]:
    labels = {"alertname": name, "severity": "warning"}
    alert = {
        "status": status,
        "labels": labels,
        "annotations": {"summary": f"{name} happened"},
        "startsAt": starts,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://p/graph",
        "fingerprint": uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:16],
    }
    common = {"commonLabels": labels, "commonAnnotations": {}, "groupLabels": {}, "externalURL": "http://a"}
    group = {"version": "4", "groupKey": f"{{}}:{{{name}}}", "receiver": "bot", "status": status, "truncatedAlerts": 0}
    return {**group, **common, "alerts": [alert], **more}


def post(story: Scene, body: Any, token: str | None = INTAKE_TOKEN, **more: Any) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    given = {"data": body} if isinstance(body, bytes) else {"json": body}
    return requests.post(story.world.bot.webhook_url, headers=headers, timeout=30, **given, **more).status_code


def incidents(story: Scene, name: str) -> list[tuple[Any, ...]]:
    return story.rows(f"SELECT number, state, flaps FROM incident WHERE alert_names LIKE '%{name}%'")


def card_of(story: Scene, name: str) -> str:
    """Once it stands in the default channel, as people read it."""
    channel = story.world.ground.workspace.channel("oncall").id

    def found() -> list[str]:
        shown = story.world.ground.slack.control.messages(channel)
        return [str(m) for m in shown if name in str(m) and m.get("thread_ts") in (None, m["ts"])]

    (card,) = until(found, PATIENCE_SECONDS, f"the card of {name}")
    return str(card)


def test_an_alert_of_which_nothing_is_known_gets_a_card_that_says_so(quiet: Scene, name: str) -> None:
    quiet.world.alertmanager.post_alerts({"labels": {"alertname": name, "severity": "warning"}})
    card = card_of(quiet, name)
    assert "No service" in card
    assert "No runbook" in card


def test_a_repeated_webhook_is_one_incident(quiet: Scene, name: str) -> None:
    for _ in range(5):
        assert post(quiet, webhook(name)) == 200
    card_of(quiet, name)
    assert len(incidents(quiet, name)) == 1
    assert incidents(quiet, name)[0][1:] == ("open", 0)


def test_a_flapping_alert_is_one_incident_that_counts(quiet: Scene, name: str) -> None:
    labels = {"alertname": name, "severity": "warning"}
    for turn in range(3):
        quiet.world.alertmanager.post_alerts({"labels": labels})
        until(
            lambda n=turn: [row[1:] for row in incidents(quiet, name)] == [("open", n)],
            PATIENCE_SECONDS,
            f"firing {turn + 1}",
        )
        if turn < 2:
            past = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
            quiet.world.alertmanager.post_alerts({"labels": labels, "endsAt": past})
            until(lambda: incidents(quiet, name)[0][1] == "resolved", PATIENCE_SECONDS, "its end")
    card_of(quiet, name)


def test_what_a_truncated_webhook_left_out_is_fetched(quiet: Scene, name: str) -> None:
    alerts = [{"labels": {"alertname": name, "severity": "warning", "instance": f"i-{n}"}} for n in range(3)]
    quiet.world.alertmanager.post_alerts(*alerts)
    joined = f"SELECT COUNT(*) FROM incident_alert WHERE labels LIKE '%{name}%'"
    until(lambda: quiet.rows(joined) == [(3,)], PATIENCE_SECONDS, "all three alerts in the incident")
    assert len(incidents(quiet, name)) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"version": "4", "alerts": "all of them"}', 400),
        (b"\xff\xfe", 400),
        (b" " * 100_000_000, 413),
    ],
    ids=["empty", "half", "list", "no list", "no text", "100 MB"],
)
def test_what_is_no_webhook_is_refused_and_harms_nothing(quiet: Scene, name: str, body: bytes, status: int) -> None:
    before = memory_mib(quiet)
    assert post(quiet, body) == status
    assert memory_mib(quiet) < before + 50
    assert post(quiet, webhook(name)) == 200
    card_of(quiet, name)


def memory_mib(story: Scene) -> int:
    status = Path(f"/proc/{story.world.bot.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.parametrize("token", [None, "", "wrong", INTAKE_TOKEN + "x"])
def test_without_the_right_token_nothing_is_taken_in(quiet: Scene, name: str, token: str | None) -> None:
    assert post(quiet, webhook(name), token) == 401
    assert post(quiet, webhook("Right" + name)) == 200
    card_of(quiet, "Right" + name)
    assert not quiet.rows(f"SELECT 1 FROM alert WHERE labels LIKE '%\"{name}\"%'")


# ---------------------------------------------------------------------------------------------- what is typed


def test_what_is_typed_is_answered_to_whoever_typed_it(quiet: Scene, name: str) -> None:
    assert post(quiet, webhook(name)) == 200
    card_of(quiet, name)
    ((number, *_),) = incidents(quiet, name)
    quiet.alice.type("/vllm status")
    quiet.alice.wait_message(re.compile(r"chat-70b · 3 of 3 ready"))
    quiet.alice.type("/vllm staus")
    quiet.alice.wait_message("did you mean status?")
    quiet.alice.type(f"/vllm audit inc-{number}")
    told = quiet.alice.wait_message(f"audit entries of inc-{number}")
    assert "incident.opened" in told and "The chain holds" in told, told
    assert not any("3 of 3 ready" in str(m) or "incident.opened" in str(m) for m in quiet.messages())
