"""Augmented views, and the candidates that Hard View Selection selected and rejected."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from rsa.reporting.figures.style import (
    COLORS,
    DASHES,
    FAINT,
    INK,
    PAPER,
    WIDTH,
    Curves,
    band,
    color,
    column,
    drawing,
    legend,
    panels,
    steps_below,
    thinned,
)

MOST = 1152  # px, the width of a picture: larger ones are made smaller
CHOICES = {
    "iou": "overlap of the boxes (IoU)",
    "color": "colour distance",
    "score": "loss as scored",
    "plain_rank": "rank of the pair that\nplain training takes",
}
CHOSEN = COLORS[1]


def draw_views(picture: Path, names: list[str], path: Path) -> None:
    """Draw the views that a run has saved: a column per sample, a row per view, with the rows' names."""
    tiles = _tiles(picture, len(names))
    rows, columns = tiles.shape[:2]
    with drawing(path, *_size(rows, columns)) as figure:
        axis = figure.subplots()
        _show(axis, tiles, names)


def draw_choices(picture: Path, names: list[str], selection: dict[str, Any], path: Path) -> None:
    """Draw the candidates of some samples: selected views are framed, rejected ones are pale; losses are below.

    `selection` is `hard_views` of a run.json: `rows` are the rows of the picture that were chosen for each sample; `score` and
    `score_all` are the loss of the chosen view combination and the mean over all combinations.
    """
    tiles = _tiles(picture, len(names))
    rows, columns = tiles.shape[:2]
    width, height = _size(rows, columns)
    with drawing(path, width, height + 0.45) as figure:
        axis = figure.subplots()
        _show(axis, tiles, names)
        for sample, chosen in enumerate(selection["rows"][:columns]):
            for row in range(rows):
                place = (sample + 0.02, row + 0.02)
                if row in chosen:
                    axis.add_patch(Rectangle(place, 0.96, 0.96, fill=False, ec=CHOSEN, lw=2.5))
                else:
                    axis.add_patch(Rectangle((sample, row), 1, 1, fc=figure.get_facecolor(), ec="none", alpha=0.55))
            for line, text, style in (
                (0, f"{selection['score'][sample]:.2f}", {"color": CHOSEN, "weight": "bold"}),
                (1, f"{selection['score_all'][sample]:.2f}", {"color": INK}),
            ):
                _below(axis, sample + 0.5, rows, line, text, ha="center", **style)
        for line, text in enumerate(("loss of chosen views", "mean over choices")):
            _below(axis, -0.06, rows, line, text, ha="right", color=INK)


def _below(axis: Axes, x: float, rows: int, line: int, text: str, **style: Any) -> None:
    """Write a line of text beneath the picture."""
    axis.annotate(
        text, (x, rows), (0, -4 - 12 * line), textcoords="offset points", va="top", size=8, annotation_clip=False, **style
    )


def _tiles(picture: Path, rows: int) -> NDArray[np.uint8]:
    """Cut a picture of square tiles: (rows, columns, side, side, 3). Raises ValueError if it does not have so many rows."""
    with Image.open(picture) as file:
        image: Image.Image = file
        side, rest = divmod(image.height, rows)
        if rest or not side or image.width % side:
            raise ValueError(f"{picture.name} must have {rows} rows of square tiles, got {image.width} x {image.height} px")
        columns = image.width // side
        if image.width > MOST:
            side = MOST // columns
            image = image.resize((side * columns, side * rows), Image.Resampling.BOX)
        pixels = np.asarray(image.convert("RGB"))
    return pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)


def _size(rows: int, columns: int) -> tuple[float, float]:
    """Return the size in inches of a picture of that many tiles, with names beside the rows."""
    tile = min(0.85, (WIDTH - 1.8) / columns)
    return 1.8 + tile * columns, tile * rows + 0.1


def _show(axis: Axes, tiles: NDArray[np.uint8], names: list[str]) -> None:
    """Show the picture without smoothing, each tile 1 wide and high."""
    rows, columns, side = tiles.shape[:3]
    picture = tiles.swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    axis.imshow(picture, interpolation="none", extent=(0, columns, rows, 0), aspect="equal")
    axis.hlines(range(1, rows), 0, columns, color=PAPER, lw=2)
    axis.vlines(range(1, columns), 0, rows, color=PAPER, lw=2)
    axis.set_yticks(np.arange(rows) + 0.5, [textwrap.fill(name, 22) for name in names])
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def draw_selection(curves: Curves, path: Path) -> None:
    """Plot the selections of Hard View Selection (lines) against all view combinations (dotted lines) over training."""
    shown = [name for name in CHOICES if any(name in run for runs in curves.values() for run in runs.values())]
    with drawing(path, WIDTH, 2.65) as figure:
        for axis, name in zip(panels(figure, len(shown)), shown, strict=True):
            for place, runs in enumerate(curves.values()):
                if any(name in run for run in runs.values()):
                    band(axis, column(runs, name), place, ls="-")
                if any(f"{name}_all" in run for run in runs.values()):
                    table = thinned(column(runs, f"{name}_all").mean(axis=1).dropna().to_frame())
                    axis.plot(table.index, table, color=color(place), ls=":", lw=1.3)
            axis.set_title(CHOICES[name])
            steps_below(axis)
        axes = figure.axes
        kinds = [Line2D([], [], color=FAINT, ls=style) for style in (DASHES[0], ":")]
        axes[0].legend(kinds, ["chosen", "all"], fontsize=7.5)
        numbers = {method: len(runs) for method, runs in curves.items() if any("score" in run for run in runs.values())}
        legend(figure, list(curves), numbers, kind="solid")
