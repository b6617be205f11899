"""A diagnosis of 25 questions takes little longer than its slowest one; so do three at once.

The runbook is a user's own: it lies in a folder beside the bot's, which the settings name.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox.bench.figures import median, wait_calm
from sandbox.bench.store import BotStore, StoredRound
from sandbox.bench.table import Row, Section, milliseconds
from sandbox.world import Dials, Ground, Town, World, chat_70b

ROUNDS = 6
RATIO = 1.25
SOURCE_SECONDS = 0.3
STEPS = 25
SERVICES = 3
RUNBOOKS = Path(__file__).parent / "runbooks"
_SETTINGS = {
    "RUNBOOKS": json.dumps([str(RUNBOOKS)]),
    "TIMING__BURN_INTERVAL_SECONDS": "3",
    "TIMING__SILENT_SECONDS": "600",
}


@dataclass(frozen=True, slots=True)
class Measured:
    alone: list[StoredRound]
    together: list[StoredRound]  # of all services


def measure(ground: Ground, folder: Path) -> Section:
    towns = [_town(number) for number in range(SERVICES)]
    dials = Dials(prometheus=True, kubernetes=True, alertmanager=True)
    with World(ground, folder, towns, dials=dials, environment=_SETTINGS) as world:
        for town in towns:
            world.wait_scraped(town)
        wait_calm(60)
        for dial in world.dials.values():
            dial.control.latency(SOURCE_SECONDS)
        store = BotStore(world.bot.folder)
        _alert(world, towns[:1])
        alone = _rounds(store, 1, ROUNDS + 1)[1:]  # the first one opens the connections
        _alert(world, towns[1:])
        # Each incident's rounds are due at the same pace, and the last to come began with all others under way.
        latest = [_rounds(store, SERVICES, ROUNDS)]
        latest += [_rounds(store, number, 0)[-ROUNDS:] for number in range(1, SERVICES)]
        return _section(Measured(alone, [round for rounds in latest for round in rounds]))


def _town(number: int) -> Town:
    town = chat_70b(f"bench-mixed-{number}")
    deployment = replace(town.deployment, name=f"chat-{number}", replicas=2)
    return replace(town, deployment=deployment)


def _alert(world: World, towns: list[Town]) -> None:
    deployments = [town.deployment for town in towns]
    labels = [{"service": d.name, "namespace": d.namespace, "severity": "critical"} for d in deployments]
    world.alertmanager.post_alerts(*({"labels": {"alertname": "BenchMixed", **one}} for one in labels))


def _rounds(store: BotStore, incident: int, count: int) -> list[StoredRound]:
    deadline = time.monotonic() + 180
    while len(found := store.rounds(incident)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"inc-{incident}: {len(found)} rounds ended within 180 s")
        time.sleep(0.2)
    return found[:count] if count else found


def _section(measured: Measured) -> Section:
    far, steps = milliseconds(SOURCE_SECONDS), len(measured.alone[0].probe_seconds)
    return Section(
        f"A diagnosis with {STEPS} questions",
        f"A user's own runbook with every kind of question about a service; {far} added to each request to Prometheus, "
        f"Kubernetes and Alertmanager; {ROUNDS} rounds of one incident, then of {SERVICES} at once. Medians (worst).",
        [
            Row("questions", f"{steps}", f"{STEPS}", steps == STEPS),
            *_rows(measured.alone, "one at a time"),
            *_rows(measured.together, f"{SERVICES} at once"),
        ],
    )


def _rows(rounds: list[StoredRound], how: str) -> list[Row]:
    ratios = [r.seconds / max(r.probe_seconds) for r in rounds]
    late = {why for r in rounds for why in r.failed if "within" in why}
    seconds = [r.seconds for r in rounds]
    slowest = [max(r.probe_seconds) for r in rounds]
    return [
        Row(f"slowest question, {how}", f"{milliseconds(median(slowest))} ({milliseconds(max(slowest))})"),
        Row(f"the round, {how}", f"{milliseconds(median(seconds))} ({milliseconds(max(seconds))})"),
        Row(
            "  as a multiple of its slowest question",
            f"{median(ratios):.2f} x ({max(ratios):.2f} x)",
            f"<= {RATIO:g} x",
            median(ratios) <= RATIO,
        ),
        Row("  questions without an answer in time", "; ".join(sorted(late)) or "none", "none", not late),
    ]
