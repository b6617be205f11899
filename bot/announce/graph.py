"""Which curve belongs to a round: the signal before and after, its threshold, and what happened along it.

What is drawn is decided here; `outbound/plots.py` draws it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bot.announce.outbox import Store
from bot.announce.view import View, load
from bot.fleet import Fleet
from bot.incidents.incident import Incident, Round
from bot.runbook.schema import Runbook

# Enough of before to see what was normal.
BEFORE_SECONDS = 900.0
BEFORE_ROLLOUT_SECONDS = 300.0
# A rollout so long before may still be to blame (rule `bad_rollout`), and is then on the graph.
ROLLOUT_BEFORE = timedelta(minutes=30)
# What is rolled out just after a change of ours is that change.
OURS = timedelta(minutes=2)
POINTS = 120


@dataclass(frozen=True, slots=True)
class Mark:
    at: datetime
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    title: str
    unit: str
    points: Sequence[tuple[datetime, float]]  # NaN: no data there
    threshold: float | None
    bad_is_above: bool
    marks: Sequence[Mark]


class History(Protocol):
    def __call__(
        self, incident: Incident, round: Round, start: datetime, end: datetime, step_seconds: float
    ) -> Sequence[tuple[datetime, float]]:
        """The round's signal over time. Raises SourceError."""
        ...


class Draw(Protocol):
    def __call__(self, incident: int, picture: str) -> bytes | None:
        """`picture` is a ThreadMessage's. None: there is nothing to draw. Raises SourceError."""
        ...


class Plot(Protocol):
    def __call__(self, graph: Graph) -> bytes:
        """A PNG."""
        ...


class Graphs:
    """A `Draw` on the store and Prometheus."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        runbooks: Mapping[str, Runbook],
        history: History,
        plot: Plot,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._runbooks = runbooks
        self._history = history
        self._plot = plot

    def __call__(self, incident: int, picture: str) -> bytes | None:
        kind, _, number = picture.partition(":")
        with self._store.read() as tx:
            view = load(tx, incident, self._fleet, self._runbooks)
        round = next((r for r in (*view.rounds, *view.asides) if str(r.number) == number), None) if view else None
        if view is None or round is None or round.signal is None or kind != "signal":
            return None
        start, end = span(view, round)
        step = max(1.0, (end - start).total_seconds() / POINTS)
        points = self._history(view.incident, round, start, end, step)
        return self._plot(graph(view, round, points)) if points else None


def span(view: View, round: Round) -> tuple[datetime, datetime]:
    end = round.as_of or round.ended_at or round.due_at
    began = min(view.incident.began_at, end)
    start = began - timedelta(seconds=BEFORE_SECONDS)
    rollout = _rollout(view, round)
    if rollout is not None and began - ROLLOUT_BEFORE <= rollout.at <= began:
        start = min(start, rollout.at - timedelta(seconds=BEFORE_ROLLOUT_SECONDS))
    return start, end


def graph(view: View, round: Round, points: Sequence[tuple[datetime, float]]) -> Graph:
    signal = round.signal
    assert signal is not None
    start, end = span(view, round)
    marks = [Mark(view.incident.began_at, "alert")]
    if (rollout := _rollout(view, round)) is not None:
        marks.append(rollout)
    marks += [Mark(p.started_at, p.button.replace("->", "→")) for p in view.proposals if p.started_at is not None]
    if view.incident.resolved_at is not None:
        marks.append(Mark(view.incident.resolved_at, "resolved"))
    return Graph(
        title=f"{view.name}: {signal.name}",
        unit=signal.unit,
        points=points,
        threshold=signal.threshold,
        bad_is_above=signal.direction != "below",
        marks=[m for m in marks if start <= m.at <= end],
    )


def _rollout(view: View, round: Round) -> Mark | None:
    """The last rollout, as the round or one before it has found it."""
    known = [r for r in (round, *reversed(view.rounds)) if r.number <= round.number]
    changes = (o.reading for r in known for o in r.observations if o.probe == "recent_changes" and o.reading)
    found = next((c for c in changes if c.get("minutes_before_start") is not None), None)
    if found is None:
        return None
    at = view.incident.began_at - timedelta(minutes=found["minutes_before_start"])
    ours = [p.started_at for p in view.proposals if p.started_at is not None]
    if any(started <= at <= started + OURS for started in ours):
        return None
    revision = found.get("revision")
    restart = found.get("restart_only") is True
    return Mark(at, "restart" if restart else "rollout" if revision is None else f"revision {revision}")
