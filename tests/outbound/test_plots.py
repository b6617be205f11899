import math
import os
import struct
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from bot.announce.graph import Graph, Mark
from bot.outbound.plots import _marks, load, plot
from tests.stories import START

ROOT = Path(__file__).parents[2]
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


def test_what_draws_is_loaded_without_pyplot_which_keeps_every_figure_and_without_a_home(tmp_path):
    """Where the file system is read-only there is no home to keep a cache in."""
    asked = "import sys; from bot.outbound.plots import load; load(); print('matplotlib.pyplot' in sys.modules)"
    home = tmp_path / "home"
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    environment.pop("MPLCONFIGDIR", None)
    told = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (told.stdout.strip(), told.stderr) == ("False", "")
    assert not home.exists()


def test_other_points_make_another_picture():
    assert drawn() != drawn(points=[(at, value / 2) for at, value in POINTS])


def test_labels_of_two_close_marks_stand_on_one_side_of_their_lines():
    """Else each could be the other's."""
    marks = [Mark(START + timedelta(seconds=at), str(at)) for at in (44, 58, 20, 41)]
    axes = load()[0]().add_subplot()
    axes.set_xlim(START, START + timedelta(seconds=60))
    _marks(axes, marks)
    assert {text.get_text(): text.get_ha() for text in axes.texts} == {
        "20": "left",
        "41": "right",
        "44": "right",
        "58": "right",
    }
