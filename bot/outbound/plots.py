"""Draws a signal over time as a PNG that can be read on a phone: large letters, twice as wide as high, the bad side of
the threshold shaded, and what happened written at its moment.

matplotlib takes a second and 58 MB to load (many seconds on a busy machine), so it is not loaded before the bot is
ready: `load` does it aside, and else the first graph would. `pyplot` never is loaded, since it keeps every figure and
is not made for threads.
"""

import io
import math
import os
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC
from importlib import import_module
from typing import Any

from bot.announce.amounts import amount
from bot.announce.graph import Graph, Mark

WIDTH_INCHES, HEIGHT_INCHES, DPI = 8.0, 4.0, 100
FONT = 17
TITLE_CHARACTERS = 60
SECONDS_BELOW_MINUTES = 8  # a shorter graph has its times with seconds
_END, _CLOSE = 0.7, 0.15  # of the width: where a label has no room to the right; so near are two lines one group
_ONE = threading.Lock()
_LINE, _BAD, _MARK = "#1264a3", "#e01e5a", "#454245"


def load() -> tuple[Any, Any]:
    """The classes of figures and canvases. What follows a graph in its channel waits until it is drawn: so not then."""
    # Its cache belongs to no home directory: the container's file system is read-only.
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    return import_module("matplotlib.figure").Figure, import_module("matplotlib.backends.backend_agg").FigureCanvasAgg


def plot(graph: Graph) -> bytes:
    """One at a time: side by side none is ready sooner (it is all computing), and each takes memory."""
    with _ONE:
        return _plotted(graph)


def _plotted(graph: Graph) -> bytes:
    figure_class, canvas_class = load()
    figure = figure_class(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
    canvas_class(figure)
    axes = figure.add_subplot()
    _curve(axes, graph)
    _threshold(axes, graph)
    _marks(axes, graph.marks)
    _frame(axes, graph)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _curve(axes: Any, graph: Graph) -> None:
    times = [at for at, _ in graph.points]
    values = [value if math.isfinite(value) else math.nan for _, value in graph.points]
    axes.plot(times, values, color=_LINE, linewidth=3)
    known = [value for value in values if not math.isnan(value)]
    top = max([*known, graph.threshold or 0.0], default=1.0) or 1.0
    axes.set_ylim(min([*known, 0.0], default=0.0), top * 1.45)
    if times:
        axes.set_xlim(times[0], times[-1] if times[-1] > times[0] else None)


def _threshold(axes: Any, graph: Graph) -> None:
    if graph.threshold is None:
        return
    low, high = axes.get_ylim()
    bad = (graph.threshold, high) if graph.bad_is_above else (low, graph.threshold)
    axes.axhspan(*bad, color=_BAD, alpha=0.10, linewidth=0)
    axes.axhline(graph.threshold, color=_BAD, linewidth=2, linestyle="--")
    label = amount(graph.threshold, graph.unit)
    axes.annotate(
        label,
        (0.0, graph.threshold),  # at the left, where the curve is on the good side still
        xycoords=("axes fraction", "data"),
        xytext=(5, 4),
        textcoords="offset points",
        ha="left",
        color=_BAD,
        fontsize=FONT,
    )


def _marks(axes: Any, marks: Sequence[Mark]) -> None:
    """Labels take turns in height, so that two close ones can both be read, and stand on one side of their lines: else
    each could be the other's."""
    start, end = axes.get_xlim()
    in_order = sorted(marks, key=lambda m: m.at)
    places = [(axes.convert_xunits(mark.at) - start) / ((end - start) or 1) for mark in in_order]
    for position, (mark, own) in enumerate(zip(in_order, places, strict=True)):
        axes.axvline(mark.at, color=_MARK, linewidth=1.5, linestyle=":")
        near_the_end = any(place > _END and 0 <= place - own <= _CLOSE for place in places)
        axes.annotate(
            mark.label,
            (mark.at, 0.97 - 0.11 * (position % 3)),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if near_the_end else 6, 0),
            textcoords="offset points",
            ha="right" if near_the_end else "left",
            va="top",
            color=_MARK,
            fontsize=FONT,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
        )


def _frame(axes: Any, graph: Graph) -> None:
    dates, ticker = import_module("matplotlib.dates"), import_module("matplotlib.ticker")
    axes.set_title(shortened(graph.title), fontsize=FONT + 2, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=2, maxticks=5, tz=UTC))
    start, end = axes.get_xlim()  # in days
    clock = "%H:%M:%S" if end - start < SECONDS_BELOW_MINUTES / 60 / 24 else "%H:%M"
    axes.xaxis.set_major_formatter(dates.DateFormatter(clock, tz=UTC))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: amount(value, graph.unit)))
    axes.tick_params(labelsize=FONT)
    axes.set_xlabel("UTC", fontsize=FONT - 2, loc="right")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def shortened(title: str) -> str:
    """What fits over the graph."""
    return title if len(title) <= TITLE_CHARACTERS else title[: TITLE_CHARACTERS - 1] + "…"
