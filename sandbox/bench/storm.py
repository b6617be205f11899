"""Ten thousand alerts at once: is Slack's pace kept, is anything lost, and how much memory does it take?"""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.alertmanager import Grouping
from sandbox.bench.store import BotStore
from sandbox.bench.table import Row, Section
from sandbox.fault_control import Entry
from sandbox.slack_workspace import SlackWorkspace
from sandbox.world import Ground, World, chat_70b, fleet_yaml

ALERTS = 10_000
SERVICES = 50
PODS = 10
KINDS = ALERTS // SERVICES // PODS
CHANNELS = ("inc-chat", "inc-code", "oncall")
RESIDENT_MIB = 256
_CHUNK = 1000
_SETTLED_SECONDS = 5.0
# As in production; only that Alertmanager is asked about alerts that were not told again after three minutes, not ten.
_SILENT_SECONDS = 180
_SETTINGS = {
    "TIMING__BURN_INTERVAL_SECONDS": "240",
    "TIMING__HOLD_DOWN_SECONDS": "300",
    "TIMING__SILENT_SECONDS": str(_SILENT_SECONDS),
}
_KNOWN_KINDS = ("VllmHighTTFT", "VllmQueueDepthHigh", "VllmKVCacheUsageHigh")


@dataclass
class Observed:
    seconds: float = 0.0  # until everything was triaged
    settled_seconds: float = 0.0  # until Slack had everything
    asked_seconds: float | None = None  # until Alertmanager had been asked about every alert
    resident_before_mib: float = 0.0
    resident_mib: float = 0.0  # the most there was
    lost: list[str] = field(default_factory=list)
    incidents: int = 0
    cards_missing: list[str] = field(default_factory=list)
    posts: list[Entry] = field(default_factory=list)
    too_many: int = 0


def measure(ground: Ground, folder: Path) -> Section:
    town = chat_70b("bench-storm")
    fleet = fleet_of(ground.workspace, fleet_yaml([town], ground.workspace))
    grouping = Grouping(by=("alertname", "service"))
    with World(ground, folder, [town], fleet=fleet, environment=_SETTINGS, grouping=grouping) as world:
        return _section(_storm(world))


def fleet_of(workspace: SlackWorkspace, like: Mapping[str, Any]) -> dict[str, Any]:
    """Fifty services; the first one's workload exists, the others' pods are gone, as in an outage of a zone."""
    real = like["services"][0]
    services = [
        {
            **real,
            "name": _service(n),
            "channel": workspace.channel(CHANNELS[n % len(CHANNELS)]).id,
            "workloads": real["workloads"] if n == 0 else [{"namespace": "zone-b", "name": _service(n)}],
            "model": _service(n),
        }
        for n in range(SERVICES)
    ]
    return {**like, "services": services}


def alerts(now: datetime) -> Iterator[dict[str, Any]]:
    """Each of twenty kinds, for each of ten pods of fifty services."""
    names = [*_KNOWN_KINDS, *(f"VllmOther{n}" for n in range(KINDS - len(_KNOWN_KINDS)))]
    for name, service, pod in itertools.product(names, range(SERVICES), range(PODS)):
        yield {
            "labels": {
                "alertname": name,
                "service": _service(service),
                "namespace": "zone-b",
                "pod": f"{_service(service)}-5d8f9c7b6d-{pod:05d}",
                "severity": "critical" if name in _KNOWN_KINDS else "warning",
            },
            "annotations": {"summary": f"{name} on {_service(service)}"},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
        }


def _service(number: int) -> str:
    return f"model-{number:02d}"


def _storm(world: World) -> Observed:
    store, slack, seen = BotStore(world.bot.folder), world.ground.slack.control, Observed()
    seen.resident_before_mib = most_resident_mib(world.bot.pid)
    mark, began, told_at = slack.mark(), time.monotonic(), time.time()
    fired = list(alerts(datetime.now(UTC)))
    for start in range(0, len(fired), _CHUNK):
        world.alertmanager.post_alerts(*fired[start : start + _CHUNK], seconds=60)
    _wait(lambda: len(store.alerts_under_incidents()) >= len(fired) and not store.alerts_waiting(), 180)
    seen.seconds = time.monotonic() - began
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _SETTLED_SECONDS and time.monotonic() - began < 300:
        if store.messages_waiting() or any(ts is None for _, ts in store.cards()):
            quiet_since = time.monotonic()
        time.sleep(0.5)
    seen.settled_seconds = quiet_since - began
    if _wait(lambda: store.oldest_word() > told_at + _SILENT_SECONDS, 300):
        seen.asked_seconds = time.monotonic() - began
    seen.resident_mib = most_resident_mib(world.bot.pid)
    under = {_identity(labels) for labels in store.alerts_under_incidents()}
    seen.lost = [" ".join(i) for alert in fired if (i := _identity(alert["labels"])) not in under]
    cards = store.cards()
    seen.incidents = len(cards)
    standing = {(channel, m["ts"]) for channel in {c for c, _ in cards} for m in slack.messages(channel)}
    seen.cards_missing = [f"inc-{n}" for n, card in enumerate(cards, 1) if card not in standing]
    calls = slack.log(mark, kind="api")
    seen.posts = [e for e in calls if e["method"] == "chat.postMessage" and e["ok"]]
    seen.too_many = sum(e["status"] == 429 for e in calls)
    return seen


def _wait(question: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (there := question()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return there


def _identity(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("alertname", ""), labels.get("pod", "")


def most_resident_mib(pid: int) -> float:
    """Since the process began."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def shortest_gap(posts: Sequence[Entry]) -> float:
    """Between two posts into the same channel; infinite if there were none."""
    times = defaultdict(list)
    for post in posts:
        times[post["channel"]].append(float(post["at"]))
    gaps = (later - earlier for at in times.values() for earlier, later in itertools.pairwise(sorted(at)))
    return min(gaps, default=float("inf"))


def _section(seen: Observed) -> Section:
    gap = shortest_gap(seen.posts)
    lost, missing = len(seen.lost), len(seen.cards_missing)
    return Section(
        f"A storm of {ALERTS:,} alerts over {SERVICES} services",
        f"{KINDS} kinds of alert for each of {PODS} pods of each service, all at once, through the real Alertmanager; "
        f"{len(CHANNELS)} channels. Slack's proxy counts the posts, the kernel the memory.",
        [
            Row("all alerts under an incident after", f"{seen.seconds:.0f} s"),
            Row("Slack has everything after", f"{seen.settled_seconds:.0f} s"),
            Row(
                "Alertmanager asked about each that it did not tell again, after",
                "never" if seen.asked_seconds is None else f"{seen.asked_seconds:.0f} s",
                "once",
                seen.asked_seconds is not None,
            ),
            Row("alerts lost", f"{lost}", "0", lost == 0),
            Row("incidents without their card in Slack", f"{missing} of {seen.incidents}", "0", missing == 0),
            Row("messages posted", f"{len(seen.posts)}"),
            Row("shortest time between two posts in a channel", f"{gap:.2f} s", ">= 1 s", gap >= 1.0),
            Row("answers of Slack's that it was too fast (429)", f"{seen.too_many}", "0", seen.too_many == 0),
            Row("most memory that the bot took before", f"{seen.resident_before_mib:.0f} MiB"),
            Row(
                "most memory that the bot took",
                f"{seen.resident_mib:.0f} MiB",
                f"< {RESIDENT_MIB} MiB",
                seen.resident_mib < RESIDENT_MIB,
            ),
        ],
    )
