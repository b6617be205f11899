"""A round asks side by side: it takes little longer than its slowest question, however far its sources are."""

import time
from pathlib import Path

from sandbox.bench.figures import median, wait_calm
from sandbox.bench.store import BotStore, StoredRound
from sandbox.bench.table import Row, Section, milliseconds
from sandbox.world import Dials, Ground, World, chat_70b

ROUNDS = 8
RATIO = 1.25
SOURCE_SECONDS = 0.3
_SETTINGS = {"TIMING__BURN_INTERVAL_SECONDS": "2", "TIMING__SILENT_SECONDS": "600"}


def measure(ground: Ground, folder: Path) -> Section:
    dials = Dials(prometheus=True, kubernetes=True)
    with World(ground, folder, [chat_70b("bench-rounds")], dials=dials, environment=_SETTINGS) as world:
        world.wait_scraped(world.towns[0])
        wait_calm(60)
        for dial in world.dials.values():
            dial.control.latency(SOURCE_SECONDS)
        service = world.towns[0].deployment
        labels = {"alertname": "VllmHighTTFT", "service": service.name, "namespace": service.namespace}
        world.alertmanager.post_alerts({"labels": {**labels, "severity": "critical"}})
        return _section(_measured(BotStore(world.bot.folder)))


def _measured(store: BotStore) -> list[StoredRound]:
    deadline = time.monotonic() + 120
    while len(found := store.rounds(1)) < ROUNDS + 1:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} rounds ended within 120 s")
        time.sleep(0.2)
    return found[1 : ROUNDS + 1]  # the first one opens the connections


def _section(rounds: list[StoredRound]) -> Section:
    ratios = [r.seconds / max(r.probe_seconds) for r in rounds]
    ratio = median(ratios)
    far = milliseconds(SOURCE_SECONDS)
    return Section(
        "A diagnosis takes as long as its slowest question",
        f"The runbook high_latency, {len(rounds[0].probe_seconds)} questions; {far} added to each request to "
        f"Prometheus and to the Kubernetes API server; {len(rounds)} rounds, from the bot's own record. Medians.",
        [
            Row("slowest question", milliseconds(median([max(r.probe_seconds) for r in rounds]))),
            Row("all questions one after the other", milliseconds(median([sum(r.probe_seconds) for r in rounds]))),
            Row("the round", milliseconds(median([r.seconds for r in rounds]))),
            Row(
                "  as a multiple of its slowest question",
                f"{ratio:.2f} x (worst {max(ratios):.2f} x)",
                f"<= {RATIO:g} x",
                ratio <= RATIO,
            ),
            Row("questions without an answer", _unanswered(rounds), "none", not any(r.failed for r in rounds)),
        ],
    )


def _unanswered(rounds: list[StoredRound]) -> str:
    return "; ".join(sorted({why for r in rounds for why in r.failed})) or "none"
