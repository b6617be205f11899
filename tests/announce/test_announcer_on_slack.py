"""The announcer on a strict Slack with its real pace: what people see, how wide, and what survives lost answers."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.announce.announcer import Announcer
from bot.announce.graph import Graphs
from bot.announce.view import View
from bot.incidents.incident import ThreadMessage, Timing
from bot.outbound.plots import plot
from bot.outbound.slack.chat import SlackChat, web_client
from bot.outbound.slack.people import People
from bot.outbound.store import SqlStore
from bot.ports import TooManyError
from bot.remediation.proposal import ProposalState
from bot.report import Report
from sandbox.browser import Chromium, SlackBrowser
from sandbox.faults import Outage, Where
from sandbox.slack_rules.part import SlackRules
from tests import stories as s

PROBLEMS = {"msg_blocks_too_long", "invalid_blocks", "ratelimited", "no_text", "msg_too_long"}


# The states before, since the store refuses a move that skips one.
BEGUN = (ProposalState.PENDING, ProposalState.APPROVED)
LIVES = {ProposalState.RUNNING: BEGUN, ProposalState.ENDED: (*BEGUN, ProposalState.RUNNING)}


class Running:
    """An announcer in a loop of its own, as the leader would have it."""

    def __init__(self, store: SqlStore, slack: SlackRules) -> None:
        self.store = store
        self.slack = slack
        self.mark = slack.control.mark()
        client = web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=2)
        people = People(client)
        people.meet(["U01ALICE", "U02BOB", "S01ONCALL"])
        self._wake = threading.Event()
        self._stopped = threading.Event()
        graphs = Graphs(store, s.FLEET, s.RUNBOOKS, self._history, plot)
        self.announcer = Announcer(
            store,
            SlackChat(client, people),
            s.FLEET,
            s.RUNBOOKS,
            Timing(),
            graphs,
            clock=lambda: datetime.now(UTC),
            wake=self._wake.set,
        )
        self._loop = threading.Thread(target=self._run)
        self._loop.start()

    def _history(self, incident, round, start, end, step_seconds):
        return [(start + (end - start) * n / 60, 0.3 if n < 40 else 4.0) for n in range(61)]

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            if not self.announcer.step(datetime.now(UTC)):
                self._wake.wait(0.1)

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        self._loop.join()
        self.announcer.close()

    def write(self, view: View) -> None:
        with self.store.write() as tx:
            tx.save_incident(view.incident)
            for alert in view.alerts:
                tx.join_alert(view.incident.number, alert)
            for round in (*view.rounds, *view.asides):
                tx.save_round(round)
            for proposal in view.proposals:
                for state in LIVES.get(proposal.state, ()):
                    tx.save_proposal(replace(proposal, state=state))
                tx.save_proposal(proposal)
                for approval in view.approvals.get(proposal.id, ()):
                    tx.save_approval(approval)
            tx.save_manuals(view.incident.number, view.manuals)
            tx.show(view.incident.number)

    def messages(self, channel: str = s.CHANNEL) -> list[dict]:
        return self.slack.control.messages(channel)

    def cards(self, channel: str = s.CHANNEL) -> list[dict]:
        return [m for m in self.messages(channel) if m.get("thread_ts") in (None, m["ts"])]

    def settled(self) -> None:
        """Slack has everything."""

        def nothing_waits() -> bool:
            with self.store.read() as tx:
                return not tx.stale_cards() and not tx.waiting_messages(10) and not tx.waiting_whispers(10)

        wait_for(nothing_waits, 60)

    def refusals(self) -> list[dict]:
        return [e for e in self.slack.control.log(self.mark) if e.get("error") in PROBLEMS]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def running(store: SqlStore, slack: SlackRules):
    made = Running(store, slack)
    yield made
    made.stop()


@pytest.fixture
def page(slack: SlackRules, chromium: Chromium) -> SlackBrowser:
    opened = chromium.open(slack.page_url, "alice")
    opened.open_channel("inc-chat")
    return opened


VIEWS = {
    "verdict": (s.with_verdict, s.CHANNEL, "Under-provisioned: 138 requests wait"),
    "inconclusive": (s.inconclusive, s.CHANNEL, "cannot tell whether it is"),
    "without_runbook": (s.without_runbook, s.DEFAULT_CHANNEL, "No runbook"),
    "running": (s.running, s.CHANNEL, "Running: Scale chat-70b"),
    "resolved": (s.resolved, s.CHANNEL, "What fixed it"),
}


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_person_reads_the_card_at_both_widths(
    name: str, running: Running, page: SlackBrowser, tmp_path: Path
) -> None:
    make, channel, words = VIEWS[name]
    running.write(make())
    if channel == s.DEFAULT_CHANNEL:
        page.open_channel("oncall")
    seen = page.wait_message(words, seconds=20)
    assert "<!date" not in seen and "<@" not in seen and "&lt;" not in seen and ":red_circle:" not in seen
    assert "inc-142" in seen
    assert len(page.buttons(words)) <= 3
    running.settled()
    assert running.refusals() == []
    page.screenshot(tmp_path / f"{name}-desk.png")
    page.screenshot(tmp_path / f"{name}-phone.png", phone=True)
    assert (tmp_path / f"{name}-phone.png").stat().st_size > 5_000


def test_the_thread_holds_the_evidence_with_its_graph_in_order(running: Running, page: SlackBrowser) -> None:
    running.write(s.resolved())
    page.wait_message("What fixed it", seconds=20)
    running.settled()
    page.open_thread("What fixed it")
    page.wait_reply("Round 3", seconds=20)
    told = page.thread_messages()
    order = ["Round 1", "Acknowledged by", "Approved by", "Running", "Helped", "Resolved after", "Round 3"]
    places = [next(n for n, text in enumerate(told) if n and word in text) for word in order]
    assert places == sorted(places)
    files = [f["name"] for m in running.messages() for f in m.get("files", ())]
    assert files == ["inc-142-signal-1.png", "inc-142-signal-3.png"]
    assert running.refusals() == []


def test_only_the_push_mentions(running: Running) -> None:
    running.write(s.with_verdict())
    # The card as it was posted: it is edited soon after, since it came late, and an edit calls nobody.
    post = {"kind": "api", "method": "chat.postMessage", "ok": True}
    card = running.slack.control.wait_log(since=running.mark, seconds=20, **post)[0]
    assert "<@U01ALICE>" in card["text"]
    acked = s.with_verdict(incident=s.incident(acked_by=s.BOB, acked_at=s.at(1)))
    running.write(acked)
    running.settled()
    replies = [m for m in running.messages() if m not in running.cards()]
    assert replies and not [m for m in replies if "<@" in m["text"] + str(m.get("blocks"))]
    assert any("Acknowledged by @bob" in m["text"] for m in replies)


def test_a_refusal_would_be_noticed(running: Running, slack: SlackRules) -> None:
    client = web_client(slack.workspace.apps[0].bot_token, api_url=slack.api_url, timeout_seconds=2)
    chat = SlackChat(client, People(client))
    with pytest.raises(TooManyError):
        for n in range(10):
            chat.post(s.CHANNEL, Report("x"), marker=f"m{n}")
    assert running.refusals()


def test_a_storm_in_one_channel_breaks_no_rule_and_loses_nothing(running: Running) -> None:
    for number in range(1, 9):
        running.write(View(incident=s.incident(number, runbook=None), oncall=s.ALICE))
    running.settled()
    assert len(running.cards()) == 8
    assert running.refusals() == []


@pytest.mark.parametrize("where", list(Where))
def test_an_answer_that_never_comes_doubles_and_loses_nothing(
    running: Running, slack: SlackRules, where: Where
) -> None:
    hold = slack.control.hold_next(where, method="chat.postMessage")
    running.write(s.with_verdict())
    hold.wait_reached()
    hold.cut()
    running.settled()
    assert len(running.cards()) == 1
    held = slack.control.hold_next(where, method="chat.postMessage")
    with running.store.write() as tx:
        tx.say(ThreadMessage(142, "one", Report("said once")))
    held.wait_reached()
    held.cut()
    running.settled()
    assert [m["text"] for m in running.messages()].count("said once") == 1


@pytest.mark.parametrize("kind", [Outage.ERROR, Outage.REFUSE])
def test_an_outage_is_caught_up_in_order(running: Running, slack: SlackRules, kind: Outage) -> None:
    running.write(s.with_verdict())
    running.settled()
    with slack.control.down(kind):
        with running.store.write() as tx:
            for n in range(3):
                tx.say(ThreadMessage(142, f"k{n}", Report(f"turn {n}")))
        wait_for(lambda: running.announcer.backlog.trouble is not None)
    running.settled()
    told = [m["text"] for m in running.messages() if m["text"].startswith("turn")]
    assert told == ["turn 0", "turn 1", "turn 2"]


def test_a_slow_slack_gets_the_verdict_in_one_call(running: Running, slack: SlackRules) -> None:
    slack.control.latency(0.25)
    mark = slack.control.mark()
    running.write(View(incident=s.incident(runbook=None, opened_at=datetime.now(UTC)), oncall=s.ALICE))
    slack.control.wait_log(since=mark, seconds=20, kind="api", method="chat.postMessage", ok=True)
    calls = [e["method"] for e in slack.control.log(mark) if e.get("method", "").startswith(("chat.", "users."))]
    assert calls[0] == "chat.postMessage", "a name is asked for before the first message"
