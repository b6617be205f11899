"""One story's world, and what an outsider can know of it: what stands in Slack, what the API server was asked for,
what lies in the bot's database (read only), what the proxies saw. Nothing here speaks to the bot."""

import re
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg

from sandbox.browser import Chromium, SlackBrowser
from sandbox.controlplane.audit import AuditEntry
from sandbox.controlplane.bot_account import USER
from sandbox.fault_control import Entry
from sandbox.world import Ground, Town, World, chat_70b

Message = Mapping[str, Any]
# A deadline tells a thing that never comes from one that is slow: busy cores slow everything down, many times over.
PATIENCE_SECONDS = 120.0
PATIENT = {
    # On busy cores a story takes minutes, in which the queue grows; "helped" is what is seen once it is worked off.
    "REMEDIATION__SETTLE_SECONDS": "300",
    # There scrapes come too late, too, and Prometheus takes its alerts back for lack of data: a flap, as in production.
    "TIMING__HOLD_DOWN_SECONDS": "600",
}
OUTCOME_SECONDS = 360.0
REVIEW_SCALE = re.compile(r"^Review: scale 3 → \d")
# Of everything the bot may ask in these stories; its role allows little more.
NEEDED = {
    ("get", "pods", ""),
    ("list", "pods", ""),
    ("get", "pods", "log"),
    ("get", "nodes", ""),
    ("list", "nodes", ""),
    ("list", "events", ""),
    ("get", "deployments", ""),
    ("get", "replicasets", ""),
    ("list", "replicasets", ""),
    ("list", "horizontalpodautoscalers", ""),
    ("list", "poddisruptionbudgets", ""),
    ("get", "deployments", "scale"),
    ("patch", "deployments", "scale"),
    ("patch", "deployments", ""),
}


@dataclass
class Scene:
    world: World
    town: Town
    alice: SlackBrowser
    chromium: Chromium
    database_url: str | None = None  # of PostgreSQL
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def namespace(self) -> str:
        return self.town.deployment.namespace

    @property
    def channel(self) -> str:
        return self.world.ground.workspace.channel(self.town.channel).id

    # ------------------------------------------------------------------------------------------ people

    def somebody(self, name: str) -> SlackBrowser:
        """Another person, with the service's channel open."""
        page = self.chromium.open(self.world.ground.slack.page_url, name, seconds=PATIENCE_SECONDS)
        page.open_channel(self.town.channel)
        return page

    def approve(self, button: re.Pattern[str] = REVIEW_SCALE, *, what: str = "What changes") -> None:
        """Alice presses, reads, approves."""
        self.alice.click(button)
        self.alice.wait_modal(what)
        self.alice.submit()
        self.alice.wait_modal_closed()

    # ------------------------------------------------------------------------------------------ the load

    def wait_steady(self) -> None:
        """Until a whole window of the bot's lies behind: what was before can be compared with what comes."""
        count = f'min(count_over_time(vllm:num_requests_running{{namespace="{self.namespace}"}}[20s]))'
        self.world.prometheus.wait_for(count, lambda s: bool(s) and s[0].value >= 13, PATIENCE_SECONDS)

    def overload(self, ratio: float = 1.12) -> None:
        self.world.offer(self.town, ratio)

    def wait_far_over_the_slo(self) -> None:
        """Until the signal stands where no lost scrape hides it."""
        buckets = f'vllm:time_to_first_token_seconds_bucket{{namespace="{self.namespace}"}}'
        signal = f"histogram_quantile(0.99, sum by (le) (rate({buckets}[10s])))"
        self.world.prometheus.wait_for(signal, lambda s: bool(s) and s[0].value > 3, PATIENCE_SECONDS)

    # ------------------------------------------------------------------------------------------ the API server

    def asked(self) -> list[AuditEntry]:
        """What the bot asked the API server since this story began, about this story or the whole cluster."""
        plane = self.world.ground.control_plane
        return [e for e in plane.audit(USER) if e.at >= self.began and e.namespace in ("", self.namespace)]

    def changes(self) -> list[AuditEntry]:
        """Those that changed something, in this story's namespace."""
        return [e for e in self.asked() if e.changed_something and e.namespace == self.namespace]

    def kubectl(self, *arguments: str) -> str:
        """Of an administrator, in this story's namespace."""
        return self.world.ground.control_plane.kubectl("-n", self.namespace, *arguments)

    def replicas(self) -> int:
        return int(self.kubectl("get", "deployment", self.town.deployment.name, "-o", "jsonpath={.spec.replicas}"))

    def image(self) -> str:
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        return self.kubectl("get", "deployment", self.town.deployment.name, "-o", path)

    # ------------------------------------------------------------------------------------------ the bot's database

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """None of them while the bot has not made its database."""
        if self.database_url is not None:
            with psycopg.connect(self.database_url) as server:
                return server.execute(cast(LiteralString, query)).fetchall()
        file = self.world.bot.folder / "oncall.sqlite"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(query).fetchall()

    def proposals(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id, state, applied, helped, outcome FROM proposal ORDER BY created_at, number")

    def firing(self) -> list[tuple[Any, ...]]:
        """Labels, startsAt and when it was last told, of each alert that fires, as the bot knows it."""
        return self.rows(
            "SELECT labels, starts_at, received_at FROM alert WHERE status = 'firing' ORDER BY fingerprint"
        )

    # ------------------------------------------------------------------------------------------ Slack

    def messages(self) -> list[Message]:
        """All of the channel that everybody sees, threads and pictures included, oldest first."""
        found = self.world.ground.slack.control.messages(self.channel)
        return [m for m in found if m.get("subtype") != "ephemeral"]

    def cards(self) -> list[Message]:
        return [m for m in self.messages() if m.get("thread_ts") in (None, m["ts"])]

    def thread(self) -> list[str]:
        """The texts of the replies, oldest first; without the pictures, which are messages of their own in Slack."""
        replies = [m for m in self.messages() if m.get("thread_ts") not in (None, m["ts"])]
        return [str(m["text"]) for m in replies if not m.get("files")]

    def wait_told(self, words: str | re.Pattern[str], seconds: float = PATIENCE_SECONDS) -> str:
        """Until a reply in the thread has these; returns the first such."""
        pattern = words if isinstance(words, re.Pattern) else re.compile(re.escape(words))
        found = until(lambda: [t for t in self.thread() if pattern.search(t)], seconds, f"{pattern.pattern!r} told")
        return str(found[0])

    # ------------------------------------------------------------------------------------------ what must be true

    def posted(self) -> list[Entry]:
        """What Slack took as a new message of the channel, by the proxy's log: whatever became of it since."""
        slack = self.world.ground.slack.control
        return slack.log(kind="api", method="chat.postMessage", ok=True, channel=self.channel)

    def nothing_twice_nothing_lost(self) -> None:
        """Each card and each message of the store stands in Slack once, under its own name; and nothing else does, nor
        ever did: Slack took each of them once, and was asked to delete none."""
        until(lambda: not self._unsaid(), PATIENCE_SECONDS, f"Slack to have {self._unsaid()}")
        cards = self.rows("SELECT incident, ts FROM card")
        said = self.rows("SELECT id, key, ts FROM thread_message ORDER BY id")
        shown = [m for m in self.messages() if not m.get("files")]
        assert sorted(m["ts"] for m in shown) == sorted(ts for *_, ts in [*cards, *said])
        marked = Counter(b["block_id"] for m in shown for b in m.get("blocks", ()) if _is_marker(b.get("block_id")))
        assert set(marked.values()) == {1}, f"twice: {marked}"
        names = [f"card-inc-{incident}" for incident, _ in cards] + [f"message-{id}" for id, *_ in said]
        told = (str(id).removesuffix("-called") for post in self.posted() for id in post.get("block_ids", ()))
        taken = Counter(name for name in told if name in names)
        assert taken == Counter(names), f"taken by Slack, but not once each: {taken}"
        assert sorted(post["ts"] for post in self.posted()) == sorted(m["ts"] for m in shown)
        assert not self.world.ground.slack.control.log(kind="api", method="chat.delete")
        pictures = Counter(f["name"] for m in self.messages() for f in m.get("files", ()))
        assert set(pictures.values()) <= {1}, f"twice: {pictures}"

    def _unsaid(self) -> list[tuple[Any, ...]]:
        """What Slack lacks: posts, and edits of cards."""
        cards = self.rows("SELECT 'card', incident FROM card WHERE ts IS NULL OR stale_since IS NOT NULL")
        return [*cards, *self.rows("SELECT id, key FROM thread_message WHERE ts IS NULL")]

    def thread_in_order(self, *words: str) -> None:
        """Messages that begin with these (after their icon) come in this order in the thread, each exactly once."""
        thread = self.thread()
        places = []
        for word in words:
            found = [place for place, text in enumerate(thread) if f": {word}" in text]
            assert len(found) == 1, f"{word!r} stands {len(found)} times in the thread: {thread}"
            places += found
        assert places == sorted(places), thread

    def asked_only_what_it_needs(self) -> None:
        forbidden = [e for e in self.asked() if e.code in (401, 403)]
        assert not forbidden, f"its role does not allow: {forbidden}"
        asked = {(e.verb, e.resource, e.subresource) for e in self.asked()}
        assert asked <= NEEDED, f"not needed here: {asked - NEEDED}"


def _is_marker(block_id: object) -> bool:
    return isinstance(block_id, str) and re.match(r"^(message-\d+|card-inc-\d+)", block_id) is not None


def until(question: Callable[[], object], seconds: float, what: str) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
    return answer


@contextmanager
def scene(
    ground: Ground,
    folder: Path,
    *,
    more: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    **world: Any,
) -> Iterator[Scene]:
    """A world in a namespace of its own, with its own Slack, and alice in front of it. `more` is of its town."""
    town = chat_70b(namespace=f"e2e-{uuid.uuid4().hex[:6]}", **(more or {}))
    with (
        ground.with_own_slack(folder / "slack") as own,
        World(own, folder, [town], environment={**PATIENT, **(environment or {})}, **world) as running,
        Chromium() as chromium,
    ):
        alice = chromium.open(own.slack.page_url, "alice", seconds=PATIENCE_SECONDS)
        alice.open_channel(town.channel)
        running.wait_scraped(town, PATIENCE_SECONDS)
        yield Scene(running, town, alice, chromium, world.get("database_url"))
