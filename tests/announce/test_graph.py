from dataclasses import replace
from datetime import timedelta

import pytest

from bot.announce.graph import BEFORE_SECONDS, Graph, Graphs, graph, span
from bot.outbound.store import SqlStore
from tests import stories as s

POINTS = [(s.START, 0.3), (s.at(5), 4.0)]


def test_the_span_begins_with_what_was_normal_and_ends_with_the_round():
    view = s.with_verdict()
    assert span(view, view.rounds[0]) == (s.START - timedelta(seconds=BEFORE_SECONDS), view.rounds[0].ended_at)


def test_a_look_at_the_past_ends_there():
    past = s.round_of(as_of=s.at(-60))
    start, end = span(s.view(past), past)
    assert end == s.at(-60) and start < end


def test_the_graph_has_the_threshold_and_what_happened_within_it():
    view = s.resolved()
    drawn = graph(view, view.rounds[-1], POINTS)
    assert (drawn.title, drawn.threshold, drawn.bad_is_above) == ("chat-70b: TTFT P99", 1.0, True)
    assert [m.label for m in drawn.marks] == ["alert", "scale 3 → 4", "resolved"]
    assert [m.label for m in graph(view, view.rounds[0], POINTS).marks] == ["alert"]


def rolled_out(minutes_before: float | None, number: int = 1, **reading):
    reading = {"minutes_before_start": minutes_before, "revision": 8, "restart_only": False, **reading}
    found = replace(s.QUEUE, step="changes", probe="recent_changes", reading=reading)
    return s.round_of(number, observations=(s.QUEUE, found))


def labels(view, round):
    return [(m.label, m.at) for m in graph(view, round, POINTS).marks if m.label != "alert"]


def test_a_rollout_before_the_start_is_marked_by_its_revision():
    round = rolled_out(4)
    assert labels(s.view(round), round) == [("revision 8", s.at(-4))]


@pytest.mark.parametrize(
    ("reading", "label"), [({"revision": None}, "rollout"), ({"restart_only": True}, "restart"), ({}, "revision 8")]
)
def test_a_rollout_is_named_as_far_as_it_is_known(reading, label):
    round = rolled_out(4, **reading)
    assert labels(s.view(round), round) == [(label, s.at(-4))]


def test_the_graph_reaches_back_to_a_rollout_that_may_be_to_blame_and_no_further():
    for minutes, start in ((25, s.at(-30)), (45, s.at(-15)), (4, s.at(-15))):
        round = rolled_out(minutes)
        assert span(s.view(round), round)[0] == start
    assert labels(s.view(rolled_out(45)), rolled_out(45)) == []


def test_what_is_rolled_out_is_not_known():
    round = rolled_out(None)
    assert labels(s.view(round), round) == []


def test_a_later_round_that_did_not_ask_takes_the_answer_of_one_before():
    later = s.round_of(2, minutes=3)
    assert labels(s.view(rolled_out(4), later), later) == [("revision 8", s.at(-4))]


def test_a_rollout_of_our_own_is_marked_once():
    view = s.resolved()
    (change,) = [p for p in view.proposals if p.started_at is not None]
    minutes = (s.START - change.started_at).total_seconds() / 60 - 0.2
    last = replace(rolled_out(minutes, number=view.rounds[-1].number), ended_at=view.rounds[-1].ended_at)
    marks = graph(replace(view, rounds=(*view.rounds[:-1], last)), last, POINTS).marks
    assert [m.label for m in marks] == ["alert", "scale 3 → 4", "resolved"]


class Recording:
    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.drawn: list[Graph] = []
        self.points = POINTS

    def history(self, incident, round, start, end, step_seconds):
        self.asked.append((incident.number, round.number, start, end, step_seconds))
        return self.points

    def plot(self, graph: Graph) -> bytes:
        self.drawn.append(graph)
        return b"png"


@pytest.fixture
def store(tmp_path):
    opened = SqlStore.open(f"sqlite:///{tmp_path}/oncall.sqlite")
    with opened.write() as tx:
        tx.save_incident(s.incident())
        tx.save_round(s.round_of())
        tx.save_round(s.round_of(2, signal=None))
    yield opened
    opened.close()


def test_a_rounds_picture_is_its_signal(store: SqlStore):
    recording = Recording()
    draw = Graphs(store, s.FLEET, s.RUNBOOKS, recording.history, recording.plot)
    assert draw(142, "signal:1") == b"png"
    assert recording.asked[0][:2] == (142, 1) and recording.asked[0][4] > 1
    assert recording.drawn[0].points == POINTS


@pytest.mark.parametrize("picture", ["signal:2", "signal:9", "other:1", ""])
def test_where_there_is_nothing_to_draw_there_is_no_picture(store: SqlStore, picture: str):
    recording = Recording()
    draw = Graphs(store, s.FLEET, s.RUNBOOKS, recording.history, recording.plot)
    assert draw(142, picture) is None and draw(7, "signal:1") is None


def test_no_points_no_picture(store: SqlStore):
    recording = Recording()
    recording.points = []
    assert Graphs(store, s.FLEET, s.RUNBOOKS, recording.history, recording.plot)(142, "signal:1") is None


def test_a_signal_that_must_not_fall_is_bad_below():
    low = s.round_of(signal=replace(s.SLOW, direction="below"))
    assert graph(s.view(low), low, POINTS).bad_is_above is False
