"""The figures of a report, as PNG files."""

import itertools
import math
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from rsa.reporting.results import FLOORS, Results

matplotlib.use("Agg")
COLORS = [
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f6a00",
    "#444444",
]  # Okabe and Ito: colour-blind safe
STYLE: Any = {
    "figure.dpi": 120,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
SMOOTH = 25  # steps

Curves = dict[str, dict[int, pd.DataFrame]]  # method -> seed -> the curve


def draw_scores(results: Results, path: Path) -> None:
    """Every task: a point per seed, joined across methods, a bar for the mean; the floors as dashed lines."""
    methods = [method for method in results.rows if method not in FLOORS]
    count = len(results.tasks)
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(1, count, figsize=(2 * count, 3.2), layout="constrained", squeeze=False)
        for axis, task in zip(axes[0], results.tasks, strict=True):
            for seed in results.experiment.seeds:  # the same seed in every method: what is paired
                pairs = [results.cells[method, *task].get(seed, math.nan) for method in methods]
                axis.plot(range(len(methods)), pairs, color="#999999", lw=0.8, zorder=1)
            for place, method in enumerate(methods):
                scores = list(results.cells[method, *task].values())
                axis.plot([place] * len(scores), scores, "o", color=COLORS[place % len(COLORS)], alpha=0.6)
                axis.plot(
                    [place - 0.3, place + 0.3],
                    [results.summary(method, task).mean] * 2,
                    color=COLORS[place % len(COLORS)],
                    lw=2.5,
                )
            for floor, line in zip(FLOORS, (":", "--"), strict=True):
                axis.axhline(results.summary(floor, task).mean, color="#666666", ls=line, lw=1.2, label=floor)
            axis.set_title(f"{task[0]}\n{task[1]}", fontsize=10)
            axis.set_xticks(range(len(methods)), methods)
            axis.set_xlim(-0.6, len(methods) - 0.4)
        axes[0][0].set_ylabel("top-1 (%)")
        axes[0][0].legend(frameon=False, fontsize=8)
        _save(path)


def draw_curves(curves: Curves, path: Path) -> None:
    """The loss of every method: the mean over seeds (smoothed), a band from the lowest to the highest seed."""
    with plt.rc_context(STYLE):
        plt.figure(figsize=(7, 3.6), layout="constrained")
        for color, (method, runs) in zip(itertools.cycle(COLORS), curves.items(), strict=False):
            smooth = {seed: run.set_index("step")["loss"].rolling(SMOOTH, min_periods=1).mean() for seed, run in runs.items()}
            loss = pd.DataFrame(smooth)
            plt.plot(loss.index, loss.mean(axis=1), color=color, label=f"{method} ({len(runs)} seeds)")
            plt.fill_between(loss.index, loss.min(axis=1), loss.max(axis=1), color=color, alpha=0.2, lw=0)
        plt.xlabel("step")
        plt.ylabel(f"loss (mean of {SMOOTH} steps)")
        plt.legend(frameon=False)
        _save(path)


def draw_schedules(curves: Curves, path: Path) -> None:
    """Learning rate, tau and beta as the runs recorded them."""
    names = ("lr", "tau", "beta")
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(1, len(names), figsize=(9, 2.8), layout="constrained")
        for axis, name in zip(axes, names, strict=True):
            for place, (method, runs) in enumerate(curves.items()):
                run = next(iter(runs.values()))
                if name in run:
                    _line(axis, run, name, method, place)
            axis.set_xlabel("step")
            axis.set_title(name)
            axis.legend(frameon=False)
        _save(path)


def draw_health(curves: Curves, path: Path) -> None:
    """Whether the embeddings still tell samples apart (rsa.training.collapse), the mean over seeds."""
    _panels(
        curves,
        {"embedding_std": "std of a dimension x sqrt(P)", "effective_rank": "effective rank", "uniformity": "uniformity"},
        path,
    )


def draw_hard_views(curves: Curves, path: Path) -> bool:
    """The pairs that Hard View Selection chose (lines) among all candidates' pairs (dots); False where no method selects."""
    hard = {method: runs for method, runs in curves.items() if all("iou" in run for run in runs.values())}
    if hard:
        names = {"iou": "overlap of the boxes (IoU)", "color": "colour distance", "score": "loss as scored"}
        _panels(hard, names, path, beside="_all")
    return bool(hard)


def _panels(curves: Curves, names: dict[str, str], path: Path, beside: str = "") -> None:
    """A panel for each column, a line for each method: the mean over seeds of the steps that have a value."""
    with plt.rc_context(STYLE):
        _, axes = plt.subplots(1, len(names), figsize=(9, 2.8), layout="constrained")
        for axis, (name, title) in zip(axes, names.items(), strict=True):
            for color, (method, runs) in zip(itertools.cycle(COLORS), curves.items(), strict=False):
                for column, style, label in ((name, "-", method), (name + beside, ":", f"{method}, all pairs")):
                    found = {seed: run.set_index("step")[column].dropna() for seed, run in runs.items() if column in run}
                    if found and (beside or style == "-"):
                        mean = pd.DataFrame(found).mean(axis=1)
                        mean = mean.rolling(SMOOTH, min_periods=1).mean() if len(mean) > 10 * SMOOTH else mean
                        axis.plot(mean.index, mean, color=color, ls=style, label=label)
            axis.set_xlabel("step")
            axis.set_title(title, fontsize=10)
        axes[-1].legend(frameon=False, fontsize=8)
        _save(path)


def _line(axis: Axes, run: pd.DataFrame, name: str, method: str, place: int) -> None:
    axis.plot(run["step"], run[name], color=COLORS[place % len(COLORS)], ls=("-", "--", ":", "-.")[place % 4], label=method)


def enlarge_views(source: Path, path: Path, width: int = 768) -> None:
    """The picture of views that a run left, enlarged without smoothing to about `width` px."""
    with Image.open(source) as image:
        factor = max(1, round(width / image.width))
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(path)


def _save(path: Path) -> None:
    plt.savefig(path, metadata={"Software": None})
    plt.close()
