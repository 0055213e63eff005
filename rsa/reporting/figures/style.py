"""Common style of the figures, which are SVG files, identical to the byte for the same data.

A figure is drawn in light colours. A style sheet within the file exchanges them where the reader prefers a dark theme; what
does not know style sheets shows the light one. Either way a background is painted, so text is never dark on dark.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from rsa.reporting.numbers import counted

INK, FAINT, PAPER = "#24292f", "#6e7781", "#fffffe"  # text; axes and what is beside the point; background
# Okabe and Ito's colours, which the colour-blind can tell apart
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6a00", "#444444"]
DARK = {
    INK: "#e6edf3",
    FAINT: "#9198a1",
    PAPER: "#0d1117",
    "#0072b2": "#3b9ddd",
    "#d55e00": "#f0803c",
    "#009e73": "#2cbd95",
    "#cc79a7": "#dd94bd",
    "#56b4e9": "#9bd4f7",
    "#7f6a00": "#c4ab3a",
    "#444444": "#c9d1d9",
}
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))  # lines that lie on each other are told apart
MARKERS = "osD^vP*X"
WIDTH = 9.0  # inches, of a figure
PER_ROW = 5  # panels
SMOOTH = 25  # steps
POINTS = 240  # of a line
STYLE: Any = {
    "svg.hashsalt": "rsa",  # names within the file depend on nothing else
    "figure.dpi": 144,  # of rasterised artists
    "savefig.dpi": 144,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
}

Curves = dict[str, dict[int, pd.DataFrame]]  # method -> seed -> its table


def color(place: int) -> str:
    """Return the colour of the method at this place in the order of methods."""
    return COLORS[place % len(COLORS)]


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of the given size in inches, and write it at the end."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(_themed(text.getvalue()))


def _themed(svg: str) -> str:
    """Add the dark colours as a style sheet."""
    rules = [
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke", "stop-color")
        if f"{what}: {light}" in svg
    ]
    style = f"<style>@media (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda match: match[1] + "\n " + style, svg, count=1)


def panels(figure: Figure, count: int, per_row: int = PER_ROW) -> list[Axes]:
    """Return `count` axes in balanced rows of at most `per_row`."""
    rows, columns = arranged(count, per_row)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in axes[count:]:
        unused.remove()
    return list(axes[:count])


def arranged(count: int, per_row: int = PER_ROW) -> tuple[int, int]:
    """Return the numbers of rows and columns for that many panels."""
    rows = math.ceil(count / per_row)
    return rows, math.ceil(count / rows)


def legend(figure: Figure, methods: Sequence[str], numbers: dict[str, int], kind: str = "dashed") -> None:
    """Draw one legend above all panels: the methods in `numbers`, with their numbers of seeds; `kind` is how they are drawn."""
    handles = []
    for place, method in enumerate(methods):
        if method in numbers:
            style: Any = {"dashed": {"ls": DASHES[place % len(DASHES)]}, "solid": {}, "points": _point(place)}[kind]
            handles.append(Line2D([], [], color=color(place), label=f"{method} ({counted(numbers[method], 'seed')})", **style))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), handlelength=2.6)


def _point(place: int) -> dict[str, str]:
    return {"ls": "", "marker": MARKERS[place % len(MARKERS)]}


def band(axis: Axes, table: pd.DataFrame, place: int, **style: Any) -> None:
    """Draw the mean over the columns (one per seed) as a line and their range as a band."""
    rows = thinned(table.dropna(how="all"))
    axis.plot(rows.index, rows.mean(axis=1), color=color(place), **{"ls": DASHES[place % len(DASHES)], **style})
    if not (rows.min(axis=1) == rows.max(axis=1)).all():
        axis.fill_between(rows.index, rows.min(axis=1), rows.max(axis=1), color=color(place), alpha=0.18, lw=0)


def column(runs: dict[int, pd.DataFrame], name: str, x: str = "step") -> pd.DataFrame:
    """Collect a column of every run that has it, indexed by `x` and smoothed if long."""
    columns = {seed: run.set_index(x)[name].dropna() for seed, run in runs.items() if name in run}
    table = pd.DataFrame(columns)
    return table.rolling(SMOOTH, min_periods=1).mean() if len(table) > 10 * SMOOTH else table


def thinned(table: pd.DataFrame) -> pd.DataFrame:
    """Keep at most POINTS evenly spaced rows, including the first and the last."""
    if len(table) <= POINTS:
        return table
    return table.iloc[np.unique(np.linspace(0, len(table) - 1, POINTS).round().astype(int))]


def steps_below(axis: Axes) -> None:
    """Set up an axis of training steps."""
    axis.set_xlabel("step")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:g} M"))
    axis.locator_params(axis="x", nbins=4)
