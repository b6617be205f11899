"""Keeps Slack in step with the store: looks at what is stale and due, and hands each channel its next delivery.

Cards are level-triggered: rendered anew, edited if different, the latest wins. Threads are outboxes in order. Each
channel has one delivery under way at a time, so a slow one delays no other, and order needs no lock.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.announce.card import render
from bot.announce.delivery import Delivery
from bot.announce.graph import Draw
from bot.announce.outbox import AnnounceTx, Card, Store, Waiting, Whisper
from bot.announce.pace import Kind, Pace
from bot.announce.pushes import FirstPost, first_post, follow_ups, grace_ends
from bot.announce.seen import digest, read, written
from bot.announce.thread import messages
from bot.announce.view import View, load
from bot.fleet import Fleet
from bot.incidents.incident import IncidentState, ThreadMessage, Timing
from bot.ports import Chat, SourceError, TooManyError
from bot.runbook.schema import Runbook, Severity

log = logging.getLogger(__name__)

# Calls to Slack at once. They wait, most of the time: for 32 it is 32 channels that may be slow together.
WORKERS = 32
LIMIT = 1_000
# What Slack refuses for good (a wrong token, no scope) is tried again now and then: somebody will mend it.
REFUSED_SECONDS = 60.0
OVERDUE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Backlog:
    """What Slack does not have yet, and why: for status and metrics."""

    cards: int = 0
    edits: int = 0
    threads: int = 0
    whispers: int = 0
    oldest: datetime | None = None  # when the oldest incident without a card was heard of
    trouble: str | None = None  # Slack's last error, until something gets through again
    limited: int = 0  # answers of 429 so far


@dataclass(frozen=True, slots=True)
class _Job:
    lane: str
    kind: Kind
    name: str
    rank: tuple[int, ...]  # the lowest goes first
    run: Callable[[], bool]


class Announcer:
    """`step` is looped by the leader; `wake` is called whenever a delivery has ended and another may begin."""

    def __init__(
        self,
        store: Store,
        chat: Chat,
        fleet: Fleet,
        runbooks: Mapping[str, Runbook],
        timing: Timing,
        draw: Draw,
        *,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        workers: int = WORKERS,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._runbooks = runbooks
        self._timing = timing
        self._clock = clock
        self._wake = wake
        self._delivery = Delivery(store, chat, fleet, runbooks, timing, draw, clock)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="slack")
        self._lock = threading.Lock()  # around everything below, which the deliveries' threads change too
        self._pace = Pace()
        self._busy: set[str] = set()
        self._ended: set[str] = set()  # deliveries that ended since `step` began to read: it may not know of them
        self._held: dict[str, datetime] = {}
        self._trouble: str | None = None
        # These are the loop's alone.
        self._looked: dict[int, tuple[int, View]] = {}  # stale cards, as of which mark
        self._said: dict[int, set[str]] = {}
        self._overdue_at: datetime | None = None
        self._limit_passed: set[int] = set()  # incidents whose time limit for a verdict has been dealt with
        self.backlog = Backlog()
        self._limited = 0
        self.next_at: datetime | None = None  # when something that waits for its time will be due

    def step(self, now: datetime) -> bool:
        """True if something was written, so that another look is worth it at once. A delivery that was begun is not:
        its end wakes, and looking meanwhile would only keep it from its work."""
        self.next_at = None
        with self._lock:
            self._ended.clear()
        with self._store.read() as tx:
            stale = tx.stale_cards()
            marks = {card.incident: tx.card_mark(card.incident) for card in stale}
            fresh = self._look(tx, stale, marks)
            waiting = [(w, card) for w in tx.waiting_messages(LIMIT) if (card := tx.card(w.message.incident))]
            whispers = tx.waiting_whispers(LIMIT)
            overdue = self._overdue(tx, now)
        wrote = self._tell(fresh, overdue, marks, now)
        self._remember(fresh, overdue, marks)
        jobs = [*self._card_jobs(stale, marks, now), *self._message_jobs(waiting), *self._whisper_jobs(whispers)]
        self._count(stale, waiting, whispers)
        self._hand_out(jobs, now)
        return wrote

    @property
    def is_idle(self) -> bool:
        """No call to Slack is under way."""
        with self._lock:
            return not self._busy

    def close(self) -> None:
        """Waits for the calls under way, each of which has its own deadline."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------------------------------ looking

    def _look(self, tx: AnnounceTx, stale: Sequence[Card], marks: Mapping[int, int]) -> list[View]:
        """Those that changed since we looked last. What is stale only because Slack is slow is not read again."""
        fresh = []
        for card in stale:
            mark, known = self._looked.get(card.incident, (None, None))
            # Its post counts as a change too: whether it called somebody decides what has to follow.
            seen_then = known.card.shown if known is not None and known.card is not None else None
            if known is None or mark != marks[card.incident] or seen_then != card.shown:
                view = load(tx, card.incident, self._fleet, self._runbooks)
                fresh += [view] if view is not None else []
        return fresh

    def _overdue(self, tx: AnnounceTx, now: datetime) -> list[View]:
        """Incidents whose verdict did not come within its limit, which no row tells: time alone does."""
        if self._overdue_at is not None and now < self._overdue_at:
            return []
        self._overdue_at = now + timedelta(seconds=OVERDUE_SECONDS)
        limit = now - timedelta(seconds=self._timing.verdict_limit_seconds)
        found = []
        for incident in tx.open_incidents():
            if incident.severity is not Severity.CRITICAL or incident.number in self._limit_passed:
                continue
            card = tx.card(incident.number)
            if incident.opened_at <= limit and card is not None and card.ts is not None:
                view = load(tx, incident.number, self._fleet, self._runbooks)
                found += [view] if view is not None else []
        return found

    def _remember(self, fresh: Sequence[View], overdue: Sequence[View], marks: Mapping[int, int]) -> None:
        """Only after what they led to is written."""
        for view in fresh:
            self._looked[view.incident.number] = (marks[view.incident.number], view)
        self._limit_passed |= {view.incident.number for view in overdue}
        for gone in self._looked.keys() - marks.keys():
            _, view = self._looked.pop(gone)
            if view.incident.state is IncidentState.RESOLVED:
                self._said.pop(gone, None)
                self._limit_passed.discard(gone)

    def _tell(self, fresh: Sequence[View], overdue: Sequence[View], marks: Mapping[int, int], now: datetime) -> bool:
        """Writes what the threads lack, and which cards are what Slack has already."""
        lacking = [(v, m) for v in (*fresh, *overdue) for m in self._unsaid(v, now)]
        same = [v for v in fresh if _is_shown(v)]
        if not lacking and not same:
            return False
        with self._store.write() as tx:
            for _, message in lacking:
                tx.say(message)
            for view in same:
                seen = read(view.card.shown) if view.card is not None else None
                if view.card is not None and view.card.ts is not None and seen is not None:
                    tx.card_shown(view.incident.number, view.card.ts, written(seen), marks[view.incident.number])
        for view, message in lacking:
            self._said.setdefault(view.incident.number, set()).add(message.key)
        return True

    def _unsaid(self, view: View, now: datetime) -> list[ThreadMessage]:
        said = self._said.get(view.incident.number, set())
        seen = read(view.card.shown) if view.card is not None else None
        # The push before the evidence that it sums up: it is the one that somebody waits for.
        due = [*follow_ups(view, seen, self._timing, now), *messages(view)]
        return [message for message in due if message.key not in said]

    # ------------------------------------------------------------------------------------------ jobs

    def _card_jobs(self, stale: Sequence[Card], marks: Mapping[int, int], now: datetime) -> list[_Job]:
        jobs = []
        for order, card in enumerate(stale):
            number, mark = card.incident, marks[card.incident]
            _, view = self._looked.get(number, (0, None))
            if view is None:
                continue
            name = f"card-{number}"
            if card.ts is not None:
                run = _call(self._delivery.edit_card, number, mark)
                jobs.append(_Job(card.channel, Kind.EDIT, name, (4, order), run))
            elif first_post(view, self._timing, now) is FirstPost.WAIT:
                self._later(grace_ends(view, self._timing))
            else:
                urgent = 0 if view.incident.severity is Severity.CRITICAL else 1
                run = _call(self._delivery.post_card, number, mark)
                jobs.append(_Job(card.channel, Kind.POST, name, (urgent, order), run))
        return jobs

    def _message_jobs(self, waiting: Sequence[tuple[Waiting, Card]]) -> list[_Job]:
        jobs = []
        for one, card in waiting:
            # What rings a phone, then what somebody did, then the evidence.
            urgency = 0 if one.message.mention else 3 if one.message.key.startswith("round:") else 2
            run = _call(self._delivery.post_message, one)
            jobs.append(_Job(card.channel, Kind.POST, f"message-{one.id}", (urgency, one.id), run))
        return jobs

    def _whisper_jobs(self, whispers: Sequence[Whisper]) -> list[_Job]:
        run = self._delivery.whisper
        return [_Job(f"@{w.user}", Kind.WHISPER, f"whisper-{w.id}", (w.id,), _call(run, w)) for w in whispers]

    def _hand_out(self, jobs: Sequence[_Job], now: datetime) -> None:
        with self._lock:
            self._held = {name: until for name, until in self._held.items() if until > now}
            for job in sorted(jobs, key=lambda j: j.rank):
                if job.lane in self._busy or job.name in self._ended:
                    continue
                ready = max(self._pace.free_at(job.lane, job.kind, now), self._held.get(job.name, now))
                if ready > now:
                    self._later(ready)
                    continue
                self._busy.add(job.lane)
                self._pool.submit(self._run, job)

    def _later(self, at: datetime) -> None:
        self.next_at = at if self.next_at is None else min(self.next_at, at)

    def _run(self, job: _Job) -> None:
        try:
            called = job.run()
            with self._lock:
                if called:
                    self._pace.sent(job.lane, job.kind, self._clock())
                    self._trouble = None
        except TooManyError as error:
            log.info("%s: %s", job.name, error)
            with self._lock:
                self._limited += 1
                self._pace.told_to_wait(job.lane, job.kind, self._clock(), error.wait_seconds)
        except SourceError as error:
            self._failed(job, error)
        except Exception as error:
            # The top of a job. It stays due, so it is tried again; a pause keeps that from spinning.
            log.exception("%s could not be delivered", job.name)
            self._hold(job, error)
        finally:
            with self._lock:
                self._busy.discard(job.lane)
                self._ended.add(job.name)
            self._wake()

    def _failed(self, job: _Job, error: SourceError) -> None:
        if error.retryable:
            log.warning("%s has to wait: %s", job.name, error)
            with self._lock:
                self._trouble = str(error)
                self._pace.failed(job.lane, self._clock())
            return
        log.error("%s was refused and is tried again in %g s: %s", job.name, REFUSED_SECONDS, error)
        self._hold(job, error)

    def _hold(self, job: _Job, error: Exception) -> None:
        with self._lock:
            self._trouble = str(error)
            self._held[job.name] = self._clock() + timedelta(seconds=REFUSED_SECONDS)

    def _count(
        self, stale: Sequence[Card], waiting: Sequence[tuple[Waiting, Card]], whispers: Sequence[Whisper]
    ) -> None:
        unposted = [c for c in stale if c.ts is None]
        heard = [self._looked[c.incident][1].incident.opened_at for c in unposted if c.incident in self._looked]
        with self._lock:
            trouble, limited = self._trouble, self._limited
        self.backlog = Backlog(
            cards=len(unposted),
            edits=len(stale) - len(unposted),
            threads=len(waiting),
            whispers=len(whispers),
            oldest=min(heard, default=None),
            trouble=trouble,
            limited=limited,
        )


def _is_shown(view: View) -> bool:
    seen = read(view.card.shown) if view.card is not None else None
    return seen is not None and seen.digest == digest(render(view))


def _call(function: Callable[..., bool], *arguments: object) -> Callable[[], bool]:
    return lambda: function(*arguments)
