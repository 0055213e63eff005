"""Maps of the features in two dimensions, and confusion matrices."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb

from rsa.reporting.figures.style import COLORS, FAINT, INK, PAPER, WIDTH, arranged, drawing, panels

CLASSES = 10  # that are coloured
CELLS = 100  # classes of a confusion matrix that is drawn as one
NUMBERED = 12  # classes up to which its cells hold numbers
PAIRS = 12  # most confused ones, beyond
PALETTE = [*COLORS, "#8b5cf6", "#a0522d"]

Tables = dict[str, pd.DataFrame]  # method -> its table


def draw_maps(maps: Tables, path: Path) -> None:
    """Draw two panels per method, PCA and t-SNE: a point per sample, coloured by class, with the class's number at its median.

    The tables have the columns `label, pca_x, pca_y, tsne_x, tsne_y`. At most CLASSES classes are coloured.
    """
    rows, _ = arranged(2 * len(maps), 4)
    with drawing(path, WIDTH, 2.35 * rows) as figure:
        axes = iter(panels(figure, 2 * len(maps), 4))
        for method, table in maps.items():
            for kind, title in (("pca", "PCA"), ("tsne", "t-SNE")):
                axis = next(axes)
                _map(axis, table["label"], table[[f"{kind}_x", f"{kind}_y"]].to_numpy())
                axis.set_title(f"{method}, {title}", weight="bold")


def _map(axis: Axes, labels: pd.Series, points: np.ndarray) -> None:
    classes = np.unique(labels)
    named = classes[np.linspace(0, len(classes) - 1, min(len(classes), CLASSES)).round().astype(int)]
    unnamed = points[~np.isin(labels, named)]
    size = 9 if len(points) <= 600 else 4
    axis.scatter(unnamed[:, 0], unnamed[:, 1], s=size, color=FAINT, alpha=0.25, lw=0, rasterized=True)
    for place, label in enumerate(named):
        of_class = points[labels == label]
        axis.scatter(of_class[:, 0], of_class[:, 1], s=size, color=PALETTE[place], alpha=0.75, lw=0, rasterized=True)
    for label in named:
        middle = np.median(points[labels == label], axis=0)
        halo = [patheffects.withStroke(linewidth=2.5, foreground=PAPER)]
        axis.text(
            middle[0], middle[1], str(label), ha="center", va="center", size=10, weight="bold", color=INK, path_effects=halo
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def draw_confusion(confusions: Tables, path: Path) -> None:
    """Draw a panel per method: the share in percent of each true class (row) that was predicted as each class (column).

    The tables have the columns `truth, predicted, count`. Beyond CELLS classes the most confused pairs are drawn instead.
    """
    size = 1 + max(int(table[["truth", "predicted"]].to_numpy().max()) for table in confusions.values())
    matrices = {method: _shares(table, size) for method, table in confusions.items()}
    per_row = 3 if size <= CELLS else 2
    rows, columns = arranged(len(matrices), per_row)
    tall = min(4.2, WIDTH / columns) if size <= CELLS else 2.8
    with drawing(path, WIDTH if columns > 1 else WIDTH / 1.6, tall * rows) as figure:
        for axis, (method, shares) in zip(panels(figure, len(matrices), per_row), matrices.items(), strict=True):
            (_matrix if size <= CELLS else _pairs)(axis, shares)
            axis.set_title(method, weight="bold")


def _shares(table: pd.DataFrame, size: int) -> np.ndarray:
    """Return the shares (size, size) in percent of each row; rows of classes without samples are 0."""
    counts = np.zeros((size, size))
    counts[table["truth"], table["predicted"]] = table["count"]
    shares: np.ndarray = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return shares


def _matrix(axis: Axes, shares: np.ndarray) -> None:
    """Draw cells whose opacity grows with the share, for any background."""
    size = len(shares)
    density = [(*to_rgb(COLORS[0]), alpha) for alpha in np.linspace(0, 0.9, 64)]
    axis.pcolormesh(shares, cmap=ListedColormap(density), vmin=0, vmax=100, lw=0)
    axis.set_aspect("equal")
    axis.invert_yaxis()
    axis.grid(visible=False)
    ticks = np.arange(0, size, max(1, round(size / 10)))
    axis.set_xticks(ticks + 0.5, ticks)
    axis.set_yticks(ticks + 0.5, ticks)
    axis.tick_params(length=0)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    axis.spines[:].set_visible(True)
    if size <= NUMBERED:
        for row, column in zip(*np.nonzero(shares.round()), strict=True):
            value = shares[row, column]
            shade = PAPER if value > 60 else INK
            axis.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", size=6.5, color=shade)


def _pairs(axis: Axes, shares: np.ndarray) -> None:
    """Draw bars of the most confused pairs."""
    wrong = shares - np.diag(np.diag(shares))
    flat = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    flat = flat[wrong.flat[flat] > 0]
    truth, predicted = np.unravel_index(flat, wrong.shape)
    axis.barh(range(len(flat)), wrong[truth, predicted], color=COLORS[0], height=0.7)
    axis.set_yticks(range(len(flat)), [f"{a} taken for {b}" for a, b in zip(truth, predicted, strict=True)])
    axis.set_xlabel("% of the true class")
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
