"""From an alert to a message in Slack: the bot beside Alertmanager's own notifier.

Both receive from one Alertmanager and post to one Slack through one proxy, in turns, each into a channel of its own.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sandbox.alertmanager import Grouping, Slack, Webhook, configuration
from sandbox.bench.figures import median, p95, wait_calm
from sandbox.bench.store import BotStore
from sandbox.bench.table import Row, Section, milliseconds
from sandbox.bot import INTAKE_TOKEN
from sandbox.world import Ground, World, chat_70b

TURNS = 20
SLACK_SECONDS = 0.25
RATIO = 1.2
MORE_SECONDS = 0.060
PHONE_SECONDS = 3.0
_QUIET_SECONDS = 1.3  # a channel takes one message a second
# One incident a turn: the next alert is not taken for the last one's return, and nothing else happens meanwhile.
_SETTINGS = {
    "TIMING__HOLD_DOWN_SECONDS": "0.2",
    "TIMING__BURN_INTERVAL_SECONDS": "3600",
    "TIMING__STORM_SERVICES": "100",
}
_OWN, _OTHER = "bot", "alertmanager"
T = TypeVar("T")
_UNKNOWN_CHANNEL, _KNOWN_CHANNEL, _OTHER_CHANNEL = "oncall", "inc-chat", "inc-code"


@dataclass(frozen=True, slots=True)
class Turn:
    seconds: float  # from the alert's arrival at Alertmanager until the message stands in Slack
    round_seconds: float = 0.0
    phone_seconds: float | None = None  # until the message that mentions the on-call stands, verdict in it


class Race:
    def __init__(self, world: World) -> None:
        self._world = world
        self._slack = world.ground.slack.control
        self._workspace = world.ground.workspace
        self._store = BotStore(world.bot.folder)
        self._number = 0

    def start(self) -> None:
        """Alertmanager gets its second receiver; which alert goes to which, a label of it says."""
        app, slack = self._workspace.apps[0], self._world.ground.slack
        hook = Webhook(self._world.bot.webhook_url, bearer_token=INTAKE_TOKEN, matchers=[f'for="{_OWN}"'])
        own = Slack(
            f"{slack.api_url}chat.postMessage",
            self._channel(_OTHER_CHANNEL),
            app.bot_token,
            matchers=[f'for="{_OTHER}"'],
        )
        grouping = Grouping(by=("alertname", "turn"))
        self._world.alertmanager.reload(configuration([hook, own], grouping))

    def unknown(self, turns: int) -> tuple[list[Turn], list[Turn]]:
        """Alerts that match no runbook and no service: the bot's turns, and Alertmanager's."""
        ours, theirs = [], []
        for _ in range(turns):
            theirs.append(Turn(self._until_posted(_OTHER_CHANNEL, self._alert(_OTHER, f"Unknown{self._number}"))))
            ours.append(Turn(self._until_posted(_UNKNOWN_CHANNEL, self._alert(_OWN, f"Unknown{self._number}"))))
        return ours, theirs

    def known(self, turns: int) -> tuple[list[Turn], list[Turn]]:
        """Alerts whose service is diagnosed: the card waits for the verdict, and mentions who is on call."""
        service = self._world.towns[0].deployment
        about = {"service": service.name, "namespace": service.namespace, "severity": "critical"}
        ours, theirs = [], []
        for _ in range(turns):
            theirs.append(Turn(self._until_posted(_OTHER_CHANNEL, self._alert(_OTHER, "VllmHighTTFT", about))))
            ours.append(self._diagnosed(self._alert(_OWN, "VllmHighTTFT", about)))
        return ours, theirs

    def _diagnosed(self, alert: dict[str, Any]) -> Turn:
        mark, began = self._slack.mark(), time.time()
        seconds = self._until_posted(_KNOWN_CHANNEL, alert)
        mention = f"<@{self._workspace.user('alice').id}>"
        channel = self._channel(_KNOWN_CHANNEL)
        pushed = self._slack.wait_log(
            lambda entries: any(mention in e["text"] for e in entries),
            since=mark, seconds=15, kind="api", method="chat.postMessage", channel=channel, ok=True,
        )  # fmt: skip
        phone = next(e["at"] for e in pushed if mention in e["text"]) - began
        incident = self._store.latest_incident()
        first = _awaited(lambda: self._store.rounds(incident))[0]
        now = datetime.now(UTC)
        self._world.alertmanager.post_alerts({**alert, "endsAt": now.isoformat()})
        _awaited(lambda: not self._store.is_open(incident))
        self._wait_quiet(channel)
        return Turn(seconds, first.seconds, phone)

    def _until_posted(self, channel: str, alert: Mapping[str, Any]) -> float:
        where = self._channel(channel)
        self._wait_quiet(where)
        mark, began = self._slack.mark(), time.time()
        self._world.alertmanager.post_alerts(alert)
        posted = self._slack.wait_log(
            since=mark, seconds=20, kind="api", method="chat.postMessage", channel=where, ok=True
        )
        return float(posted[0]["at"]) - began

    def _wait_quiet(self, channel: str) -> None:
        """Until the channel may be posted to at once, and the bot has said what it had to say there."""
        while True:
            mark = self._slack.mark()
            time.sleep(_QUIET_SECONDS)
            if not self._slack.log(mark, channel=channel) and not self._store.messages_waiting():
                return

    def _alert(self, receiver: str, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
        self._number += 1
        now = datetime.now(UTC)
        return {
            "labels": {"alertname": name, "turn": str(self._number), "for": receiver, **(labels or {})},
            "annotations": {"summary": f"{name} is firing"},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }

    def _channel(self, name: str) -> str:
        return self._workspace.channel(name).id


def measure(ground: Ground, folder: Path, turns: int = TURNS) -> Section:
    with World(ground, folder, [chat_70b("bench-message")], environment=_SETTINGS) as world:
        world.wait_scraped(world.towns[0])
        race = Race(world)
        race.start()
        race.unknown(1)  # connections, and what is loaded with the first use
        race.known(1)
        wait_calm(60)
        near = race.unknown(turns)
        known = race.known(turns)
        ground.slack.control.latency(SLACK_SECONDS)
        try:
            far = race.unknown(turns)
        finally:
            ground.slack.control.latency(0)
    return Section(
        "From an alert to a message in Slack",
        "Alertmanager gets an alert; how long until the message stands in its channel? The bot beside Alertmanager's "
        f"own Slack notifier, in turns, {turns} alerts each, same Alertmanager, same Slack. Medians (95th percentile).",
        [*_far(*far), *_near(*near), *_known(*known)],
    )


def _far(ours: list[Turn], theirs: list[Turn]) -> list[Row]:
    """With Slack a quarter of a second away, of which half lies before the message stands."""
    where = f"Slack {SLACK_SECONDS * 1000:.0f} ms away"
    ratio = _median(ours) / _median(theirs)
    return [
        Row(f"Alertmanager's own message, {where}", _told(theirs)),
        Row(f"the bot's, no runbook for the alert, {where}", _told(ours)),
        Row("  as a multiple of Alertmanager's", f"{ratio:.2f} x", f"<= {RATIO:g} x", ratio <= RATIO),
    ]


def _near(ours: list[Turn], theirs: list[Turn]) -> list[Row]:
    return [
        Row("Alertmanager's own message, Slack 0 ms away", _told(theirs)),
        Row("the bot's, no runbook for the alert, Slack 0 ms away", _told(ours)),
    ]


def _known(ours: list[Turn], theirs: list[Turn]) -> list[Row]:
    without = [turn.seconds - turn.round_seconds for turn in ours]
    more = median(without) - _median(theirs)
    phone = [turn.phone_seconds or 0.0 for turn in ours]
    rounds = [turn.round_seconds for turn in ours]
    return [
        Row("Alertmanager's own message meanwhile", _told(theirs)),
        Row("the bot's, with a diagnosis", _told(ours)),
        Row("  of which the diagnosis itself", _values(rounds)),
        Row("  the rest", _values(without)),
        Row(
            "  the rest is more than Alertmanager's by",
            milliseconds(more),
            f"<= {milliseconds(MORE_SECONDS)}",
            more <= MORE_SECONDS,
        ),
        Row(
            "verdict on the phone, worst",
            f"{max(phone):.2f} s",
            f"<= {PHONE_SECONDS:g} s",
            max(phone) <= PHONE_SECONDS,
        ),
    ]


def _median(turns: list[Turn]) -> float:
    return median([turn.seconds for turn in turns])


def _told(turns: list[Turn]) -> str:
    return _values([turn.seconds for turn in turns])


def _values(seconds: list[float]) -> str:
    return f"{milliseconds(median(seconds))} ({milliseconds(p95(seconds))})"


def _awaited(question: Callable[[], T], seconds: float = 30) -> T:
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.05)
    return answer
