import math
import struct
from datetime import timedelta

import pytest

from bot.announce.graph import Graph, Mark
from bot.outbound.plots import plot
from tests.stories import START

POINTS = [(START + timedelta(seconds=15 * n), 0.3 + 0.05 * n) for n in range(60)]


def drawn(**changes: object) -> bytes:
    values: dict = {
        "title": "chat-70b: TTFT P99",
        "unit": "seconds",
        "points": POINTS,
        "threshold": 1.0,
        "bad_is_above": True,
        "marks": [Mark(START + timedelta(minutes=5), "scale 3 → 4")],
    }
    return plot(Graph(**{**values, **changes}))


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_graph_is_twice_as_wide_as_high_and_large_enough_for_a_phone():
    width, height = size(drawn())
    assert (width, height) == (800, 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": None},
        {"bad_is_above": False},
        {"marks": []},
        {"points": [(START, 1.0)]},
        {"points": [(at, math.nan) for at, _ in POINTS]},
        {"points": [(at, math.inf) for at, _ in POINTS]},
        {"points": [(at, 0.0) for at, _ in POINTS], "threshold": 0.0},
        {"unit": "ratio"},
        {"unit": "count", "title": "x" * 60},
    ],
)
def test_whatever_the_signal_was_there_is_a_graph(changes: dict):
    assert size(drawn(**changes)) == (800, 400)


def test_other_points_make_another_picture():
    assert drawn() != drawn(points=[(at, value / 2) for at, value in POINTS])
